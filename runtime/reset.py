"""Reset is a motion: straight up and out of the hole, then to the start pose, planned and limited like every other chunk."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from poco.kinematics import forward, inverse
from poco.motion import Plan, plan_path
from poco.specification import Specification

Floats = npt.NDArray[np.float64]

ATTACH_DELAY_TICKS = 100
SETTLE_TICKS = 200
RISE_STEP_M = 0.010


def rise(q: Floats, height_m: float, specification: Specification, limits: npt.NDArray[np.void]) -> list[Floats]:
    """Return joint waypoints [7] (rad) that lift the tool tip straight up from `q` by `height_m`, turning it not at all."""
    position, rotation = forward(q, specification.tip)
    steps = int(np.ceil(height_m / RISE_STEP_M))
    waypoints: list[Floats] = []
    for height in np.linspace(0.0, height_m, steps + 1)[1:]:
        target = position + np.array([0.0, 0.0, height])
        near = waypoints[-1] if waypoints else q
        above, _, _ = inverse(
            near, target, rotation, specification.tip, near, limits["position_min"], limits["position_max"]
        )
        waypoints.append(above)
    return waypoints


def plan_reset(
    commanded_q: Floats,
    measured_q: Floats,
    retract_height_m: float,
    attach_tick: int,
    chunk_id: int,
    specification: Specification,
    limits: npt.NDArray[np.void],
    speed: float,
) -> Plan:
    """Plan from rest at `commanded_q` [7] (rad) straight up from where the tip really is, then on to the rest posture.

    The tip rises by `retract_height_m` or to the height of the start pose, whichever is less, unless it is higher already.
    Raises MotionError if no such motion lies inside `limits`. Policy process.
    """
    start_q = np.array(specification.rest_q)
    height_m = float(forward(start_q, specification.tip)[0][2] - forward(measured_q, specification.tip)[0][2])
    waypoints = [*rise(measured_q, min(max(height_m, 0.0), retract_height_m), specification, limits), start_q]
    return plan_path(commanded_q, np.stack(waypoints), attach_tick, chunk_id, 0, 0, limits, speed)
