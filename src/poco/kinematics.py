"""Kinematics of the FR3: forward, geometric Jacobian and damped differential inverse, compiled by numba.

Link table: joint origins and rolls of the vendor's FR3 description (m, rad). Every function is pure and deterministic and
may be called from any process; none allocates more than its result needs and none calls into a linear-algebra library.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from poco.compiled import kernel

Floats = npt.NDArray[np.float64]

JOINTS = 7
ORIGINS_M = np.array(
    [
        [0.0, 0.0, 0.333],
        [0.0, 0.0, 0.0],
        [0.0, -0.316, 0.0],
        [0.0825, 0.0, 0.0],
        [-0.0825, 0.384, 0.0],
        [0.0, 0.0, 0.0],
        [0.088, 0.0, 0.0],
    ]
)
"""Origin of each joint frame in its parent [7, 3]."""

ROLL_SINES = np.array([0.0, -1.0, 1.0, 1.0, -1.0, 1.0, 1.0])
"""Sine of each joint frame's roll about its parent's x axis [7]; every roll is 0 or a right angle."""

FLANGE_M = 0.107
"""Flange along z of joint 7."""

STEP_MAX_RAD = 0.2
DAMPING_FLOOR = 1e-6
DAMPING_GAIN = 0.5
CONVERGED = 1e-7


class Frames(NamedTuple):
    """Scratch of one chain: axis [7, 3] and origin [7, 3] of each joint, rotation [3, 3] and position [3] of the tip."""

    axes: Floats
    origins: Floats
    rotation: Floats
    position: Floats


@kernel
def frames() -> Frames:
    """Return empty scratch for `chain`."""
    return Frames(np.empty((JOINTS, 3)), np.empty((JOINTS, 3)), np.empty((3, 3)), np.empty(3))


@kernel
def chain(q: Floats, flange_t_tip: Floats, result: Frames) -> None:
    """Fill `result` with the joint axes, joint origins and tip pose in the base frame at `q` [7] (rad)."""
    x0, x1, x2 = 1.0, 0.0, 0.0
    y0, y1, y2 = 0.0, 1.0, 0.0
    z0, z1, z2 = 0.0, 0.0, 1.0
    p0, p1, p2 = 0.0, 0.0, 0.0
    for joint in range(JOINTS):
        a, b, c = ORIGINS_M[joint, 0], ORIGINS_M[joint, 1], ORIGINS_M[joint, 2]
        p0 += x0 * a + y0 * b + z0 * c
        p1 += x1 * a + y1 * b + z1 * c
        p2 += x2 * a + y2 * b + z2 * c
        roll = ROLL_SINES[joint]
        if roll != 0.0:
            y0, z0 = roll * z0, -roll * y0
            y1, z1 = roll * z1, -roll * y1
            y2, z2 = roll * z2, -roll * y2
        result.axes[joint, 0], result.axes[joint, 1], result.axes[joint, 2] = z0, z1, z2
        result.origins[joint, 0], result.origins[joint, 1], result.origins[joint, 2] = p0, p1, p2
        cosine, sine = math.cos(q[joint]), math.sin(q[joint])
        x0, y0 = cosine * x0 + sine * y0, cosine * y0 - sine * x0
        x1, y1 = cosine * x1 + sine * y1, cosine * y1 - sine * x1
        x2, y2 = cosine * x2 + sine * y2, cosine * y2 - sine * x2
    for column in range(3):
        a, b, c = flange_t_tip[0, column], flange_t_tip[1, column], flange_t_tip[2, column]
        result.rotation[0, column] = x0 * a + y0 * b + z0 * c
        result.rotation[1, column] = x1 * a + y1 * b + z1 * c
        result.rotation[2, column] = x2 * a + y2 * b + z2 * c
    a, b, c = flange_t_tip[0, 3], flange_t_tip[1, 3], flange_t_tip[2, 3] + FLANGE_M
    result.position[0] = p0 + x0 * a + y0 * b + z0 * c
    result.position[1] = p1 + x1 * a + y1 * b + z1 * c
    result.position[2] = p2 + x2 * a + y2 * b + z2 * c


@kernel
def tip_speed(frame: Frames, dq: Floats) -> float:
    """Return the speed of the tip (m/s) at joint velocities `dq` [7] (rad/s) for a chain already filled."""
    v0, v1, v2 = 0.0, 0.0, 0.0
    for joint in range(JOINTS):
        z0, z1, z2 = frame.axes[joint, 0], frame.axes[joint, 1], frame.axes[joint, 2]
        a = frame.position[0] - frame.origins[joint, 0]
        b = frame.position[1] - frame.origins[joint, 1]
        c = frame.position[2] - frame.origins[joint, 2]
        v0 += dq[joint] * (z1 * c - z2 * b)
        v1 += dq[joint] * (z2 * a - z0 * c)
        v2 += dq[joint] * (z0 * b - z1 * a)
    return math.sqrt(v0 * v0 + v1 * v1 + v2 * v2)


@kernel
def link_lengths(flange_t_tip: Floats) -> Floats:
    """Return the length [7] (m) of the link that each joint turns: to the next joint's origin, the last one to the tip."""
    lengths = np.empty(JOINTS)
    for joint in range(JOINTS - 1):
        lengths[joint] = math.sqrt(np.sum(ORIGINS_M[joint + 1] ** 2))
    a, b, c = flange_t_tip[0, 3], flange_t_tip[1, 3], flange_t_tip[2, 3] + FLANGE_M
    lengths[JOINTS - 1] = math.sqrt(a * a + b * b + c * c)
    return lengths


@kernel
def forward(q: Floats, flange_t_tip: Floats) -> tuple[Floats, Floats]:
    """Return position [3] (m) and rotation [3, 3] of the tip in the base frame at `q` [7] (rad).

    `flange_t_tip` [4, 4] is the pose of the tip in the flange frame (m).
    """
    frame = frames()
    chain(q, flange_t_tip, frame)
    return frame.position, frame.rotation


@kernel
def _fill_jacobian(frame: Frames, result: Floats) -> None:
    for joint in range(JOINTS):
        z0, z1, z2 = frame.axes[joint, 0], frame.axes[joint, 1], frame.axes[joint, 2]
        a = frame.position[0] - frame.origins[joint, 0]
        b = frame.position[1] - frame.origins[joint, 1]
        c = frame.position[2] - frame.origins[joint, 2]
        result[0, joint] = z1 * c - z2 * b
        result[1, joint] = z2 * a - z0 * c
        result[2, joint] = z0 * b - z1 * a
        result[3, joint] = z0
        result[4, joint] = z1
        result[5, joint] = z2


@kernel
def jacobian(q: Floats, flange_t_tip: Floats) -> Floats:
    """Return the geometric Jacobian [6, 7] of the tip in the base frame: m/s over rad/s, then rad/s over rad/s."""
    frame = frames()
    chain(q, flange_t_tip, frame)
    result = np.empty((6, JOINTS))
    _fill_jacobian(frame, result)
    return result


@kernel
def _pose_error(frame: Frames, position: Floats, rotation: Floats, error: Floats) -> tuple[float, float]:
    """Fill `error` [6] with the offset (m) and rotation vector (rad) from the tip to the target; return both norms."""
    for row in range(3):
        error[row] = position[row] - frame.position[row]
    trace = 0.0
    for row in range(3):
        error[3 + row] = 0.0
    for column in range(3):
        have, want = frame.rotation[:, column], rotation[:, column]
        trace += have[0] * want[0] + have[1] * want[1] + have[2] * want[2]
        error[3] += 0.5 * (have[1] * want[2] - have[2] * want[1])
        error[4] += 0.5 * (have[2] * want[0] - have[0] * want[2])
        error[5] += 0.5 * (have[0] * want[1] - have[1] * want[0])
    sine = math.sqrt(error[3] ** 2 + error[4] ** 2 + error[5] ** 2)
    angle = math.atan2(sine, 0.5 * (trace - 1.0))
    if sine > 1e-9:
        for row in range(3, 6):
            error[row] *= angle / sine
    return math.sqrt(error[0] ** 2 + error[1] ** 2 + error[2] ** 2), angle


@kernel
def _solve_spd(matrix: Floats, vector: Floats) -> None:
    """Solve a symmetric positive definite system in place by Cholesky; `vector` becomes the solution."""
    size = vector.shape[0]
    for row in range(size):
        for column in range(row + 1):
            total = matrix[row, column]
            for k in range(column):
                total -= matrix[row, k] * matrix[column, k]
            matrix[row, column] = math.sqrt(total) if row == column else total / matrix[column, column]
    for row in range(size):
        for k in range(row):
            vector[row] -= matrix[row, k] * vector[k]
        vector[row] /= matrix[row, row]
    for row in range(size - 1, -1, -1):
        for k in range(row + 1, size):
            vector[row] -= matrix[k, row] * vector[k]
        vector[row] /= matrix[row, row]


@kernel
def inverse(
    q_start: Floats,
    position: Floats,
    rotation: Floats,
    flange_t_tip: Floats,
    q_rest: Floats,
    q_min: Floats,
    q_max: Floats,
    posture_gain: float = 0.02,
    iterations: int = 30,
) -> tuple[Floats, float, float]:
    """Return joint angles [7] (rad) near `q_start` that reach a tip pose, with the residual left (m, rad).

    Damped least squares with error-dependent damping (Sugihara 2011); the null space takes one step of `posture_gain`
    towards `q_rest`, so that a chain of nearby targets drifts slowly to the rest posture. Joints stay inside `q_min`,
    `q_max`; a joint that runs into its limit is frozen there for the rest of the call.
    """
    q = np.minimum(np.maximum(q_start, q_min), q_max)
    frame = frames()
    columns = np.empty((6, JOINTS))
    normal = np.empty((6, 6))
    error = np.empty(6)
    pull = posture_gain * (q_rest - q)
    step = np.empty(JOINTS)
    frozen = np.zeros(JOINTS, np.bool_)
    chain(q, flange_t_tip, frame)
    residual_m, residual_rad = _pose_error(frame, position, rotation, error)
    for iteration in range(iterations):
        if iteration > 0 and residual_m < CONVERGED and residual_rad < CONVERGED:
            break
        _fill_jacobian(frame, columns)
        for joint in range(JOINTS):
            if frozen[joint]:
                columns[:, joint] = 0.0
                pull[joint] = 0.0
        damping = DAMPING_FLOOR + DAMPING_GAIN * (residual_m**2 + residual_rad**2)
        for row in range(6):
            for column in range(row + 1):
                total = damping if row == column else 0.0
                for joint in range(JOINTS):
                    total += columns[row, joint] * columns[column, joint]
                normal[row, column] = total
            for joint in range(JOINTS):
                error[row] -= columns[row, joint] * pull[joint]
        _solve_spd(normal, error)
        longest = 0.0
        for joint in range(JOINTS):
            step[joint] = pull[joint]
            for row in range(6):
                step[joint] += columns[row, joint] * error[row]
            longest = max(longest, abs(step[joint]))
        scale = min(1.0, STEP_MAX_RAD / longest) if longest > 0.0 else 1.0
        for joint in range(JOINTS):
            wanted = q[joint] + scale * step[joint]
            q[joint] = min(max(wanted, q_min[joint]), q_max[joint])
            frozen[joint] |= q[joint] != wanted
            pull[joint] = 0.0
        chain(q, flange_t_tip, frame)
        residual_m, residual_rad = _pose_error(frame, position, rotation, error)
    return q, residual_m, residual_rad
