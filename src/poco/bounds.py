"""The limits in the form compiled code reads, and the questions it asks of them."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from poco.compiled import kernel
from poco.kinematics import JOINTS, Floats, link_lengths

ROUNDING_RAD_S = 1e-9
BRAKE_SHARE = 0.8
"""Share of the acceleration limit that a stop before a joint limit may need from any planned state."""

CREEP_RAD_S = 0.05
"""Where the envelope allows less than this the joint limit itself is the obstacle, and slowing down does not help."""

APPROACH_RAD_S = 0.2
"""Targets stay where the position-dependent velocity bound still allows this speed towards the joint limit."""


class Bounds(NamedTuple):
    """A LIMITS record as plain arrays for compiled code; box_min already holds the table plane."""

    position_min: Floats
    position_max: Floats
    velocity_max: Floats
    velocity_offset: Floats
    deceleration: Floats
    acceleration_max: Floats
    jerk_max: Floats
    velocity_scale: float
    box_min: Floats
    box_max: Floats
    speed_max: float
    flange_t_tip: Floats
    link_length: Floats


def bounds_of(limits: npt.NDArray[np.void], speed: float = 1.0) -> Bounds:
    """Return a LIMITS record as arrays for compiled code, with velocities and accelerations scaled by `speed`."""

    def copy(name: str) -> Floats:
        return np.array(limits[name], np.float64)

    flange_t_tip = copy("flange_t_tip").reshape(4, 4)
    box_min = copy("box_min")
    box_min[2] = max(box_min[2], float(limits["table_z"]))
    return Bounds(
        copy("position_min"),
        copy("position_max"),
        copy("velocity_max") * speed,
        copy("velocity_offset"),
        copy("deceleration"),
        copy("acceleration_max") * speed,
        copy("jerk_max") * speed,
        float(limits["velocity_scale"]) * speed,
        box_min,
        copy("box_max"),
        float(limits["speed_max"]) * speed,
        flange_t_tip,
        link_lengths(flange_t_tip),
    )


@kernel
def velocity_bound(bounds: Bounds, joint: int, room: float) -> float:
    """Return the highest speed (rad/s) of `joint` towards a limit that is `room` (rad) away.

    The arm's own position-dependent bound, and the speed from which BRAKE_SHARE of the acceleration limit still stops
    the joint in time (the arm's bound alone promises too much for joints 5 and 7).
    """
    if room <= 0.0:
        return 0.0
    envelope = math.sqrt(2.0 * bounds.deceleration[joint] * room) - bounds.velocity_offset[joint]
    brake = math.sqrt(2.0 * BRAKE_SHARE * bounds.acceleration_max[joint] * room)
    return float(min(bounds.velocity_max[joint], brake, bounds.velocity_scale * max(0.0, envelope)))


@kernel
def outside_guards(bounds: Bounds, position: Floats) -> bool:
    """Return whether a tip position [3] (m) lies outside box or table plane."""
    outside = False
    for axis in range(3):
        outside = outside or position[axis] < bounds.box_min[axis] or position[axis] > bounds.box_max[axis]
    return outside


@kernel
def velocity_ratio(bounds: Bounds, q: Floats, v: Floats) -> tuple[float, bool]:
    """Return the largest share of the velocity bounds in use, and whether a joint limit itself stands in the way."""
    ratio, blocked = 0.0, False
    for joint in range(JOINTS):
        room = bounds.position_max[joint] - q[joint] if v[joint] > 0.0 else q[joint] - bounds.position_min[joint]
        bound, speed = velocity_bound(bounds, joint, room), abs(v[joint])
        if bound >= CREEP_RAD_S:
            ratio = max(ratio, speed / bound)
        elif speed > bound + ROUNDING_RAD_S:
            blocked = True
    return ratio, blocked


@kernel
def reach(bounds: Bounds) -> tuple[Floats, Floats]:
    """Return the joint interval [7], [7] (rad) in which targets may lie: APPROACH_RAD_S is still allowed at its ends."""
    lower, upper = bounds.position_min.copy(), bounds.position_max.copy()
    for joint in range(JOINTS):
        arm = (bounds.velocity_offset[joint] + APPROACH_RAD_S / bounds.velocity_scale) ** 2 / bounds.deceleration[joint]
        brake = APPROACH_RAD_S**2 / (BRAKE_SHARE * bounds.acceleration_max[joint])
        room = 0.5 * max(arm, brake)
        lower[joint] += room
        upper[joint] -= room
    return lower, upper
