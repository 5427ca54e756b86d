"""Joint targets of a chunk: tip deltas through the inverse kinematics, clamped into joint limits and guards."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from poco.bounds import Bounds, bounds_of, reach
from poco.compiled import kernel
from poco.kinematics import JOINTS, Floats, chain, forward, frames, inverse

INSIDE_M = (1e-3, 1e-2)
"""Targets stay this far inside the guards, which leaves room for the curve between them; the second where the first fails."""


@kernel
def _clamp_into_guards(position: Floats, bounds: Bounds, inside_m: float) -> bool:
    """Move `position` [3] (m) `inside_m` into the guards in place; return whether it had to move."""
    moved = False
    for axis in range(3):
        inside = min(max(position[axis], bounds.box_min[axis] + inside_m), bounds.box_max[axis] - inside_m)
        moved = moved or inside != position[axis]
        position[axis] = inside
    return moved


@kernel
def _tip_delta_targets(actions: Floats, q_base: Floats, flange_t_tip: Floats, q_rest: Floats, bounds: Bounds) -> Floats:
    lower, upper = reach(bounds)
    position, rotation = forward(q_base, flange_t_tip)
    targets = np.empty((actions.shape[0], JOINTS))
    q = q_base
    for k in range(actions.shape[0]):
        position += actions[k, :3]
        _clamp_into_guards(position, bounds, INSIDE_M[0])
        cosine, sine = math.cos(actions[k, 3]), math.sin(actions[k, 3])
        for column in range(3):
            x, y = rotation[0, column], rotation[1, column]
            rotation[0, column], rotation[1, column] = cosine * x - sine * y, sine * x + cosine * y
        q, _, _ = inverse(q, position, rotation, flange_t_tip, q_rest, lower, upper)
        targets[k] = q
    return targets


def tip_delta_targets(
    actions_m_rad: Floats, q_base: Floats, flange_t_tip: Floats, q_rest: Floats, limits: npt.NDArray[np.void]
) -> Floats:
    """Return joint targets [T, 7] (rad) of tip deltas [T, 4]: dx, dy, dz (m, base frame) and dyaw (rad, about base z).

    Deltas add up from the tip pose at `q_base` [7] (rad), the commanded posture at the attachment. Each sum is clamped
    into the guards before the inverse kinematics, which starts from the previous target and drifts towards `q_rest` [7].
    Targets out of reach are approached as far as the joint limits allow. Non-finite actions give non-finite targets,
    which `plan_chunk` refuses. Never raises; any process may call it.
    """
    targets: Floats = _tip_delta_targets(
        np.array(actions_m_rad, np.float64),
        np.array(q_base, np.float64),
        np.array(flange_t_tip, np.float64),
        np.array(q_rest, np.float64),
        bounds_of(limits),
    )
    return targets


def executed_action(q_before: Floats, q_after: Floats, flange_t_tip: Floats) -> Floats:
    """Return the tip delta [4] (m, m, m, rad) between two commanded postures [7] (rad), inverse of `tip_delta_targets`.

    The yaw is the rotation about base z nearest to the rotation made. Any process may call it.
    """
    mount = np.array(flange_t_tip, np.float64)
    before, rotation_before = forward(np.array(q_before, np.float64), mount)
    after, rotation_after = forward(np.array(q_after, np.float64), mount)
    turn = rotation_after @ rotation_before.T
    return np.array([*(after - before), math.atan2(turn[1, 0] - turn[0, 1], turn[0, 0] + turn[1, 1])])


@kernel
def guard_targets(targets: Floats, bounds: Bounds, inside_m: float) -> None:
    """Clamp joint targets [T, 7] in place into reach and, where their tip leaves the guards, to the nearest tip inside."""
    lower, upper = reach(bounds)
    frame = frames()
    for k in range(targets.shape[0]):
        targets[k] = np.minimum(np.maximum(targets[k], lower), upper)
        chain(targets[k], bounds.flange_t_tip, frame)
        position, rotation = frame.position.copy(), frame.rotation.copy()
        if _clamp_into_guards(position, bounds, inside_m):
            q, _, _ = inverse(targets[k], position, rotation, bounds.flange_t_tip, targets[k], lower, upper)
            targets[k] = q
