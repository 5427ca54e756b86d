"""What the arm answers to each request of its client, and when."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from .model import fr3_urdf
from .protocol import (
    Command,
    MoveController,
    MoveGenerator,
    MoveStatus,
    RecoveryStatus,
    RobotMode,
    SetterStatus,
    StopStatus,
    response,
)
from .robot import EmulatedRobot
from .state_datagram import StateDatagram
from .transforms import rigid_transform

Floats = npt.NDArray[np.float64]
Payload = npt.NDArray[np.void]

JOINT_IMPEDANCE_MAX_NM_RAD = 14_250.0
GENERATORS = tuple(generator for generator in MoveGenerator if generator is not MoveGenerator.NONE)
CARTESIAN_IMPEDANCE_RANGE = np.array([[10.0, 3000.0]] * 3 + [[1.0, 300.0]] * 3)
"""Ranges the vendor documents for the setters (N m/rad; N/m and N m/rad)."""

ASYNCHRONOUS = (MoveController.JOINT_IMPEDANCE, MoveGenerator.JOINT_POSITION)
"""Controller and generator of the motion that a client may ask for asynchronously."""

MOTIONS = (
    *((MoveController.JOINT_IMPEDANCE, generator) for generator in GENERATORS),
    *((MoveController.CARTESIAN_IMPEDANCE, generator) for generator in GENERATORS),
    (MoveController.EXTERNAL, MoveGenerator.NONE),
)
"""Controller and generator of the motions that are emulated."""


class Requests:
    """Answers requests from the robot's present state; some answers come ticks later, from `progress`."""

    def __init__(self, robot: EmulatedRobot, datagram: StateDatagram) -> None:
        """Answer for `robot`, whose constant state fields are in `datagram`."""
        self._robot = robot
        self._datagram = datagram
        self._model = fr3_urdf().encode()
        self._waiting_move: int | None = None
        self._asked: tuple[MoveController, MoveGenerator, Floats | None] = (*ASYNCHRONOUS, None)
        self._running_move: int | None = None
        self._recovery: int | None = None
        self._setters: dict[Command, Callable[[Payload], bool]] = {
            Command.SET_COLLISION_BEHAVIOR: self._set_collision_behavior,
            Command.SET_JOINT_IMPEDANCE: self._set_joint_impedance,
            Command.SET_CARTESIAN_IMPEDANCE: self._set_cartesian_impedance,
            Command.SET_EE_TO_K: self._set_stiffness_frame,
            Command.SET_NE_TO_EE: self._set_end_effector,
            Command.SET_LOAD: self._set_load,
        }

    def answer(self, command: Command, command_id: int, payload: Payload) -> list[bytes]:
        """Act on one request and return the responses that are due at once."""
        if command is Command.MOVE:
            return self._move(command_id, payload)
        if command is Command.STOP_MOVE:
            self._robot.preempt()
            return [_status(command, command_id, StopStatus.SUCCESS), *self.progress()]
        if command is Command.AUTOMATIC_ERROR_RECOVERY:
            return self._recover(command_id)
        if command is Command.GET_ROBOT_MODEL:
            return [response(command, command_id, bytes([StopStatus.SUCCESS]) + self._model)]
        return [_status(command, command_id, self._set(command, payload))]

    def progress(self) -> list[bytes]:
        """Return the responses that have become due since the last call; to be asked after every tick."""
        due = []
        robot = self._robot
        if robot.ended is not None and self._running_move is not None:
            due.append(_status(Command.MOVE, self._running_move, robot.ended))
            self._running_move = None
        if self._recovery is not None and robot.mode is RobotMode.IDLE:
            due.append(_status(Command.AUTOMATIC_ERROR_RECOVERY, self._recovery, RecoveryStatus.SUCCESS))
            self._recovery = None
        if self._recovery is not None and robot.mode is RobotMode.USER_STOPPED:
            due.append(_status(Command.AUTOMATIC_ERROR_RECOVERY, self._recovery, RecoveryStatus.EMERGENCY_ABORTED))
            self._recovery = None
        if self._waiting_move is not None and robot.settled:
            due.append(self._start(self._waiting_move))
            self._waiting_move = None
        if self._waiting_move is not None and robot.mode is not RobotMode.IDLE:
            due.append(_status(Command.MOVE, self._waiting_move, MoveStatus.NOT_POSSIBLE))
            self._waiting_move = None
        return due

    def forget(self) -> None:
        """Forget what the client that has just left had asked for; its motion runs on and misses its commands, if it needs any."""
        if not self._robot.streamed:
            self._robot.preempt()
        self._waiting_move = self._running_move = self._recovery = None

    def _move(self, command_id: int, payload: Payload) -> list[bytes]:
        robot = self._robot
        mode = int(payload["controller_mode"]), int(payload["generator_mode"])
        asynchronous, velocity_max = bool(payload["use_async"]), payload["velocity_max"]
        if (
            mode not in MOTIONS
            or (asynchronous and mode != ASYNCHRONOUS)
            or robot.mode is not RobotMode.IDLE
            or self._waiting_move is not None
        ):
            return [_status(Command.MOVE, command_id, MoveStatus.NOT_POSSIBLE)]
        if asynchronous and not (np.isfinite(velocity_max).all() and (velocity_max > 0).all()):
            return [_status(Command.MOVE, command_id, MoveStatus.INVALID_ARGUMENT)]
        self._waiting_move = command_id
        self._asked = MoveController(mode[0]), MoveGenerator(mode[1]), velocity_max if asynchronous else None
        return self.progress()

    def _start(self, command_id: int) -> bytes:
        if self._robot.begins_at_singularity(self._asked[1]):
            return _status(Command.MOVE, command_id, MoveStatus.START_AT_SINGULAR_POSE)
        self._running_move = command_id
        self._robot.begin_motion(*self._asked)
        return _status(Command.MOVE, command_id, MoveStatus.MOTION_STARTED)

    def _recover(self, command_id: int) -> list[bytes]:
        if self._recovery is not None or not self._robot.recover():
            return [_status(Command.AUTOMATIC_ERROR_RECOVERY, command_id, RecoveryStatus.NOT_POSSIBLE)]
        self._recovery = command_id
        return self.progress()

    def _set(self, command: Command, payload: Payload) -> SetterStatus:
        setter = self._setters.get(command)
        if setter is None or self._robot.mode is not RobotMode.IDLE:
            return SetterStatus.NOT_POSSIBLE
        if not all(np.isfinite(payload[name]).all() for name in payload.dtype.names or ()) or not setter(payload):
            return SetterStatus.INVALID_ARGUMENT
        self._datagram.update_tool()
        return SetterStatus.SUCCESS

    def _set_collision_behavior(self, payload: Payload) -> bool:
        for quantity in ("torque", "force"):
            for phase in ("acceleration", "nominal"):
                lower, upper = payload[f"lower_{quantity}_{phase}"], payload[f"upper_{quantity}_{phase}"]
                if (lower < 0).any() or (upper < lower).any():
                    return False
        self._robot.contact.thresholds = payload
        return True

    def _set_joint_impedance(self, payload: Payload) -> bool:
        stiffness = payload["stiffness"]
        if (stiffness < 0).any() or (stiffness > JOINT_IMPEDANCE_MAX_NM_RAD).any():
            return False
        self._robot.arm.joint_impedance = stiffness
        return True

    def _set_cartesian_impedance(self, payload: Payload) -> bool:
        stiffness = payload["stiffness"]
        low, high = CARTESIAN_IMPEDANCE_RANGE.T
        if (stiffness < low).any() or (stiffness > high).any():
            return False
        self._robot.cartesian_impedance.stiffness = stiffness
        return True

    def _set_stiffness_frame(self, payload: Payload) -> bool:
        transform = rigid_transform(payload["transform"])
        if transform is None:
            return False
        self._robot.tool.EE_T_K = transform
        return True

    def _set_end_effector(self, payload: Payload) -> bool:
        transform = rigid_transform(payload["transform"])
        if transform is None:
            return False
        self._robot.tool.NE_T_EE = transform
        return True

    def _set_load(self, payload: Payload) -> bool:
        inertia = payload["inertia"].reshape(3, 3)
        if payload["mass"] < 0 or not np.allclose(inertia, inertia.T) or np.linalg.eigvalsh(inertia).min() < 0:
            return False
        tool = self._robot.tool
        tool.load_mass_kg, tool.load_centre_m = float(payload["mass"]), payload["centre"].copy()
        tool.load_inertia_kg_m2 = payload["inertia"].copy()
        return True


def _status(command: Command, command_id: int, status: int) -> bytes:
    return response(command, command_id, bytes([status]))
