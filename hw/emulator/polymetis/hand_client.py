"""The program beside the emulated hand: homes it, tells the gripper server its state, does one command after the other.

It is stated of the real one that it looks for commands about 30 times a second and only while the fingers rest, knows a command by
the nanoseconds of its timestamp, and is gone when the hand refuses one.
"""

from __future__ import annotations

import time

import numpy as np

from poco.hw.polymetis.polymetis_pb2 import GripperCommand, GripperMetadata, GripperState

from ...franka_gripper import ANY_WIDTH_M
from ..fingers import SimulatedFingers
from ..gripper import EmulatedGripper
from ..gripper_protocol import PAYLOADS, GripperStatus
from ..gripper_protocol import GripperCommand as HandCommand
from .gripper_service import GripperService

HZ = 30
PERIOD_TICKS = 33


class HandClient:
    """One life of that program over `fingers`; `advance` is one tick of 1 ms. Belongs to the emulator's loop."""

    def __init__(self, fingers: SimulatedFingers) -> None:
        """Begin to home; nothing is told before that is done."""
        self.gone = False
        self._gripper = EmulatedGripper(fingers)
        self._gripper.begin(HandCommand.HOMING, np.zeros((), PAYLOADS[HandCommand.HOMING]))
        self._known = False
        self._done_nanos = 0
        self._successful = True

    def advance(self, service: GripperService | None, tick: int) -> None:
        """Live through a tick, before the arm does; None while there is no server."""
        status = self._gripper.advance()
        if status is not None:
            self._successful = status is GripperStatus.SUCCESS
        if tick % PERIOD_TICKS == 0 and service is not None:
            self.update(service)

    def update(self, service: GripperService) -> None:
        """Tell the state and take the newest command, if it is a new one and nothing moves."""
        gripper = self._gripper
        if self.gone or (not self._known and gripper.running is not None):
            return
        if not self._known:
            service.init_client(GripperMetadata(hz=HZ, max_width=gripper.width_max_m))
            self._known = True
        command = service.control_update(self._state())
        nanos = command.timestamp.nanos
        if gripper.running is None and nanos not in (0, self._done_nanos):
            self._done_nanos = nanos
            self._do(command)

    def _state(self) -> GripperState:
        """The present state; its time is that of the computer's clock, which goes on while an arm in lockstep waits."""
        gripper = self._gripper
        state = GripperState(
            width=max(gripper.fingers.width_m, 0.0),
            is_grasped=gripper.grasped,
            is_moving=gripper.running is not None,
            prev_command_successful=self._successful,
        )
        state.timestamp.seconds, state.timestamp.nanos = divmod(time.time_ns(), 1_000_000_000)
        return state

    def _do(self, command: GripperCommand) -> None:
        kind = HandCommand.GRASP if command.grasp else HandCommand.MOVE
        payload = np.zeros((), PAYLOADS[kind])
        payload["width"], payload["speed"] = command.width, command.speed
        if command.grasp:
            payload["force"] = command.force
            payload["epsilon_inner"] = ANY_WIDTH_M if command.epsilon_inner < 0 else command.epsilon_inner
            payload["epsilon_outer"] = ANY_WIDTH_M if command.epsilon_outer < 0 else command.epsilon_outer
        self.gone = self._gripper.begin(kind, payload) == GripperStatus.FAIL
