"""Upper bounds of what a piece of a segment asks of the arm, from its two ends: most plans need no look at single ticks.

Between two points a time s apart a curve y leaves its chord by at most s^2 / 8 max|y''| (the error of linear interpolation). So
y stays within the range of its two ends, widened by that. Applied to jerk, acceleration, velocity and position of a joint in turn,
each bound feeds the next; the second derivatives of jerk and acceleration are constant and linear, so their maxima are exact.

The tip is the sum of seven link vectors of lengths l_m, and joints 1 ... m turn link m about axes of length one. Every partial
derivative of that vector is a nest of cross products with such axes, so none is longer than l_m. With V_m, A_m, J_m the sums of the
bounds of |v|, |a|, |j| over joints 1 ... m the chain rule gives for the tip x
    |x''|  <= sum_m l_m (A_m + V_m^2)
    |x'''| <= sum_m l_m (J_m + 3 A_m V_m + V_m^3),
the first for the tip's way between the two ends, the second for its velocity.

The arm differentiates the positions sent each tick of h = 1 ms backwards. Differences of a C2 curve are means of its derivatives
over the last one, two and three ticks. So where the derivatives keep a limit, the differences keep it too, and where the tip's
velocity keeps its cap (a ball, which is convex), so does its way in a tick. The room that the velocity bound depends on is the
least of the piece, its speed the greatest.

Positions are computed, not exact. In units of S = sum_k |c_k| t^k, Horner's rule errs by less than 10 u (u = 2^-53), the six
coefficients of a quintic between two given states by less than 160 u together: 2e-14 S from the exact curve that is C2 at the
seams. Pieces with S above SIZE_MAX_RAD are left open; below it ROUNDING_RAD covers them, and n-th differences err by 2^n times it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from poco.bounds import Bounds, velocity_bound
from poco.clock import TICK_S
from poco.compiled import kernel
from poco.kinematics import JOINTS, Floats, Frames, chain, frames, tip_speed
from poco.spline import evaluate

SIZE_MAX_RAD = 50.0
ROUNDING_RAD = 1e-12
"""Positions sent differ from those of one exact C2 curve by less than this, seams included."""

ROUNDING_M = 1e-11
"""The tip computed from such positions lies within this of the exact one: seven joints, none more than 1.3 m from it."""


class Enclosure(NamedTuple):
    """Upper bounds of the shares of the limits used anywhere in a piece, and whether its tip surely stays inside the guards."""

    velocity: float
    tip_speed: float
    acceleration: float
    jerk: float
    inside: bool


class Ends(NamedTuple):
    """Scratch of `enclose`: position, velocity, acceleration and jerk at both ends [2, 4, 7], tip and its speed there [2, 4]."""

    joints: Floats
    tips: Floats
    frame: Frames


@kernel
def ends() -> Ends:
    """Return empty scratch for `enclose`."""
    return Ends(np.empty((2, 4, JOINTS)), np.empty((2, 4)), frames())


@kernel
def _fill_tip(scratch: Ends, end: int, bounds: Bounds) -> None:
    frame = scratch.frame
    chain(scratch.joints[end, 0], bounds.flange_t_tip, frame)
    scratch.tips[end, :3] = frame.position
    scratch.tips[end, 3] = tip_speed(frame, scratch.joints[end, 1])


@kernel
def _size(rows: Floats, t: float, joint: int) -> float:
    """Return the sum of the magnitudes of the terms (rad) of a joint's polynomial, `t` seconds after the knot."""
    size = 0.0
    for power in range(5, -1, -1):
        size = size * t + abs(rows[power, joint])
    return size


@kernel
def keeps(enclosure: Enclosure, velocity_share: float, acceleration_share: float) -> bool:
    """Return whether a piece surely stays inside the guards and inside these shares of the limits."""
    return (
        enclosure.inside
        and max(enclosure.velocity, enclosure.tip_speed) <= velocity_share
        and max(enclosure.acceleration, enclosure.jerk) <= acceleration_share
    )


@kernel
def enclose(rows: Floats, begin: int, end: int, onward: bool, bounds: Bounds, scratch: Ends) -> Enclosure:
    """Return upper bounds over the ticks `begin` ... `end` of one segment [6, 7]; the head of this module says why they hold.

    `onward` says that the piece begins where the last call's ended, which saves the kinematics there.

    Shares of at most 1 are a proof for every tick whose differences lie wholly in such pieces. Shares above 1 say nothing: the
    ticks must be looked at. Numbers that are not finite give infinite shares.
    """
    first, last, tips = scratch.joints[0], scratch.joints[1], scratch.tips
    q0, v0, a0, j0 = first[0], first[1], first[2], first[3]
    q1, v1, a1, j1 = last[0], last[1], last[2], last[3]
    begin_s, end_s = begin * TICK_S, end * TICK_S
    evaluate(rows, begin_s, q0, v0, a0, j0)
    evaluate(rows, end_s, q1, v1, a1, j1)
    bend = (end_s - begin_s) ** 2 / 8.0
    velocity_share, acceleration_share, jerk_share, size = 0.0, 0.0, 0.0, 0.0
    turn, turn_2, turn_3 = 0.0, 0.0, 0.0
    tip_2, tip_3 = 0.0, 0.0
    for joint in range(JOINTS):
        size = max(size, _size(rows, end_s, joint))
        c4, c5 = 24.0 * rows[4, joint], 120.0 * rows[5, joint]
        jerk = max(abs(j0[joint]), abs(j1[joint])) + bend * abs(c5) + 8.0 * ROUNDING_RAD / TICK_S**3
        acceleration = max(abs(a0[joint]), abs(a1[joint])) + bend * max(abs(c4 + c5 * begin_s), abs(c4 + c5 * end_s))
        acceleration += 4.0 * ROUNDING_RAD / TICK_S**2
        spread, drift = bend * jerk + 2.0 * ROUNDING_RAD / TICK_S, bend * acceleration + ROUNDING_RAD
        fastest, slowest = max(v0[joint], v1[joint]) + spread, min(v0[joint], v1[joint]) - spread
        jerk_share = max(jerk_share, jerk / bounds.jerk_max[joint])
        acceleration_share = max(acceleration_share, acceleration / bounds.acceleration_max[joint])
        if fastest > 0.0:
            room = bounds.position_max[joint] - max(q0[joint], q1[joint]) - drift
            velocity_share = max(velocity_share, fastest / velocity_bound(bounds, joint, room))
        if slowest < 0.0:
            room = min(q0[joint], q1[joint]) - drift - bounds.position_min[joint]
            velocity_share = max(velocity_share, -slowest / velocity_bound(bounds, joint, room))
        turn += max(fastest, -slowest)
        turn_2 += acceleration
        turn_3 += jerk
        length = bounds.link_length[joint]
        tip_2 += length * (turn_2 + turn * turn)
        tip_3 += length * (turn_3 + turn * (3.0 * turn_2 + turn * turn))
    if onward:
        tips[0] = tips[1]
    else:
        _fill_tip(scratch, 0, bounds)
    _fill_tip(scratch, 1, bounds)
    speed = max(tips[0, 3], tips[1, 3]) + bend * tip_3 + 2.0 * ROUNDING_M / TICK_S
    if not math.isfinite(speed) or size > SIZE_MAX_RAD:
        return Enclosure(math.inf, math.inf, math.inf, math.inf, False)
    sway, inside = bend * tip_2 + ROUNDING_M, True
    for axis in range(3):
        low, high = min(tips[0, axis], tips[1, axis]) - sway, max(tips[0, axis], tips[1, axis]) + sway
        inside = inside and low >= bounds.box_min[axis] and high <= bounds.box_max[axis]
    return Enclosure(velocity_share, speed / bounds.speed_max, acceleration_share, jerk_share, inside)
