"""The emulated gripper behind the network: homing, grasp, move and stop in robot time and without sockets.

What the vendor's texts leave open is our choice, made so that nothing works here that might not work there: the largest width is
0 until homing has found it, a command that comes while another runs fails, and a grasp ends where the fingers are stopped by
something, or where they have gone past the width by the inner tolerance.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt

from .fingers import HOLDING_FORCE_N, SimulatedFingers
from .gripper_protocol import GripperCommand, GripperStatus

Payload = npt.NDArray[np.void]

SPEED_MAX_M_S = 0.1
FORCE_MAX_N = 140.0
HOMING_SPEED_M_S = 0.1
HOMING_FORCE_N = 20.0
HOMING_TARGET_M = 0.2
"""Further than any finger goes, so that homing ends where the fingers do."""

REACHED_M = 0.0005
STILL_M_S = 0.001
STALL_TICKS = 50
BLOCKED_TICKS = 5000
"""A move that meets an object goes on trying for so long."""

WIDTH_TOLERANCE_M = 0.0005
TEMPERATURE_C = 30


class EmulatedGripper:
    """One hand as its clients see it; `advance` is one tick of 1 ms.

    A command that is running is `running`; `ended` is the status of the one that has just ended, for whoever asked for it. Not
    thread-safe; belongs to the server's loop.
    """

    def __init__(self, fingers: SimulatedFingers) -> None:
        """Hold `fingers` where they are; nothing is known of their largest width."""
        self.fingers = fingers
        self.width_max_m = 0.0
        self.running: GripperCommand | None = None
        self._grasp: tuple[float, float] | None = None
        self._held = False
        self._aimed_m = 0.0
        self._still_ticks = 0

    @property
    def grasped(self) -> bool:
        """Whether the last grasp succeeded and the width is still within its tolerances."""
        if not self._held or self._grasp is None:
            return False
        low_m, high_m = self._grasp
        return low_m < self.fingers.width_m < high_m

    def begin(self, command: GripperCommand, payload: Payload) -> GripperStatus | Literal["running"]:
        """Begin `command` (homing, grasp or move); its status comes from `advance`, or at once where it cannot begin."""
        if self.running is not None or not self._possible(command, payload):
            return GripperStatus.FAIL
        self.running, self._still_ticks, self._held, self._grasp = command, 0, False, None
        match command:
            case GripperCommand.HOMING:
                self.fingers.aim(HOMING_TARGET_M, HOMING_SPEED_M_S, HOMING_FORCE_N)
            case GripperCommand.GRASP:
                width_m, force_n = float(payload["width"]), min(float(payload["force"]), FORCE_MAX_N)
                self._grasp = width_m - float(payload["epsilon_inner"]), width_m + float(payload["epsilon_outer"])
                self.fingers.aim(0.0, min(float(payload["speed"]), SPEED_MAX_M_S), force_n)
            case _:
                speed_m_s = min(float(payload["speed"]), SPEED_MAX_M_S)
                self.fingers.aim(float(payload["width"]), speed_m_s, HOLDING_FORCE_N)
        return "running"

    def stop(self) -> GripperStatus | None:
        """Stop the fingers where they are; return the status of the command that this has aborted, None without one."""
        self.fingers.stay()
        aborted = None if self.running is None else GripperStatus.ABORTED
        self.running = None
        return aborted

    def advance(self) -> GripperStatus | None:
        """Live through one tick; return the status of the command that has ended in it."""
        fingers = self.fingers
        fingers.advance()
        if self.running is None:
            return None
        still = fingers.settled and abs(fingers.speed_m_s) < STILL_M_S
        self._still_ticks = self._still_ticks + 1 if still else 0
        status = self._status()
        if status is not None:
            self.running = None
        return status

    def _status(self) -> GripperStatus | None:
        fingers, stalled = self.fingers, self._still_ticks >= STALL_TICKS
        match self.running:
            case GripperCommand.HOMING if stalled:
                self.width_max_m = round(fingers.width_m, 3)
                fingers.aim(self.width_max_m, HOMING_SPEED_M_S, HOLDING_FORCE_N)
                return GripperStatus.SUCCESS
            case GripperCommand.GRASP if stalled:
                self._held = True
                return GripperStatus.SUCCESS if self.grasped else GripperStatus.UNSUCCESSFUL
            case GripperCommand.GRASP if self._grasp is not None and fingers.width_m <= self._grasp[0]:
                fingers.stay()
                return GripperStatus.UNSUCCESSFUL
            case GripperCommand.MOVE if stalled and abs(fingers.width_m - self._aimed_m) < REACHED_M:
                return GripperStatus.SUCCESS
            case GripperCommand.MOVE if self._still_ticks >= BLOCKED_TICKS:
                return GripperStatus.UNSUCCESSFUL
        return None

    def _possible(self, command: GripperCommand, payload: Payload) -> bool:
        values = [float(payload[name]) for name in payload.dtype.names or ()]
        if not all(math.isfinite(value) for value in values):
            return False
        if command is GripperCommand.HOMING:
            return True
        self._aimed_m = float(payload["width"])
        within = 0.0 <= self._aimed_m <= self.width_max_m + WIDTH_TOLERANCE_M
        pushes = command is not GripperCommand.GRASP or (
            payload["force"] > 0 and payload["epsilon_inner"] >= 0 and payload["epsilon_outer"] >= 0
        )
        return bool(within and payload["speed"] > 0 and pushes)
