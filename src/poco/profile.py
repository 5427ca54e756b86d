"""Speed profile of a chunk: how many ticks each segment needs so that the whole stays inside limits and guards.

The path is one quintic per action through the waypoints. A segment takes its natural time where the limits allow it;
segments that exceed a limit grow until none does. Waypoint speeds follow from the times of both neighbours, so a slow
segment slows the ones before and after it, round by round, as far as acceleration demands. The result is C2 because
neighbours share the waypoint's state, and it is verified for every tick on the positions that would be sent.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from poco.bounds import Bounds, outside_guards, velocity_ratio
from poco.clock import TICK_S
from poco.compiled import kernel
from poco.enclosure import Enclosure, enclose, ends, keeps
from poco.kinematics import Floats, Frames, chain, frames, tip_speed
from poco.spline import JOINTS, Integers, evaluate, join
from poco.verification import verify

AIM_VELOCITY = 0.97
AIM_ACCELERATION = 0.9
"""Share of the limits that later segments use, so that the first segment of a successor has room at its seam."""

LEAD_IN_SHARE = 0.6
"""Share of the jerk limit with which a lead-in takes the start acceleration to zero."""

PLAN_TICKS_MAX = 300_000
"""Longest plan; what needs more time has no solution, such as a start state that already breaks a limit."""

GROWTH_MAX = 2.0
ROUNDS = 80
STOP_TICKS_MIN = 8


@kernel
def _load(
    rows: Floats, ticks: int, bounds: Bounds, first: bool, enclosure: Enclosure, state: Floats, frame: Frames
) -> tuple[float, bool]:
    """Return how much longer a segment must become (> 1) and whether it leaves joint limits or guards.

    The state that the first segment starts from is given: of its first point only the jerk is judged, and the whole
    segment against the full limits. Points of the segment are looked at only for what its enclosure leaves open.
    """
    aim_velocity, aim_acceleration = (1.0, 1.0) if first else (AIM_VELOCITY, AIM_ACCELERATION)
    if keeps(enclosure, aim_velocity, aim_acceleration):
        return 1.0, False
    q, v, a, j = state[0], state[1], state[2], state[3]
    points = min(max(ticks // 4, 6), 16)
    speed, acceleration, jerk, outside = 0.0, 0.0, 0.0, False
    for point in range(points + 1):
        evaluate(rows, ticks * TICK_S * point / points, q, v, a, j)
        for joint in range(JOINTS):
            jerk = max(jerk, abs(j[joint]) / bounds.jerk_max[joint])
        if first and point == 0:
            continue
        ratio, blocked = velocity_ratio(bounds, q, v)
        speed, outside = max(speed, ratio), outside or blocked
        for joint in range(JOINTS):
            acceleration = max(acceleration, abs(a[joint]) / bounds.acceleration_max[joint])
    growth = max(speed / aim_velocity, (acceleration / aim_acceleration) ** 0.6, (jerk / aim_acceleration) ** 0.4)
    if enclosure.inside and enclosure.tip_speed / aim_velocity <= max(growth, 1.0):
        return growth, outside
    for point in range(1 if first else 0, points + 1):
        evaluate(rows, ticks * TICK_S * point / points, q, v, a, j)
        chain(q, bounds.flange_t_tip, frame)
        growth = max(growth, tip_speed(frame, v) / bounds.speed_max / aim_velocity)
        outside = outside or outside_guards(bounds, frame.position)
    return growth, outside


@kernel
def stop_ticks(velocity: Floats, bounds: Bounds) -> int:
    """Return the ticks that a cubic velocity ramp from `velocity` [7] (rad/s) to rest needs inside the limits."""
    seconds = 0.0
    for joint in range(JOINTS):
        speed = abs(velocity[joint])
        seconds = max(seconds, 1.5 * speed / (AIM_ACCELERATION * bounds.acceleration_max[joint]))
        seconds = max(seconds, math.sqrt(6.0 * speed / (AIM_ACCELERATION * bounds.jerk_max[joint])))
    return max(STOP_TICKS_MIN, math.ceil(seconds / TICK_S))


@kernel
def ramp_to_rest(q: Floats, velocity: Floats, ticks: int, rows: Floats) -> None:
    """Fill `rows` [6, 7] with a stop along a straight line: cubic velocity ramp, zero acceleration at both ends."""
    still = np.zeros(JOINTS)
    join(q, velocity, still, q + 0.5 * ticks * TICK_S * velocity, still, still, ticks, rows)


@kernel
def lead_in(origin: Floats, bounds: Bounds, rows: Floats, result: Floats) -> int:
    """Fill a constant-jerk segment that ends with zero acceleration, and the state there [3, 7]; return its ticks."""
    jerk = 0.0
    for joint in range(JOINTS):
        jerk = max(jerk, abs(origin[2, joint]) / (LEAD_IN_SHARE * bounds.jerk_max[joint]))
    ticks = math.ceil(jerk / TICK_S)
    result[:] = origin
    if ticks > 0:
        t = ticks * TICK_S
        rows[:] = 0.0
        rows[0], rows[1], rows[2], rows[3] = origin[0], origin[1], 0.5 * origin[2], -origin[2] / (6.0 * t)
        result[0] = origin[0] + t * (origin[1] + t * origin[2] / 3.0)
        result[1] = origin[1] + 0.5 * t * origin[2]
        result[2] = 0.0
    return ticks


@kernel
def _waypoint_states(points: Floats, ticks: Integers, ease: Floats, velocity: Floats, acceleration: Floats) -> None:
    """Fill velocity and acceleration of every waypoint after the start from its neighbours, scaled by `ease` [T + 1]."""
    actions = ticks.shape[0]
    for k in range(1, actions + 1):
        before = ticks[k - 1] * TICK_S
        after = ticks[k] * TICK_S if k < actions else 0.0
        for joint in range(JOINTS):
            slope = (points[k, joint] - points[k - 1, joint]) / before
            if k == actions:
                velocity[k, joint] = ease[k] * slope
                acceleration[k, joint] = 0.0
            else:
                next_slope = (points[k + 1, joint] - points[k, joint]) / after
                velocity[k, joint] = ease[k] * (slope * after + next_slope * before) / (before + after)
                acceleration[k, joint] = ease[k] * 2.0 * (next_slope - slope) / (before + after)


@kernel
def _neighbourhood(ticks_changed: npt.NDArray[np.bool_], ease_changed: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return which segments [T] a change of segment times [T] or waypoint speeds [T + 1] reaches."""
    reached = ease_changed[:-1] | ease_changed[1:] | ticks_changed
    reached[1:] |= ticks_changed[:-1]
    reached[:-1] |= ticks_changed[1:]
    return reached


@kernel
def _ease_ends(ease: Floats, segment: int) -> bool:
    """Halve the waypoint speeds at both ends of a segment, in the end to rest; False if nothing is left to ease."""
    eased = False
    for k in range(max(segment, 1), segment + 2):
        if ease[k] > 0.0:
            ease[k] = 0.5 * ease[k] if ease[k] > 0.2 else 0.0
            eased = True
    return eased


@kernel
def fit(
    knots: Integers,
    coefficients: Floats,
    offset: int,
    start: Floats,
    origin: Floats,
    targets: Floats,
    natural: Integers,
    bounds: Bounds,
    rest_at_end: bool,
) -> int:
    """Write segments through `targets` [T, 7] (rad) from row `offset` on and return how many there are now, 0 for none.

    `start` [3, 7] is the state (rad, s) at knots[offset], `origin` the one at knots[0]; earlier rows are already written.
    `natural` [T] are the ticks each action takes where nothing slows it down. After the last target follows a stop along
    the last direction; where that would break a limit, or if `rest_at_end`, the arm comes to rest in the last target.
    """
    actions = targets.shape[0]
    points = np.empty((actions + 1, JOINTS))
    velocity, acceleration = np.empty_like(points), np.empty_like(points)
    points[0], velocity[0], acceleration[0] = start[0], start[1], start[2]
    points[1:] = targets
    ticks, ease = natural.copy(), np.ones(actions + 1)
    if rest_at_end:
        ease[actions] = 0.0
    state, frame, scratch = np.empty((4, JOINTS)), frames(), ends()
    settled = np.zeros(offset + actions + 1, np.bool_)
    checked_ticks, checked_ease = np.zeros(actions, np.int64), np.zeros(actions + 1)
    for _ in range(ROUNDS):
        _waypoint_states(points, ticks, ease, velocity, acceleration)
        dirty = _neighbourhood(ticks != checked_ticks, ease != checked_ease)
        checked_ticks[:], checked_ease[:] = ticks, ease
        grown, eased = ticks.copy(), False
        for k in range(actions):
            knots[offset + k + 1] = knots[offset + k] + ticks[k]
            if not dirty[k]:
                continue
            rows = coefficients[offset + k]
            n = k + 1
            join(points[k], velocity[k], acceleration[k], points[n], velocity[n], acceleration[n], ticks[k], rows)
            enclosure = enclose(rows, 0, ticks[k], k > 0 and dirty[k - 1], bounds, scratch)
            settled[offset + k] = keeps(enclosure, 1.0, 1.0)
            growth, outside = _load(rows, ticks[k], bounds, k == 0, enclosure, state, frame)
            if growth > 1.0:
                grown[k] = math.ceil(ticks[k] * min(GROWTH_MAX, 1.01 * growth))
                if grown[k] > PLAN_TICKS_MAX:
                    return 0
            if outside:
                if not _ease_ends(ease, k):
                    return 0
                eased = True
        growing = False
        for k in range(actions):
            growing = growing or grown[k] > ticks[k]
        if growing or eased:
            ticks = grown
            continue
        segments = offset + actions
        if knots[segments] > PLAN_TICKS_MAX:
            return 0
        if ease[actions] > 0.0:
            length = stop_ticks(velocity[actions], bounds)
            ramp_to_rest(points[actions], velocity[actions], length, coefficients[segments])
            knots[segments + 1] = knots[segments] + length
            enclosure = enclose(coefficients[segments], 0, length, False, bounds, scratch)
            settled[segments] = keeps(enclosure, 1.0, 1.0)
            growth, outside = _load(coefficients[segments], length, bounds, False, enclosure, state, frame)
            segments += 1
            if growth > 1.01 or outside:
                ease[actions] = 0.0
                continue
        worst, excess, outside = verify(knots, coefficients, segments, settled, origin[1], origin[2], bounds)
        if worst < 0:
            return int(segments)
        if worst < offset:
            return 0
        if worst - offset == actions:
            ease[actions] = 0.0
        elif outside:
            if not _ease_ends(ease, worst - offset):
                return 0
        else:
            ticks[worst - offset] = math.ceil(ticks[worst - offset] * min(GROWTH_MAX, 1.01 * excess))
    return 0
