"""`poco/Cube-v0` keeps gymnasium's rules and places cubes with the hand that the robot has."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from poco.errors import UsageError
from poco.hw.emulator.tasks.cube import GUARDS
from poco.hw.emulator.tasks.cube_environment import HAND, CubeEnvironment
from poco.records import Step
from poco.settings import read_settings
from programs import ROOT


def placed(environment: CubeEnvironment, seed: int, noise: float = 0.0) -> tuple[str, list[Step]]:
    """Let the operator place the cube of `seed`; return the outcome and the steps."""
    operator = environment.operator(noise, seed=3)
    observation, _ = environment.reset(seed=seed)
    steps: list[Step] = []
    while True:
        observation, _, terminated, truncated, info = environment.step(operator(observation))
        steps += info["steps"]
        if terminated or truncated:
            return info["outcome"], steps


def test_gymnasium_finds_and_accepts_it() -> None:
    """gymnasium makes the environment by its name and its checker has no complaint."""
    made = gymnasium.make("poco.hw.emulator.tasks:poco/Cube-v0")
    check_env(made.unwrapped, skip_render_check=True)
    assert made.action_space.shape == (8, 5)


def test_the_operator_places_cubes_anywhere() -> None:
    """Ten of ten cubes end on their square; each was grasped, which its width tells, carried and let go."""
    environment = CubeEnvironment()
    for seed in range(10):
        outcome, steps = placed(environment, seed)
        assert outcome == "success"
        widths_m = 0.04 * (1.0 + np.array([step.observation[-1] for step in steps]))
        assert widths_m[0] == pytest.approx(0.08, abs=1e-3)
        assert np.abs(widths_m - 0.04).min() < 0.002
        assert steps[-1].reward == 1.0


def test_the_same_seed_is_the_same_episode() -> None:
    """Bit for bit, in a new environment and in one that has just held another cube."""
    environment = CubeEnvironment()
    first = placed(environment, 7, noise=0.3)
    assert placed(environment, 8, noise=0.3)[1] != first[1]
    for again in (environment, CubeEnvironment()):
        assert placed(again, 7, noise=0.3) == first


def test_fingers_that_are_never_told_to_close_hold_nothing() -> None:
    """With every width wide open the operator's way leads nowhere."""
    environment = CubeEnvironment(episode_steps=60)
    operator = environment.operator()
    observation, _ = environment.reset(seed=0)
    truncated = terminated = False
    while not (terminated or truncated):
        chunk = operator(observation)
        chunk[:, -1] = 1.0
        observation, _, terminated, truncated, info = environment.step(chunk)
    assert info["outcome"] == "truncated"
    assert observation[-1] == pytest.approx(1.0, abs=0.02)


def test_hand_and_guards_are_those_of_the_settings_file() -> None:
    """The robot's settings say what the environment assumes."""
    settings = read_settings(ROOT / "configs" / "fr3_peg_in_hole.yaml", {})
    assert settings.gripper == HAND
    assert settings.guards.guards() == GUARDS


@pytest.mark.parametrize(("noise", "bias"), [(1.5, 0.0), (0.1, 0.002)])
def test_wrong_operators_are_refused(noise: float, bias: float) -> None:
    """A hand that trembles too much, or misjudges what this one does not."""
    with pytest.raises(UsageError, match="operator"):
        CubeEnvironment().operator(noise, bias)
