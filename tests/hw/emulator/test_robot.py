"""The emulated robot's rules in robot time, without a network."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from poco.hw.emulator.arm import SimulatedArm
from poco.hw.emulator.model import READY_RAD, fr3_mjcf
from poco.hw.emulator.protocol import COMMAND, STATE, Error, MoveStatus, RobotMode
from poco.hw.emulator.robot import EmulatedRobot
from poco.hw.emulator.state_datagram import StateDatagram


@pytest.fixture
def robot() -> EmulatedRobot:
    return EmulatedRobot(SimulatedArm.from_mjcf(fr3_mjcf()), recovery_delay_ticks=30, start_grace_ticks=2)


def command(tick: int, q: npt.NDArray[np.float64] = READY_RAD) -> npt.NDArray[np.void]:
    record = np.zeros((), COMMAND)
    record["message_id"] = tick
    record["q_c"] = q
    return record


def run(robot: EmulatedRobot, ticks: int) -> None:
    for _ in range(ticks):
        robot.receive(command(robot.tick))
        robot.advance()


def mode(robot: EmulatedRobot) -> RobotMode:
    return robot.mode


def begin(robot: EmulatedRobot) -> None:
    robot.begin_motion()
    robot.advance()
    run(robot, 10)


def test_only_the_answer_to_the_newest_state_counts(robot: EmulatedRobot) -> None:
    """Answers to older states are counted as late, non-finite ones as invalid; neither moves the arm."""
    begin(robot)
    robot.receive(command(robot.tick - 1, READY_RAD + 1.0))
    robot.receive(command(robot.tick, np.full(7, np.nan)))
    assert not robot.answered
    assert (robot.counts.late, robot.counts.invalid) == (1, 1)
    robot.advance()
    assert np.array_equal(robot.motion.q, READY_RAD)
    assert robot.counts.lost == 1


def test_nineteen_lost_commands_are_forgiven_and_twenty_are_not(robot: EmulatedRobot) -> None:
    """The count is of losses in a row; the reflex aborts the motion and recovery takes its delay."""
    begin(robot)
    for _ in range(19):
        robot.advance()
    run(robot, 1)
    assert robot.moving
    for _ in range(20):
        robot.advance()
    assert mode(robot) is RobotMode.REFLEX
    assert robot.ended is MoveStatus.REFLEX_ABORTED
    assert robot.errors[Error.COMMUNICATION_CONSTRAINTS] == robot.reflex_reason[Error.COMMUNICATION_CONSTRAINTS] == 1
    assert robot.recover()
    ticks = 0
    while mode(robot) is RobotMode.AUTOMATIC_RECOVERY:
        robot.advance()
        ticks += 1
    assert ticks == 30
    assert mode(robot) is RobotMode.IDLE
    assert not robot.errors.any()
    assert robot.reflex_reason.any(), "the reason stays until the next motion"
    robot.begin_motion()
    assert not robot.reflex_reason.any()


def test_success_rate_is_the_share_of_the_last_hundred_ticks(robot: EmulatedRobot) -> None:
    """Four losses among a hundred commands show as 0.96; an idle robot shows 0."""
    assert robot.success_rate == 0.0
    begin(robot)
    run(robot, 100)
    assert robot.success_rate == 1.0
    for _ in range(4):
        robot.advance()
        run(robot, 9)
    assert robot.success_rate == pytest.approx(0.96)


def test_motions_start_at_whole_multiples(robot: EmulatedRobot) -> None:
    """However long the preparations took, the first state of a motion carries the next whole multiple."""
    starts = []
    for preparation in (3, 700):
        other = EmulatedRobot(robot.arm, start_multiple_ticks=1000)
        for _ in range(preparation):
            other.advance()
        other.begin_motion()
        other.advance()
        assert other.first_state_of_motion
        starts.append(other.tick)
    assert starts == [1000, 1000]


def test_state_datagram_shows_what_the_robot_does(robot: EmulatedRobot) -> None:
    """Modes, set-points, poses, gravity vector and masses are in the packet, which is 1377 bytes."""
    datagram = StateDatagram(robot)
    begin(robot)
    datagram.update()
    assert len(datagram.bytes) == 1377
    state = np.frombuffer(datagram.bytes, STATE)[0]
    assert int(state["message_id"]) == robot.tick
    assert (state["robot_mode"], state["motion_generator_mode"], state["controller_mode"]) == (2, 1, 0)
    np.testing.assert_allclose(state["q_d"], READY_RAD, atol=1e-6)
    np.testing.assert_allclose(state["O_ddP_O"], (0, 0, -9.81), atol=1e-6)
    for pose in ("O_T_EE", "O_T_EE_d", "O_T_EE_c"):
        np.testing.assert_allclose(state[pose].reshape(4, 4).T, robot.arm.O_T_EE, atol=1e-6)
    assert state["m_ee"] == pytest.approx(0.73)
    robot.preempt()
    datagram.update()
    state = np.frombuffer(datagram.bytes, STATE)[0]
    assert (state["robot_mode"], state["motion_generator_mode"], state["controller_mode"]) == (1, 0, 3)
