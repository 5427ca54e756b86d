"""The last check of a plan: backward differences of the positions sent, the numbers that the arm itself checks."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from poco.bounds import Bounds, outside_guards, velocity_ratio
from poco.clock import TICK_S
from poco.compiled import kernel
from poco.enclosure import enclose, ends, keeps
from poco.kinematics import JOINTS, Floats, Frames, chain, frames
from poco.spline import Integers, place

TOLERANCE = 1e-9
DIFFERENCES = 3
"""A jerk is the third difference: it looks back over three ticks."""

PIECE_TICKS = 16
"""Pieces into which a segment is divided that its enclosure as a whole leaves open."""


class Motion(NamedTuple):
    """Where the check of single ticks is: position, velocity and acceleration [7] of the tick reached, and its chain."""

    q: Floats
    v: Floats
    a: Floats
    frame: Frames


@kernel
def _place_tick(knots: Integers, coefficients: Floats, segment: int, tick: int, q: Floats) -> None:
    """Fill the position [7] at `tick`, which lies in `segment`, before it, or (at rest) after the last one."""
    while segment > 0 and knots[segment] >= tick:
        segment -= 1
    place(coefficients[segment], (min(tick, knots[segment + 1]) - knots[segment]) * TICK_S, q)


@kernel
def _judge(
    knots: Integers, coefficients: Floats, segment: int, tick: int, before: Floats, motion: Motion, bounds: Bounds
) -> tuple[float, bool]:
    """Move on to `tick` from the one before; return the largest share of a limit there and whether it leaves what is allowed."""
    q, v, a, position = motion.q, motion.v, motion.a, motion.frame.position
    before[:] = q
    x, y, z = position[0], position[1], position[2]
    _place_tick(knots, coefficients, segment, tick, q)
    ratio = 0.0
    for joint in range(JOINTS):
        velocity = (q[joint] - before[joint]) / TICK_S
        acceleration = (velocity - v[joint]) / TICK_S
        jerk = (acceleration - a[joint]) / TICK_S
        v[joint], a[joint] = velocity, acceleration
        ratio = max(ratio, abs(acceleration) / bounds.acceleration_max[joint], abs(jerk) / bounds.jerk_max[joint])
    share, blocked = velocity_ratio(bounds, q, v)
    chain(q, bounds.flange_t_tip, motion.frame)
    moved = math.sqrt((position[0] - x) ** 2 + (position[1] - y) ** 2 + (position[2] - z) ** 2) / TICK_S
    return max(ratio, share, moved / bounds.speed_max), blocked or outside_guards(bounds, position)


@kernel
def verify(
    knots: Integers,
    coefficients: Floats,
    segments: int,
    settled: npt.NDArray[np.bool_],
    start_dq: Floats,
    start_ddq: Floats,
    bounds: Bounds,
) -> tuple[int, float, bool]:
    """Return the worst segment (-1 if none breaks a limit), its excess ratio and whether it leaves joint limits or guards.

    Judged are backward differences of the positions sent each tick, from those that the start state implies until the
    third tick of rest. Left out are ticks whose differences lie wholly in segments that an enclosure has `settled` [S], or
    in pieces of others that are settled here. The plan must be C2 and end at rest, which planners see to by construction.
    """
    motion = Motion(np.empty(JOINTS), np.empty(JOINTS), np.empty(JOINTS), frames())
    before, scratch = np.empty(JOINTS), ends()
    worst, excess, reached, exposed = -1, 1.0 + TOLERANCE, -1, 0
    for segment in range(segments):
        start, stop = knots[segment], knots[segment + 1]
        end = start
        while end < stop:
            begin, end = end, stop if settled[segment] else min(end + PIECE_TICKS, stop)
            last = end + DIFFERENCES if end == knots[segments] else end
            rows, onward = coefficients[segment], begin > start
            if settled[segment] or keeps(enclose(rows, begin - start, end - start, onward, bounds, scratch), 1.0, 1.0):
                last = min(last, exposed)
            else:
                exposed = end + DIFFERENCES - 1
            if last <= begin:
                continue
            if reached != begin:
                reached = max(0, begin + 1 - DIFFERENCES)
                _place_tick(knots, coefficients, segment, reached, motion.q)
                motion.v[:], motion.a[:] = start_dq - 0.5 * TICK_S * start_ddq, start_ddq
                chain(motion.q, bounds.flange_t_tip, motion.frame)
            while reached < last:
                reached += 1
                ratio, outside = _judge(knots, coefficients, segment, reached, before, motion, bounds)
                if outside and reached > begin:
                    return segment, ratio, True
                if ratio > excess and reached > begin:
                    worst, excess = segment, ratio
    return worst, excess, False
