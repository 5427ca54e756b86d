"""The actions that would have led an arm where a hand led it, in both action spaces; a policy is cloned from led data."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from poco.episodes import write_episode
from poco.learner.cloning import CloningSettings, clone
from poco.learner.demonstrations import read_demonstrations
from poco.limits import POSITION_MAX_RAD, POSITION_MIN_RAD
from poco.observation import tip_pose
from poco.records import EpisodeEnd, Step, StepKey
from poco.runtime.led_actions import LedActions
from poco.runtime.run_options import CUBE_SPECIFICATION, OPERATOR_SPECIFICATION
from poco.specification import Field, Specification, read_specification, unscale

Floats = npt.NDArray[np.float64]

DELTAS = read_specification(OPERATOR_SPECIFICATION)
CUBE = read_specification(CUBE_SPECIFICATION)
REST_Q = np.array(DELTAS.rest_q)


def by_joints(specification: Specification) -> Specification:
    """The same task whose actions are joint positions, over the whole range of the arm."""
    low, high = tuple(POSITION_MIN_RAD.tolist()), tuple(POSITION_MAX_RAD.tolist())
    joints = Field(name="joints", source="joint_position", frame="base", unit="rad", low=low, high=high)
    action = (joints, *specification.action[len(specification.arm_action) :])
    return msgspec.structs.replace(
        specification, action_space="joint_position", delta_base="none", action=action, name="led"
    )


def led(seed: int, periods: int, rest_periods: int = 0) -> Floats:
    """Where a hand led the joints, period after period [n, 7], quicker than tip deltas go, and then where it rested."""
    pushes = np.random.default_rng(seed).normal(0.0, 0.01, (periods, 7)) + 0.004 * np.sin(np.arange(7))
    way = REST_Q + np.cumsum(pushes * (1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0), axis=0)
    return np.concatenate([way, np.repeat(way[-1:], rest_periods, axis=0)])


def test_joint_positions_are_those_of_the_arm() -> None:
    """Every action is where the arm was at the end of its period, in action units; a gripper's width is not the arm's."""
    for specification in (by_joints(DELTAS), by_joints(CUBE)):
        actions, way = LedActions(specification, REST_Q), led(0, 30)
        asked = np.array([actions.next(q) for q in way])
        assert np.abs(asked).max() < 1.0
        np.testing.assert_allclose(unscale(specification.arm_action, asked), way, atol=1e-12)


def test_tip_deltas_catch_up() -> None:
    """None is larger than an action may be, and added up they end where the tip was left, however quickly it was led there."""
    for seed in range(5):
        actions, way = LedActions(DELTAS, REST_Q), led(seed, 40, rest_periods=60)
        asked = np.array([actions.next(q) for q in way])
        assert np.abs(asked).max() == 1.0
        begin, end = (np.append(*tip_pose(q, DELTAS.tip)) for q in (REST_Q, way[-1]))
        np.testing.assert_allclose(unscale(DELTAS.action, asked).sum(axis=0), end - begin, atol=1e-9)


def test_it_has_moved_when_the_tip_has() -> None:
    """Far enough or turned enough, each for itself; by where the actions have led so far."""
    actions = LedActions(DELTAS, REST_Q)
    turned, nudged = REST_Q + 0.03 * np.eye(7)[6], REST_Q + 0.01 * np.eye(7)[3]
    assert not actions.moved(REST_Q, 0.002, 0.02)
    assert actions.moved(turned, 0.002, 0.02)
    assert not actions.moved(turned, 0.002, 0.05)
    assert actions.moved(nudged, 0.002, 0.02)
    for _ in range(20):
        actions.next(nudged)
    assert not actions.moved(nudged, 0.002, 0.02)


def test_a_policy_is_cloned_from_led_data(tmp_path: Path) -> None:
    """Led joint positions are windows like any others: the loss falls, and what is beyond an episode's end stands still."""
    specification = by_joints(DELTAS)
    for number in range(4):
        actions, way = LedActions(specification, REST_Q), led(number, 30)
        asked = [actions.next(q).tolist() for q in way]
        steps = [
            Step(
                key=StepKey("arm", 1, number, step),
                tick=50 * step,
                generation=0,
                chunk_id=0,
                observation=[*action, *[0.0] * (specification.observation_size - 7)],
                action_policy=action,
                action_executed=action,
                reward=float(step == len(asked) - 1),
                intervened=True,
            )
            for step, action in enumerate(asked)
        ]
        end = EpisodeEnd(
            robot="arm",
            boot_epoch=1,
            episode=number,
            tick=50 * len(steps),
            final_observation=steps[-1].observation,
            outcome="success",
            terminated=True,
            truncated=False,
            labels={"demonstration": "guiding"},
        )
        write_episode(tmp_path / f"{number}.safetensors", specification, steps, end)
    settings = CloningSettings(steps=80, validation_interval=20, batch=64, learning_rate=3e-3, hidden_sizes=(32, 32))
    cloned = clone(read_demonstrations(tmp_path), settings)
    assert cloned.curve[-1].validation < 0.95 * cloned.curve[0].validation
    observation, noise = torch.zeros(1, specification.observation_size), torch.zeros(1, specification.chunk_steps, 7)
    assert cloned.policy(observation, noise).shape == (1, specification.chunk_steps, 7)
