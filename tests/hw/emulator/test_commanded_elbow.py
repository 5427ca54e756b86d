"""Poses with an elbow, which the vendor's Python client cannot send: the robot's rules in robot time, without a network."""

from __future__ import annotations

import numpy as np
import pytest

from poco.hw.emulator.arm import SimulatedArm
from poco.hw.emulator.model import READY_RAD, fr3_mjcf
from poco.hw.emulator.protocol import COMMAND, STATE, Error, MoveController, MoveGenerator
from poco.hw.emulator.robot import EmulatedRobot
from poco.hw.emulator.state_datagram import StateDatagram
from poco.hw.emulator.transforms import Floats

TICKS = 600
SWING_RAD = 0.08 * (1 - np.cos(2 * np.pi * np.arange(TICKS) / TICKS)) / 2


@pytest.fixture
def robot() -> EmulatedRobot:
    robot = EmulatedRobot(SimulatedArm.from_mjcf(fr3_mjcf()), start_grace_ticks=2)
    robot.begin_motion(MoveController.JOINT_IMPEDANCE, MoveGenerator.CARTESIAN_POSE)
    robot.advance()
    return robot


def send(robot: EmulatedRobot, elbow: tuple[float, float] | None, O_T_EE: Floats | None = None) -> list[Error]:
    """Command a pose, the present one if None, and an elbow; return the errors that the arm has then."""
    command = np.zeros((), COMMAND)
    command["message_id"] = robot.tick
    command["O_T_EE_c"] = (robot.arm.O_T_EE if O_T_EE is None else O_T_EE).ravel(order="F")
    if elbow is not None:
        command["elbow_c"], command["valid_elbow"] = elbow, 1
    robot.receive(command)
    robot.advance()
    return [Error(int(index)) for index in np.flatnonzero(robot.errors)]


def test_the_elbow_moves_and_the_end_effector_stays(robot: EmulatedRobot) -> None:
    """Joint 3 swings by 0.08 rad and back as commanded, the state's elbow fields say so, losses go on with its acceleration."""
    datagram, origin = StateDatagram(robot), robot.arm.O_T_EE
    for tick, elbow in enumerate(SWING_RAD):
        if tick % 100 == 50:
            robot.advance()
        else:
            assert send(robot, (elbow, -1.0), origin) == []
        datagram.update()
        state = np.frombuffer(datagram.bytes, STATE)[0]
        np.testing.assert_allclose(state["elbow_c"], (elbow, -1.0), atol=2e-6)
        np.testing.assert_allclose(state["O_T_EE_d"].reshape(4, 4).T, origin, atol=1e-6)
    assert robot.counts.lost == TICKS // 100
    np.testing.assert_allclose(robot.motion.q, READY_RAD, atol=0.02)


@pytest.mark.parametrize(
    ("elbows", "error"),
    [
        ([(0.01, -1.0)], Error.START_ELBOW_INVALID),
        ([(0.0, 1.0)], Error.START_ELBOW_SIGN_INCONSISTENT),
        ([(0.0, -1.0), (0.0, 1.0)], Error.ELBOW_SIGN_INCONSISTENT),
        ([(0.0, -1.0), (1e-5, -1.0)], Error.ELBOW_LIMITS),
        ([(0.0, -1.0), None, (-1e-3, -1.0)], Error.ELBOW_LIMITS),
    ],
)
def test_every_fault_of_an_elbow_has_its_vendor_error(
    robot: EmulatedRobot, elbows: list[tuple[float, float] | None], error: Error
) -> None:
    """An elbow that begins elsewhere, is bent to the other side or moves too suddenly."""
    origin = robot.arm.O_T_EE
    errors = [send(robot, elbow, origin) for elbow in elbows]
    assert errors == [[]] * (len(elbows) - 1) + [[error]]


def test_a_matrix_that_is_no_frame_is_refused(robot: EmulatedRobot) -> None:
    """A stretched rotation ends the motion."""
    frame = robot.arm.O_T_EE
    frame[:3, 0] *= 1.001
    assert send(robot, None, frame) == [Error.INVALID_FRAME]


def test_an_elbow_that_is_not_finite_is_no_command(robot: EmulatedRobot) -> None:
    """It is counted as invalid, as a pose would be, and the motion goes on."""
    assert send(robot, (np.nan, -1.0)) == []
    assert (robot.counts.invalid, robot.counts.taken) == (1, 0)
