"""OGBench's tasks keep gymnasium's rules and poco's records, with the physics, rewards and endings of the package itself."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import poco
from poco.errors import ArtifactError, UsageError
from poco.learner import rollouts
from poco.learner.data_commands import make_data
from poco.learner.demonstrations import read_demonstrations
from poco.learner.tasks.ogbench_environment import OGBenchEnvironment, make_scene
from poco.learner.tasks.ogbench_scenes import SCENES, scene_specification
from poco.observation import check_sources
from poco.specification import unscale

OBSERVATIONS = {"cube-single": 28, "cube-double": 37, "cube-triple": 46, "scene": 40, "puzzle-3x3": 55}


def environment(scene: str = "cube-single", **parameters: object) -> OGBenchEnvironment:
    return OGBenchEnvironment(scene, 2, **parameters)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def cube() -> OGBenchEnvironment:
    return environment(episode_steps=12)


def test_gymnasium_accepts_it(cube: OGBenchEnvironment) -> None:
    """Gymnasium's own checker finds spaces, seeding and return values in order."""
    check_env(cube, skip_render_check=True)


@pytest.mark.parametrize("scene", SCENES)
def test_a_chunk_is_what_the_package_does_step_by_step(scene: str) -> None:
    """Every scene: same observations (scaled), rewards and time limit as the package's environment fed with the same actions."""
    ours = environment(scene, episode_steps=7)
    theirs = make_scene(f"{scene}-singletask-task2-v0", max_episode_steps=7)
    specification = ours.specification
    assert specification.observation_size == OBSERVATIONS[scene]
    actions = np.random.default_rng(1).uniform(-1, 1, (2, 5, 5)).astype(np.float32)
    ours.reset(seed=3)
    raw, _ = theirs.reset(seed=3)
    steps = []
    for chunk, ends in zip(actions, (False, True), strict=True):
        _, reward, terminated, truncated, info = ours.step(chunk)
        assert (terminated, truncated, info["outcome"]) == (False, ends, "truncated" if ends else "running")
        assert reward == sum(step.reward for step in info["steps"])
        steps += info["steps"]
    assert ([step.key.step for step in steps], [step.chunk_id for step in steps]) == (list(range(7)), [1] * 5 + [2] * 2)
    for step, action in zip(steps, actions.reshape(10, 5), strict=False):
        np.testing.assert_allclose(unscale(specification.observation, step.observation), raw, atol=2e-6)
        np.testing.assert_array_equal(step.action_policy, action)
        raw, published, _, _, _ = theirs.step(action.astype(np.float64))
        assert step.reward == published
        assert step.reward <= 0.0
    np.testing.assert_allclose(unscale(specification.observation, info["end"].final_observation), raw, atol=2e-6)
    assert info["clipped"] == 0
    assert (info["end"].outcome, info["end"].terminated, info["end"].truncated) == ("failure", False, True)


def test_the_operator_ends_an_episode_inside_a_chunk() -> None:
    """Success terminates; published rewards are -1 until the state of the last step, those of kind "success" are 0 and 1."""
    last = []
    for reward in ("published", "success"):
        scene = environment(reward=reward)
        (rolled,) = rollouts.roll(scene, rollouts.operator_actor(scene, 0.1, 0.004, 5), range(1), 8)
        assert rolled.success
        assert (rolled.end.terminated, rolled.end.episode, rolled.end.tick) == (True, 8, 50 * len(rolled.steps))
        rewards = [step.reward for step in rolled.steps]
        assert set(rewards[:-1]) == {-1.0 if reward == "published" else 0.0}
        last.append((rewards[-1], len(rewards)))
        whole = np.zeros((5, 5), np.float32)
        scene.reset(seed=8)
        actions = np.array([step.action_policy for step in rolled.steps], np.float32)
        for first in range(0, len(actions), 5):
            chunk = np.concatenate([actions[first : first + 5], whole])[:5]
            _, _, terminated, _, info = scene.step(chunk)
        assert terminated
        assert len(info["steps"]) == len(actions) - first
        assert info["end"].final_observation == rolled.end.final_observation
    assert [value for value, _ in last] == [0.0, 1.0]
    assert last[0][1] == last[1][1]


def test_clipping_is_counted(cube: OGBenchEnvironment) -> None:
    """A cube thrown beyond the bounds is reported at the bound, and counted."""
    cube.reset(seed=0)
    model = cube._scene.unwrapped
    model.data.joint("object_joint_0").qpos[:3] = (2.0, 0.0, 0.02)  # type: ignore[attr-defined]
    _, _, _, _, info = cube.step(np.zeros((1, 5), np.float32))
    assert info["clipped"] == 1
    assert cube.reset(seed=0)[0].max() <= 1.0


def test_wrong_requests_are_one_sentence(cube: OGBenchEnvironment) -> None:
    """Unknown scene, reward and limit, chunks of another shape, a step before reset, an operator without a plan, a real arm."""
    with pytest.raises(UsageError, match="did you mean cube-single"):
        environment("cube-singel")
    with pytest.raises(UsageError, match="published or success"):
        environment(reward="dense")
    with pytest.raises(UsageError, match="episode_steps is 0"):
        environment(episode_steps=0)
    with pytest.raises(UsageError, match="call reset first"):
        environment().step(np.zeros((5, 5), np.float32))
    cube.reset(seed=0)
    for shape in ((5, 4), (6, 5), (0, 5), (5,)):
        with pytest.raises(UsageError, match="the chunk has shape"):
            cube.step(np.zeros(shape, np.float32))
    for noise, bias in ((1.5, 0.0), (0.1, 0.5)):
        with pytest.raises(UsageError, match="operator"):
            cube.operator(noise, bias)
    with pytest.raises(UsageError, match="cube scenes only"):
        environment("puzzle-3x3").operator()
    with pytest.raises(ArtifactError, match="does not drive"):
        check_sources(scene_specification("scene", 5))


def test_demonstrations_are_recorded_and_resumed(tmp_path: Path) -> None:
    """make-data for a recipe, 2 episodes at once, equals 1 and then the other; --variant is refused, since the task has none."""
    recipe = Path(poco.__file__).parent / "configs" / "cpu" / "cube_single.yaml"
    make_data(tmp_path / "whole", episodes=2, noise=0.2, config=recipe)
    make_data(tmp_path / "parts", episodes=1, noise=0.2, config=recipe)
    with pytest.raises(UsageError, match="--resume"):
        make_data(tmp_path / "parts", episodes=2, noise=0.2, config=recipe)
    make_data(tmp_path / "parts", episodes=2, noise=0.2, config=recipe, resume=True)
    whole, parts = (read_demonstrations(tmp_path / name) for name in ("whole", "parts"))
    assert [episode.rewards[-1] for episode in whole.episodes] == [1.0, 1.0]
    for one, other in zip(whole.episodes, parts.episodes, strict=True):
        assert np.array_equal(one.observations, other.observations)
        assert np.array_equal(one.actions_policy, other.actions_policy)
    with pytest.raises(UsageError, match="holds episode 0, which a run with --seed 5 does not record"):
        make_data(tmp_path / "parts", episodes=2, noise=0.2, config=recipe, seed=5, resume=True)
    assert whole.specification == environment(reward="success").specification != environment().specification
    with pytest.raises(UsageError, match="cannot be made"):
        make_data(tmp_path / "variant", variant="hard", task="poco.learner.tasks:poco/cube-single-task2-v0")


def test_every_task_is_registered() -> None:
    """Five tasks of five scenes can be made by name."""
    import poco.learner.tasks

    poco.learner.tasks.register()
    names = [name for name in gymnasium.registry if name.startswith("poco/") and "-task" in name]
    assert len(names) == 25
