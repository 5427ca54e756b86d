"""Where an arm may begin to move."""

from __future__ import annotations

import numpy as np
import pytest

from poco.errors import ArmError
from poco.limits import JOINTS, POSITION_MAX_RAD, POSITION_MIN_RAD
from poco.start_pose import check_start_pose

MARGIN_RAD = 0.05


@pytest.mark.parametrize("joint", range(JOINTS))
@pytest.mark.parametrize("limit", [POSITION_MIN_RAD, POSITION_MAX_RAD], ids=["lowest", "highest"])
def test_a_joint_near_its_limit_is_named(joint: int, limit: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    """Just outside of the margin is good enough, just inside of it is refused with the joint's number."""
    middle = (POSITION_MIN_RAD + POSITION_MAX_RAD) / 2
    inwards = np.sign(middle[joint] - limit[joint])
    for room_rad in (MARGIN_RAD + 1e-6, MARGIN_RAD - 1e-6):
        q = middle.copy()
        q[joint] = limit[joint] + inwards * room_rad
        if room_rad > MARGIN_RAD:
            check_start_pose(q, MARGIN_RAD)
        else:
            with pytest.raises(ArmError, match=f"joint {joint + 1} is at"):
                check_start_pose(q, MARGIN_RAD)
