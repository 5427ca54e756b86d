"""The check of a plan without enclosures, every tick of it: yardstick of the quick check and what it must never contradict."""

from __future__ import annotations

import math

import numba
import numpy as np
import numpy.typing as npt

from poco.bounds import Bounds, outside_guards, velocity_ratio
from poco.clock import TICK_S
from poco.kinematics import JOINTS, Floats, chain, frames
from poco.spline import place
from poco.verification import TOLERANCE


@numba.njit(error_model="numpy")  # type: ignore[untyped-decorator]
def verify_every_tick(
    knots: npt.NDArray[np.int64],
    coefficients: Floats,
    segments: int,
    start_dq: Floats,
    start_ddq: Floats,
    bounds: Bounds,
) -> tuple[int, float, bool]:
    """Return what `poco.verification.verify` must return: worst segment, excess ratio, whether it leaves limits or guards."""
    frame = frames()
    q, before, tip = coefficients[0, 0].copy(), np.empty(JOINTS), np.empty(3)
    v, a = start_dq - 0.5 * TICK_S * start_ddq, start_ddq.copy()
    chain(q, bounds.flange_t_tip, frame)
    tip[:] = frame.position
    worst, excess, segment = -1, 1.0 + TOLERANCE, 0
    for tick in range(1, knots[segments] + 4):
        while segment + 1 < segments and knots[segment + 1] < tick:
            segment += 1
        before[:] = q
        place(coefficients[segment], (min(tick, knots[segments]) - knots[segment]) * TICK_S, q)
        ratio = 0.0
        for joint in range(JOINTS):
            velocity = (q[joint] - before[joint]) / TICK_S
            acceleration = (velocity - v[joint]) / TICK_S
            jerk = (acceleration - a[joint]) / TICK_S
            v[joint], a[joint] = velocity, acceleration
            ratio = max(ratio, abs(acceleration) / bounds.acceleration_max[joint], abs(jerk) / bounds.jerk_max[joint])
        share, blocked = velocity_ratio(bounds, q, v)
        chain(q, bounds.flange_t_tip, frame)
        moved = math.sqrt(np.sum((frame.position - tip) ** 2)) / TICK_S
        tip[:] = frame.position
        ratio = max(ratio, share, moved / bounds.speed_max)
        if blocked or outside_guards(bounds, frame.position):
            return segment, ratio, True
        if ratio > excess:
            worst, excess = segment, ratio
    return worst, excess, False
