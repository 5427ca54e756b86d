"""The hand of a simulated task in one process: what chunks ask of the gripper becomes orders for the emulated one, tick by tick."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from poco.gripping import GripperWill, Order, Timetable
from poco.settings import GripperSettings

from ...franka_gripper import ANY_WIDTH_M
from ..fingers import WIDTH_MAX_M, SimulatedFingers
from ..gripper import EmulatedGripper
from ..gripper_protocol import PAYLOADS, GripperCommand, GripperStatus

Record = npt.NDArray[np.void]


class TaskHand:
    """Homed and open at the start; gives the newest order when it is due and stops the one on its way for it, as the robot's does.

    One process, one thread.
    """

    def __init__(self, fingers: SimulatedFingers, settings: GripperSettings) -> None:
        self._fingers, self._settings = fingers, settings
        self.reset()

    def reset(self) -> None:
        """Teleport the fingers to where an episode begins; nothing is asked of them any more."""
        self._fingers.put(self._settings.start_width_m)
        self._gripper = EmulatedGripper(self._fingers)
        self._gripper.width_max_m = WIDTH_MAX_M
        self._timetable, self._will = Timetable(), GripperWill(self._settings)

    @property
    def width_m(self) -> float:
        """Distance between the fingers."""
        return self._fingers.width_m

    def advance(self, tick: int, executing_id: int, newest: Record | None) -> None:
        """Live through robot tick `tick`, in which the arm executes chunk `executing_id` and `newest` was offered last."""
        if newest is not None:
            self._timetable.add(newest)
        target_m = self._timetable.width_m(tick, executing_id, self._will.lead_ticks)
        order = self._will.order(target_m, self._gripper.width_max_m)
        if order is not None:
            self._gripper.stop()
            self._gripper.begin(*self._asked(order))
        if self._gripper.advance() == GripperStatus.FAIL:
            self._will.forget()

    def _asked(self, order: Order) -> tuple[GripperCommand, Record]:
        command = GripperCommand.GRASP if order.kind == "grasp" else GripperCommand.MOVE
        payload = np.zeros((), PAYLOADS[command])
        payload["width"], payload["speed"] = order.width_m, self._settings.speed_m_s
        if command is GripperCommand.GRASP:
            payload["force"] = self._settings.force_n
            payload["epsilon_inner"] = payload["epsilon_outer"] = ANY_WIDTH_M
        return command, payload
