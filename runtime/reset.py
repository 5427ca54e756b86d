"""Reset is a motion: up and out of the hole, then to the start pose, planned and limited like every other chunk."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from poco.kinematics import forward, inverse
from poco.motion import Plan, plan_path
from poco.specification import Specification

Floats = npt.NDArray[np.float64]

ATTACH_DELAY_TICKS = 100
SETTLE_TICKS = 200


def plan_reset(
    q: Floats,
    start_q: Floats,
    retract_height_m: float,
    attach_tick: int,
    chunk_id: int,
    specification: Specification,
    limits: npt.NDArray[np.void],
    speed: float,
) -> Plan:
    """Plan from rest at joints `q` [7] (rad) straight up by `retract_height_m` and on to `start_q` [7].

    Raises MotionError if no such motion lies inside `limits`. Policy process.
    """
    position, rotation = forward(q, specification.tip)
    start_position, _ = forward(start_q, specification.tip)
    top = position.copy()
    top[2] = min(max(position[2] + retract_height_m, start_position[2]), float(limits["box_max"][2]))
    lower, upper = limits["position_min"], limits["position_max"]
    above, _, _ = inverse(q, top, rotation, specification.tip, start_q, lower, upper)
    return plan_path(q, np.stack([above, start_q]), attach_tick, chunk_id, 0, 0, limits, speed)
