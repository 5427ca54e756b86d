"""What the arm answers that the vendor's Python client cannot ask for, without a network."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from poco.hw.emulator.arm import SimulatedArm
from poco.hw.emulator.model import fr3_mjcf
from poco.hw.emulator.protocol import PAYLOADS, Command, MoveController, MoveGenerator, MoveStatus
from poco.hw.emulator.requests import Requests
from poco.hw.emulator.robot import EmulatedRobot
from poco.hw.emulator.state_datagram import StateDatagram


def arm() -> tuple[EmulatedRobot, Requests]:
    robot = EmulatedRobot(SimulatedArm.from_mjcf(fr3_mjcf()))
    return robot, Requests(robot, StateDatagram(robot))


def move(controller: MoveController, generator: MoveGenerator, asynchronous: int) -> npt.NDArray[np.void]:
    payload = np.zeros((), PAYLOADS[Command.MOVE])
    payload["controller_mode"], payload["generator_mode"], payload["use_async"] = controller, generator, asynchronous
    payload["velocity_max"] = 1.0
    return payload


@pytest.mark.parametrize(
    ("controller", "generator", "asynchronous", "status"),
    [
        (MoveController.EXTERNAL, MoveGenerator.JOINT_VELOCITY, 0, MoveStatus.NOT_POSSIBLE),
        (MoveController.JOINT_IMPEDANCE, MoveGenerator.NONE, 0, MoveStatus.NOT_POSSIBLE),
        (MoveController.JOINT_IMPEDANCE, MoveGenerator.CARTESIAN_POSE, 1, MoveStatus.NOT_POSSIBLE),
        (MoveController.CARTESIAN_IMPEDANCE, MoveGenerator.JOINT_POSITION, 1, MoveStatus.NOT_POSSIBLE),
        (MoveController.IDLE, MoveGenerator.JOINT_POSITION, 0, MoveStatus.NOT_POSSIBLE),
        (MoveController.CARTESIAN_IMPEDANCE, MoveGenerator.CARTESIAN_VELOCITY, 0, MoveStatus.MOTION_STARTED),
    ],
)
def test_motions_that_are_not_there_are_not_possible(
    controller: MoveController, generator: MoveGenerator, asynchronous: int, status: MoveStatus
) -> None:
    """A generator beside the client's torques, none without them, targets of another kind: status 5, and the arm stays idle."""
    robot, requests = arm()
    (answer,) = requests.answer(Command.MOVE, 7, move(controller, generator, asynchronous))
    assert answer[-1] == status
    assert robot.moving == (status is MoveStatus.MOTION_STARTED)


@pytest.mark.parametrize("asynchronous", [0, 1])
def test_a_motion_that_needs_no_commands_ends_with_its_client(asynchronous: int) -> None:
    """Where every tick wants a command the arm will miss them and stop by itself; where none does it is preempted."""
    robot, requests = arm()
    requests.answer(Command.MOVE, 7, move(MoveController.JOINT_IMPEDANCE, MoveGenerator.JOINT_POSITION, asynchronous))
    robot.advance()
    requests.forget()
    assert robot.moving == (not asynchronous)
