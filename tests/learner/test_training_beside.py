"""Acting beside the learning keeps the update-to-data ratio, loses no admitted episode, and leaves a run like any other."""

from __future__ import annotations

import itertools
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
import yaml

from poco.learner.environment_pool import EnvironmentPool
from poco.learner.environments import environment_processes
from poco.learner.learning import Run
from poco.learner.metrics import read_figures
from poco.learner.replay import Replay
from poco.learner.rollouts import make_environment
from poco.learner.training import Learner
from poco.learner.training_beside import learn_beside
from poco.learner.training_commands import evaluate, train
from reach_task import SPECIFICATION
from recipes import reach_recipe

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def tests_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers find the reach task."""
    monkeypatch.setenv("PYTHONPATH", str(TESTS))


def test_episodes_admitted_before_a_kill_are_kept(tmp_path: Path) -> None:
    """Dropped without a last checkpoint, the run goes on with every episode of the replay, and pays all the updates owed."""
    settings = reach_recipe(episodes=16, checkpoint_interval=5, evaluation_interval=0, updates_per_step=0.7)
    run = Run(settings, 2, tmp_path / "run", beside=True)
    environment = make_environment(settings.task)
    learner = Learner(run, environment)
    with environment_processes(2, settings.task, {}, tmp_path / "workers", None) as processes:
        pool = EnvironmentPool(processes, lambda: learner.actor(1, run.seed), learner.first_seed)
        before = list(itertools.islice(learn_beside(learner, pool), 8))
    assert [figures.episode for figures in before] == list(range(1, 9))
    admitted = [one.episode for one in learner.replay.after(0)]
    assert len(admitted) == 8

    resumed = Learner(run, environment, resume=True)
    assert resumed.progress.episodes == 8
    assert resumed.progress.steps == before[-1].steps
    assert resumed.progress.begun >= 8
    with environment_processes(2, settings.task, {}, tmp_path / "workers", None) as processes:
        pool = EnvironmentPool(processes, lambda: resumed.actor(1, run.seed), resumed.first_seed)
        figures = [*read_figures(run.out), *learn_beside(resumed, pool)]
    assert [one.episode for one in figures] == list(range(1, 17))
    assert figures == read_figures(run.out)
    assert [one.success for one in figures[:8]] == [one.success for one in before]
    after = resumed.replay.after(0)
    assert [one.episode for one in after[:8]] == admitted
    assert len({one.episode for one in after}) == len(after) == 16
    assert resumed.progress.steps == sum(one.steps for one in after) == len(resumed.replay)
    assert resumed.progress.updates == int(0.7 * resumed.progress.steps)
    owed = np.diff([0.7 * one.steps - one.updates for one in figures])
    assert np.abs(owed).max() <= 3 * 0.7 * 15


def test_a_checkpoint_never_precedes_what_it_counts(tmp_path: Path) -> None:
    """Killed again after it had to go back to an earlier checkpoint, the run still counts every episode of the replay."""
    settings = reach_recipe(episodes=16, checkpoint_interval=5, evaluation_interval=0)
    run = Run(settings, 2, tmp_path / "run", beside=True)
    environment = make_environment(settings.task)
    learner = Learner(run, environment)
    with environment_processes(1, settings.task, {}, tmp_path / "workers", None) as processes:
        pool = EnvironmentPool(processes, lambda: learner.actor(1, run.seed), learner.first_seed)
        before = list(itertools.islice(learn_beside(learner, pool), 12))
    (run.out / "states" / "00000010.safetensors").unlink()
    for _ in range(2):
        resumed = Learner(run, environment, resume=True)
        assert (resumed.progress.episodes, resumed.progress.steps) == (12, before[-1].steps)
        assert resumed.progress.begun >= 12
    assert len(read_figures(run.out)) == 12


def test_commands_use_workers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`train --workers` and `evaluate --workers` end well; the measured success does not depend on the workers."""
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "out"
    recipe.write_text(yaml.safe_dump(msgspec.to_builtins(reach_recipe(episodes=4))))
    train(out, recipe, workers=2, tensorboard=True)
    assert Replay.open(out / "replay", SPECIFICATION).episodes == 4
    assert [file.stat().st_size > 1000 for file in (out / "tensorboard").iterdir()] == [True]
    assert {file.name for file in (out / "workers").iterdir()} == {"1.log", "2.log"}
    evaluate(out, episodes=6, workers=3)
    evaluate(out, episodes=6)
    *_, several, one = [msgspec.json.decode(line) for line in capsys.readouterr().out.splitlines() if line[0] == "{"]
    assert several == one
    assert one["episodes"] == 6
