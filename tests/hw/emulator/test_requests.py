"""What the arm answers that the vendor's Python client cannot ask for, without a network."""

from __future__ import annotations

import numpy as np
import pytest

from poco.hw.emulator.arm import SimulatedArm
from poco.hw.emulator.model import fr3_mjcf
from poco.hw.emulator.protocol import PAYLOADS, Command, MoveController, MoveGenerator, MoveStatus
from poco.hw.emulator.requests import Requests
from poco.hw.emulator.robot import EmulatedRobot
from poco.hw.emulator.state_datagram import StateDatagram


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
    robot = EmulatedRobot(SimulatedArm.from_mjcf(fr3_mjcf()))
    requests = Requests(robot, StateDatagram(robot))
    move = np.zeros((), PAYLOADS[Command.MOVE])
    move["controller_mode"], move["generator_mode"], move["use_async"] = controller, generator, asynchronous
    move["velocity_max"] = 1.0
    (answer,) = requests.answer(Command.MOVE, 7, move)
    assert answer[-1] == status
    assert robot.moving == (status is MoveStatus.MOTION_STARTED)
