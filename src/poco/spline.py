"""Quintic segments of a ChunkSpline: making them from end states and evaluating them at ticks, compiled by numba."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from poco.clock import TICK_S
from poco.compiled import kernel

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

JOINTS = 7


@kernel
def join(q0: Floats, v0: Floats, a0: Floats, q1: Floats, v1: Floats, a1: Floats, ticks: int, rows: Floats) -> None:
    """Fill `rows` [6, 7] with the quintic from state (q0, v0, a0) to (q1, v1, a1) (rad, s) over `ticks`."""
    t = ticks * TICK_S
    for joint in range(JOINTS):
        offset = q1[joint] - (q0[joint] + t * (v0[joint] + 0.5 * t * a0[joint]))
        slope = t * (v1[joint] - (v0[joint] + t * a0[joint]))
        bend = 0.5 * t * t * (a1[joint] - a0[joint])
        rows[0, joint] = q0[joint]
        rows[1, joint] = v0[joint]
        rows[2, joint] = 0.5 * a0[joint]
        rows[3, joint] = (10.0 * offset - 4.0 * slope + bend) / t**3
        rows[4, joint] = (-15.0 * offset + 7.0 * slope - 2.0 * bend) / t**4
        rows[5, joint] = (6.0 * offset - 3.0 * slope + bend) / t**5


@kernel
def evaluate(rows: Floats, t: float, q: Floats, v: Floats, a: Floats, j: Floats) -> None:
    """Fill position, velocity, acceleration and jerk [7] of one segment `t` seconds after its knot."""
    for joint in range(JOINTS):
        c1, c2, c3, c4, c5 = rows[1, joint], rows[2, joint], rows[3, joint], rows[4, joint], rows[5, joint]
        q[joint] = rows[0, joint] + t * (c1 + t * (c2 + t * (c3 + t * (c4 + t * c5))))
        v[joint] = c1 + t * (2.0 * c2 + t * (3.0 * c3 + t * (4.0 * c4 + t * 5.0 * c5)))
        a[joint] = 2.0 * c2 + t * (6.0 * c3 + t * (12.0 * c4 + t * 20.0 * c5))
        j[joint] = 6.0 * c3 + t * (24.0 * c4 + t * 60.0 * c5)


@kernel
def place(rows: Floats, t: float, q: Floats) -> None:
    """Fill the position [7] of one segment `t` seconds after its knot."""
    for joint in range(JOINTS):
        c3, c4, c5 = rows[3, joint], rows[4, joint], rows[5, joint]
        q[joint] = rows[0, joint] + t * (rows[1, joint] + t * (rows[2, joint] + t * (c3 + t * (c4 + t * c5))))


@kernel
def locate(knots: Integers, segments: int, tick: int) -> int:
    """Return the segment that holds `tick`: the last one whose knot is not after it."""
    low, high = 0, segments - 1
    while low < high:
        middle = (low + high + 1) // 2
        if knots[middle] <= tick:
            low = middle
        else:
            high = middle - 1
    return low


@kernel
def _state(knots: Integers, coefficients: Floats, segments: int, tick: int) -> tuple[Floats, Floats, Floats]:
    q, v, a, j = np.empty(JOINTS), np.empty(JOINTS), np.empty(JOINTS), np.empty(JOINTS)
    segment = locate(knots, segments, tick)
    inside = min(max(tick, 0), knots[segments])
    evaluate(coefficients[segment], (inside - knots[segment]) * TICK_S, q, v, a, j)
    if tick >= knots[segments]:
        v[:] = 0.0
        a[:] = 0.0
    return q, v, a


def sample(spline: npt.NDArray[np.void], tick: int) -> tuple[Floats, Floats, Floats]:
    """Return planned position, velocity and acceleration [7] (rad, s) of a CHUNK_SPLINE record `tick` after its attachment.

    Past the last knot the arm rests there; before the first one the start state is returned. Any process may call it.
    """
    state: Any = _state(spline["knots"], spline["coefficients"], int(spline["segments"]), tick)
    return state[0], state[1], state[2]
