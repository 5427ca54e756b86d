"""What the policy process knows of the gripper: its newest width in every state, and whether that may be acted on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from poco.clock import monotonic_ns
from poco.motion import Plan
from poco.settings import GripperSettings
from poco.shm import RunMemory

State = npt.NDArray[np.void]


class Grip:
    """The gripper of a run as its policy sees it; `told` hears of the ticks from which it is, and is no longer, out of sight."""

    def __init__(
        self,
        memory: RunMemory,
        settings: GripperSettings,
        told: Callable[[int, str], None],
        clock: Callable[[], int] = monotonic_ns,
    ) -> None:
        self._memory, self._settings, self._told, self._clock = memory, settings, told, clock
        self.clear = True

    def fill(self, state: State) -> None:
        """Write the newest width into a ROBOT_STATE record; `clear` says whether it counts."""
        newest = self._memory.read_gripper()
        age_s = float("inf") if newest is None else (self._clock() - int(newest["t_ns"])) / 1e9
        state["gripper_width"] = 0.0 if newest is None else newest["width"]
        clear = age_s <= self._settings.age_max_s
        if clear != self.clear:
            self.clear = clear
            reason = f"nothing was heard of the gripper for {age_s:.1f} s, at most {self._settings.age_max_s:g} s count"
            self._told(int(state["tick"]), "" if clear else reason)

    def opens(self, plan: Plan) -> Plan:
        """Return `plan`, of a motion between episodes, with the gripper open as wide as an episode begins."""
        plan.spline["gripper"][: int(plan.spline["segments"])] = self._settings.start_width_m
        return plan

    def opened(self) -> bool:
        """Tell whether the fingers are as far apart as an episode begins."""
        newest = self._memory.read_gripper()
        if newest is None:
            return False
        width_m = min(self._settings.start_width_m, float(newest["max_width"]))
        return abs(float(newest["width"]) - width_m) <= self._settings.hysteresis_m
