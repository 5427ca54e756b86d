"""Whether the frames of a camera may be acted on: from the right device, young enough, never the same for long."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from poco.settings import CameraSettings

AHEAD_NS = 20_000_000
"""A stamp may lie so far in the future, since clocks are only mapped so well."""

STEADY_FRAMES = 3
"""After trouble so many fresh frames in a row, none late, before the arm goes on: a slow camera is not fresh once in a while."""


@dataclass(slots=True)
class Stream:
    """The frames of one camera as the policy process meets them; `trouble` is "" while they may be acted on.

    Times are CLOCK_MONOTONIC (ns). `look` is called at every observation; nothing here reads a clock.
    """

    camera: CameraSettings
    trouble: str = ""
    _number: int = 0
    _t_ns: int = 0
    _steady: int = STEADY_FRAMES

    def look(self, head: npt.NDArray[np.void] | None, now_ns: int) -> str:
        """Take in the newest FRAME_HEAD (None: there never was one) and return the trouble with it, "" for none."""
        complaint = self._complaint(head, now_ns)
        if complaint:
            self._steady = 0
            self.trouble = complaint
        if head is not None:
            self._count(head)
        if not complaint and self._steady >= STEADY_FRAMES:
            self.trouble = ""
        return self.trouble

    def _count(self, head: npt.NDArray[np.void]) -> None:
        """Take in a frame that was not looked at before."""
        number, t_ns = int(head["number"]), int(head["t_ns"])
        if (number, t_ns) == (self._number, self._t_ns):
            return
        late = self._t_ns and t_ns - self._t_ns > self.camera.age_max_s * 1e9
        self._steady = 0 if late and self.trouble else self._steady + 1
        self._number, self._t_ns = number, t_ns

    def _complaint(self, head: npt.NDArray[np.void] | None, now_ns: int) -> str:
        name, limit_s = self.camera.name, self.camera.age_max_s
        if head is None:
            return f"camera {name} has given no frame"
        serial = head["serial"].item().decode(errors="replace")
        if serial != self.camera.serial:
            return f"camera {name} is {serial}, should be {self.camera.serial}"
        age_ns = now_ns - int(head["t_ns"])
        if age_ns > limit_s * 1e9:
            return f"the newest frame of camera {name} is older than {limit_s:g} s"
        if age_ns < -AHEAD_NS:
            return f"the newest frame of camera {name} is of a time to come: its clock has jumped"
        if int(head["repeats"]) >= self.camera.repeats_max:
            return f"camera {name} has shown the same {self.camera.repeats_max} frames long"
        return ""
