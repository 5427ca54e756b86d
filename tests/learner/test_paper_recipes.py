"""Every recipe of the paper reads its task's data, updates and resumes; RoboMimic's only offline, on a file made here."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import torch

import poco
from poco.learner import rollouts
from poco.learner.data_commands import import_data, make_data
from poco.learner.demonstrations import read_demonstrations
from poco.learner.learning import Run
from poco.learner.recipe import TrainingSettings, read_training_settings
from poco.learner.training import Learner
from recorded import write_robomimic

RECIPES = Path(poco.__file__).parent / "configs" / "paper"
OGBENCH = ("scene", "puzzle_3x3", "cube_double", "cube_triple")
ROBOMIMIC = ("lift", "can", "square")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def small(settings: TrainingSettings) -> TrainingSettings:
    agent = msgspec.structs.replace(settings.agent, candidates=4)
    return msgspec.structs.replace(settings, batch=8, agent=agent)


def run_of(name: str, settings: TrainingSettings, folder: Path) -> Run:
    """A run of the recipe `name` that learns from its first step on, with data of its task."""
    if name in OGBENCH:
        make_data(folder / "data", episodes=1, noise=0.1, config=RECIPES / f"{name}.yaml", play_steps=20)
    else:
        write_robomimic(folder / "made.hdf5", demonstrations=3)
        import_data(folder / "made.hdf5", "robomimic", folder / "data")
    demonstrations = read_demonstrations(folder / "data").episodes
    settings = msgspec.structs.replace(
        settings, warm_up_steps=0, evaluation_interval_steps=0, checkpoint_interval=1, replay_bytes=500_000
    )
    return Run(settings, 0, folder / "run", demonstrations)


def check(figures: dict[str, float]) -> None:
    assert figures
    assert all(math.isfinite(value) for value in figures.values())


def take_updates(name: str, settings: TrainingSettings, folder: Path, updates: int) -> None:
    """Take `updates`, half of them by a run that is then resumed; OGBench's come from acting, RoboMimic's from the data alone."""
    run, half = run_of(name, settings, folder), updates // 2
    if name in OGBENCH:
        run = Run(msgspec.structs.replace(run.settings, episodes=1), 0, run.out, run.demonstrations)
        environment = rollouts.make_environment(settings.task, **settings.environment, episode_steps=half)
    else:
        stand_in: Any = SimpleNamespace(unwrapped=SimpleNamespace(specification=run.demonstrations[0].specification))
        environment = stand_in
    learner = Learner(run, environment)
    before = {key: value.clone() for key, value in learner.policy.state_dict().items()}
    for _ in range(2):
        if name in OGBENCH:
            for figures in learner.episodes():
                check(figures.diagnostics)
        else:
            for _ in range(half):
                check(learner.update("learning"))
            learner.checkpoint()
        stopped = {key: value.clone() for key, value in learner.policy.state_dict().items()}
        assert not all(torch.equal(value, before[key]) for key, value in stopped.items())
        run = Run(
            msgspec.structs.replace(run.settings, episodes=2 if name in OGBENCH else run.settings.episodes), 0, run.out
        )
        before, learner = stopped, Learner(run, environment, resume=True)
        assert all(torch.equal(value, learner.policy.state_dict()[key]) for key, value in stopped.items())
    assert (learner.progress.updates, learner.progress.refused) == (updates, 0)


@pytest.mark.parametrize("name", OGBENCH + ROBOMIMIC)
def test_ten_updates_with_a_resume_in_the_middle(name: str, tmp_path: Path) -> None:
    """Batch 8 with 4 candidates, networks of full width: the actor changes, is resumed as it was, and nothing is refused."""
    take_updates(name, small(read_training_settings(RECIPES / f"{name}.yaml")), tmp_path, 10)


@pytest.mark.proof
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", OGBENCH + ROBOMIMIC)
def test_thirty_updates_at_full_size(name: str, tmp_path: Path) -> None:
    """The recipe as it is: batch 256 with 32 candidates."""
    take_updates(name, read_training_settings(RECIPES / f"{name}.yaml"), tmp_path, 30)


PUBLISHED = {
    "scene": ("scene-task1-v0", 0.001, 0.15, 500_000, 10_000),
    "puzzle_3x3": ("puzzle-3x3-task1-v0", 0.001, 0.15, 500_000, 10_000),
    "cube_double": ("cube-double-task2-v0", 0.1, 0.3, 1_000_000, 10_000),
    "cube_triple": ("cube-triple-task2-v0", 0.1, 0.3, 1_000_000, 10_000),
    "lift": ("lift-v0", 0.001, 0.15, 200_000, 50_000),
    "can": ("can-v0", 0.001, 0.3, 1_000_000, 50_000),
    "square": ("square-v0", 0.001, 0.08, 1_000_000, 50_000),
}
"""Task, eta, zeta, control steps and those between evaluations; the tasks of cubes, and the steps of cubes and lift, are ours."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_task_has_its_own_constants(name: str) -> None:
    """Those that the paper and its code give for the task, and nothing of what is told otherwise for a CPU."""
    recipe = read_training_settings(RECIPES / f"{name}.yaml")
    task, *constants = PUBLISHED[name]
    assert recipe.task.rpartition("/")[2] == task
    assert [recipe.agent.eta, recipe.agent.zeta, recipe.steps, recipe.evaluation_interval_steps] == constants
    assert (recipe.evaluation_interval, recipe.evaluation_episodes, recipe.agent.method) == (0, 50, "poco")
    assert (recipe.windows, recipe.agent.posterior_states, recipe.agent.weightless) == ("all", 0, 0.0)
    assert (recipe.agent.time_limit, recipe.agent.endings, recipe.agent.critic_heads) == ("bootstrap", "left_out", 2)
    assert recipe.agent.actor_learning_rate == recipe.agent.critic_learning_rate == 3e-4


def test_every_recipe_is_the_papers() -> None:
    """What all seven share is what was published; none is left out."""
    assert {path.stem for path in RECIPES.glob("*.yaml")} == {*OGBENCH, *ROBOMIMIC, "vla"}
    for name in OGBENCH + ROBOMIMIC:
        recipe = read_training_settings(RECIPES / f"{name}.yaml")
        agent = recipe.agent
        assert (recipe.batch, recipe.updates_per_step, recipe.warm_up, recipe.warm_up_steps) == (
            256,
            1.0,
            "frozen",
            5000,
        )
        assert (agent.candidates, agent.beta, agent.discount, agent.target_rate) == (32, 1.0, 0.99, 0.005)
        assert (agent.aggregate, agent.anchor, agent.critic_loss, agent.step_cost) == ("mean", "all", "mse", 0.01)
        assert recipe.actor_hidden_sizes == agent.critic_hidden_sizes == (512,) * 4


def test_the_recipe_for_a_vla_is_the_papers() -> None:
    """Batch, candidates, clip, temperature, learning rates and warm-up are those published for such policies."""
    recipe = read_training_settings(RECIPES / "vla.yaml")
    agent = recipe.agent
    assert (recipe.batch, recipe.warm_up, recipe.warm_up_steps, agent.candidates) == (64, "frozen", 2000, 16)
    assert (agent.zeta, agent.beta, agent.eta) == (0.01, 1.0, 0.001)
    assert (agent.actor_learning_rate, agent.critic_learning_rate) == (5e-5, 3e-4)


def test_recipes_for_a_cpu_name_tasks_that_exist() -> None:
    """Each of configs/cpu reads, and its environment can be made as it says."""
    recipes = sorted((RECIPES.parent / "cpu").glob("*.yaml"))
    assert len(recipes) >= 4
    for path in recipes:
        settings = read_training_settings(path)
        rollouts.make_environment(settings.task, **settings.environment).close()
