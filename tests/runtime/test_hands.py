"""What a hand does becomes actions of the task: in its directions, sizes and action space, fading after what is executed."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from poco.chunks import ChunkSequence
from poco.errors import UsageError
from poco.hw.devices.device import Device, Reading
from poco.hw.emulator.tasks.peg_in_hole import GUARDS, PegInHole, parameters
from poco.hw.emulator.tasks.plant import SimulatedPlant
from poco.kinematics import forward
from poco.limits import PLANNING_MARGINS, POSITION_MAX_RAD, POSITION_MIN_RAD, STEP_MARGINS, fr3_limits
from poco.rollout import Rollout
from poco.runtime.actors import ChunkFigures, Moment
from poco.runtime.hand_chunks import FADING, FULL, HandChunks
from poco.runtime.hands import HandsActor, moves
from poco.runtime.person import Person
from poco.runtime.run_options import OPERATOR_SPECIFICATION, HandsOptions
from poco.specification import Field, Specification, read_specification, unscale

TIP = read_specification(OPERATOR_SPECIFICATION)
LIMITS = fr3_limits(PLANNING_MARGINS, GUARDS, TIP.tip)
PERIODS = 12


def joints() -> Specification:
    """The same task with joint positions as its actions."""
    low, high = (tuple(limit.tolist()) for limit in (POSITION_MIN_RAD, POSITION_MAX_RAD))
    action = (Field(name="joints", source="joint_position", frame="joint", unit="rad", low=low, high=high),)
    return msgspec.structs.replace(TIP, action_space="joint_position", delta_base="none", action=action)


def test_a_chunk_of_tip_deltas() -> None:
    """Deflection times gain in the executed actions, then it fades and rests."""
    chunk = HandChunks(TIP, LIMITS, 0.5, 2).make(np.array([1.0, -0.5, 0.0, 0.2]), np.zeros(7), follows=False)
    shares = [1.0, 1.0, *FADING, 0.0, 0.0, 0.0]
    np.testing.assert_allclose(chunk, np.outer(shares, [0.5, -0.25, 0.0, 0.1]), atol=1e-7)


def test_bounds_that_are_not_even() -> None:
    """Full deflection to either side is the largest action to that side."""
    low, high = (-0.002, -0.005, -0.005), (0.004, 0.005, 0.005)
    action = (msgspec.structs.replace(TIP.action[0], low=low, high=high), TIP.action[1])
    chunks = HandChunks(msgspec.structs.replace(TIP, action=action), LIMITS, 1.0, 2)
    made = [chunks.make(np.array([sign, 0.0, 0.0, 0.0]), np.zeros(7), follows=False)[0] for sign in (1.0, -1.0, 0.0)]
    np.testing.assert_allclose(unscale(action, np.array(made))[:, 0], [0.004, -0.002, 0.0], atol=1e-9)


class Steady(Device):
    """Hands that deflect the same axis all the time."""

    def read(self) -> Reading:
        """Look at them."""
        return Reading(np.array([0.0, 0.5, 0.5, 0.0]))


def moved(specification: Specification) -> npt.NDArray[np.float64]:
    """Hold a steady deflection for some periods on the arm; return by how much the commanded tip has moved [3] (m)."""
    plant = SimulatedPlant(PegInHole(parameters("easy")), fr3_limits(STEP_MARGINS, GUARDS, TIP.tip))
    plant.reset(np.array(TIP.rest_q))
    actor = HandsActor(specification, LIMITS, HandsOptions(device="keyboard"), 0, Person(list))
    actor.device = Steady()
    sequence = ChunkSequence(specification, LIMITS)
    rollout = Rollout(plant, sequence, robot="arm", boot_epoch=1, episode=0, episode_steps=PERIODS)
    observation, chunk, outcome = rollout.begin(0), 0, "running"
    start = forward(rollout.state["q_c"], TIP.tip)[0].copy()
    while outcome == "running":
        actions = actor.choose(Moment(0, chunk, observation, rollout.state, rollout.signal))
        sequence.execute_steps, sequence.human = actor.execute_steps, actor.human
        transition = rollout.step(actions)
        actor.chunk(ChunkFigures(False, False, False, transition.interrupted))
        observation, outcome, chunk = transition.observation, transition.outcome, chunk + 1
    return np.asarray(forward(rollout.state["q_c"], TIP.tip)[0] - start)


def test_both_action_spaces_move_the_tip_alike() -> None:
    """As tip deltas and as joint positions the same deflection moves the tip the same way at the same speed."""
    delta, joint = moved(TIP), moved(joints())
    np.testing.assert_allclose(joint, delta, atol=2e-4)
    expected_m = 0.5 * FULL[1] * TIP.period_ticks * 1e-3 * (PERIODS - TIP.delay_steps)
    np.testing.assert_allclose(delta, [0.0, expected_m, expected_m], atol=2e-3)


def test_scripted_hands_know_tip_deltas_only() -> None:
    """The scripted operator refuses another action space in one sentence."""
    with pytest.raises(UsageError, match="scripted hands make tip deltas"):
        HandsActor(joints(), LIMITS, HandsOptions(device="scripted"), 0, Person(list))


class Tap(Device):
    """A single press of a key."""

    def __init__(self) -> None:
        self._deflections = iter([0.5])

    def read(self) -> Reading:
        """Look at it."""
        return Reading(np.array([next(self._deflections, 0.0), 0.0, 0.0, 0.0]))


def test_the_press_that_begins_an_episode_moves_the_arm() -> None:
    """It is read while the start of the episode is waited for, counts in the first chunk, and only there."""
    plant = SimulatedPlant(PegInHole(parameters("easy")), fr3_limits(STEP_MARGINS, GUARDS, TIP.tip))
    plant.reset(np.array(TIP.rest_q))
    actor = HandsActor(TIP, LIMITS, HandsOptions(device="keyboard"), 0, Person(list))
    rollout = Rollout(plant, ChunkSequence(TIP, LIMITS), robot="arm", boot_epoch=1, episode=0, episode_steps=PERIODS)
    observation = rollout.begin(0)
    moments = [Moment(0, chunk, observation, rollout.state, rollout.signal) for chunk in (0, 1)]
    actor.device = Tap()
    assert moves(actor.look(moments[0]))
    first, second = (np.asarray(actor.choose(moment)) for moment in moments)
    np.testing.assert_allclose(first[0], [0.5, 0.0, 0.0, 0.0], atol=1e-7)
    np.testing.assert_array_equal(second[:, 1:], 0.0)
    assert abs(second[0, 0]) < abs(first[0, 0])
    np.testing.assert_array_equal(actor.choose(moments[0]), 0.0)
