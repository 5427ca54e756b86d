"""Where an arm may begin to move."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from poco.errors import ArmError
from poco.limits import POSITION_MAX_RAD, POSITION_MIN_RAD


def check_start_pose(q: npt.NDArray[np.float64], margin_rad: float) -> None:
    """Raise ArmError if a joint of `q` [7] (rad) is nearer to its limit than `margin_rad`; before motion, the arm's process."""
    room = np.minimum(q - POSITION_MIN_RAD, POSITION_MAX_RAD - q)
    joint = int(np.argmin(room))
    if room[joint] < margin_rad:
        raise ArmError(
            f"joint {joint + 1} is at {q[joint]:.3f} rad, {room[joint]:.3f} rad from its limit, at least {margin_rad} is "
            "needed: move the arm by hand in guiding mode"
        )
