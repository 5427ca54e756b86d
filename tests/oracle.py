"""An independent judge of sent joint commands: numpy only, constants typed from the vendor's tables, own kinematics.

It imports nothing of poco and differentiates what was sent, as the arm does: backward differences at 1 kHz.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# joint: lower and upper position (rad), velocity (rad/s), offset (rad/s) and deceleration (rad/s^2) of its envelope
FR3 = np.array(
    [
        [-2.7501, 2.7501, 2.62, 0.30, 6.0],
        [-1.7918, 1.7918, 2.62, 0.20, 2.585],
        [-2.9065, 2.9065, 2.62, 0.20, 3.5],
        [-3.0481, -0.1458, 2.62, 0.30, 4.0],
        [-2.8101, 2.8101, 5.26, 0.35, 17.0],
        [0.54092, 4.5205, 4.18, 0.35, 5.5],
        [-3.0196, 3.0196, 5.26, 0.35, 17.0],
    ]
)
ACCELERATION_RAD_S2 = 10.0
JERK_RAD_S3 = 5000.0
TICK_S = 1e-3

# modified Denavit-Hartenberg parameters of the arm: a (m), d (m), alpha (rad); the last row is the flange
CRAIG = np.array(
    [
        [0.0, 0.333, 0.0],
        [0.0, 0.0, -np.pi / 2],
        [0.0, 0.316, np.pi / 2],
        [0.0825, 0.0, np.pi / 2],
        [-0.0825, 0.384, -np.pi / 2],
        [0.0, 0.0, np.pi / 2],
        [0.088, 0.0, np.pi / 2],
        [0.0, 0.107, 0.0],
    ]
)


@dataclass(frozen=True)
class Share:
    """Share of the arm's limits that is allowed, and the distance (rad) kept to its position limits."""

    velocity: float = 1.0
    acceleration: float = 1.0
    jerk: float = 1.0
    position_rad: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """Violations by name (ticks x joints), the largest share of each limit in use, and how many ticks used above 80 % of
    the velocity that the position of some joint allows.
    """

    violations: dict[str, int]
    largest: dict[str, float]
    near_envelope: int

    @property
    def clean(self) -> bool:
        """Whether nothing was violated."""
        return sum(self.violations.values()) == 0


def tip_positions(q: Floats, flange_t_tip: Floats) -> Floats:
    """Return tip positions [N, 3] (m) of postures [N, 7] (rad)."""
    pose = np.broadcast_to(np.eye(4), (len(q), 4, 4))
    for row, (a, d, alpha) in enumerate(CRAIG):
        angle = q[:, row] if row < 7 else np.zeros(len(q))
        cosine, sine = np.cos(angle), np.sin(angle)
        link = np.zeros((len(q), 4, 4))
        link[:, 0, 0], link[:, 0, 1], link[:, 0, 3] = cosine, -sine, a
        link[:, 1, 0], link[:, 1, 1] = sine * np.cos(alpha), cosine * np.cos(alpha)
        link[:, 1, 2], link[:, 1, 3] = -np.sin(alpha), -d * np.sin(alpha)
        link[:, 2, 0], link[:, 2, 1] = sine * np.sin(alpha), cosine * np.sin(alpha)
        link[:, 2, 2], link[:, 2, 3] = np.cos(alpha), d * np.cos(alpha)
        link[:, 3, 3] = 1.0
        pose = pose @ link
    tips: Floats = (pose @ flange_t_tip)[:, :3, 3]
    return tips


def judge(commands: Floats, share: Share, flange_t_tip: Floats, speed_max_m_s: float, history: int = 0) -> Verdict:
    """Judge joint commands [N, 7] (rad), one each ms, the first of them at rest.

    With `history` (3 or more) the first commands are only what came before those to be judged, in whatever motion.
    """
    if history == 0:
        commands, history = np.vstack([np.repeat(commands[:1], 3, axis=0), commands]), 3
    lower, upper, velocity_max, offset, deceleration = FR3.T
    rates = np.diff(commands, axis=0) / TICK_S
    accelerations = np.diff(rates, axis=0) / TICK_S
    jerk = np.diff(accelerations, axis=0)[history - 3 :] / TICK_S
    acceleration, velocity, q = accelerations[history - 2 :], rates[history - 1 :], commands[history:]

    def envelope(room: Floats) -> Floats:
        speed = np.maximum(0.0, np.sqrt(2.0 * deceleration * np.maximum(0.0, room)) - offset)
        bound: Floats = share.velocity * np.minimum(velocity_max, speed)
        return bound

    above, below = envelope(upper - share.position_rad - q), envelope(q - lower - share.position_rad)
    middle, half = 0.5 * (upper + lower), 0.5 * (upper - lower) - share.position_rad
    tips = tip_positions(commands[history - 1 :], flange_t_tip)
    tip_speed = np.linalg.norm(np.diff(tips, axis=0), axis=1) / TICK_S
    rounding = 1.0 + 1e-6
    return Verdict(
        violations={
            "position": int(np.sum(np.abs(q - middle) > half + 1e-9)),
            "velocity": int(np.sum((velocity > above * rounding + 1e-9) | (-velocity > below * rounding + 1e-9))),
            "acceleration": int(np.sum(np.abs(acceleration) > share.acceleration * ACCELERATION_RAD_S2 * rounding)),
            "jerk": int(np.sum(np.abs(jerk) > share.jerk * JERK_RAD_S3 * rounding)),
            "tip_speed": int(np.sum(tip_speed > speed_max_m_s * rounding)),
        },
        largest={
            "position": float(np.max(np.abs(q - middle) / half)),
            "velocity": float(np.max(np.abs(velocity) / (share.velocity * velocity_max))),
            "acceleration": float(np.max(np.abs(acceleration))) / (share.acceleration * ACCELERATION_RAD_S2),
            "jerk": float(np.max(np.abs(jerk))) / (share.jerk * JERK_RAD_S3),
            "tip_speed": float(np.max(tip_speed)) / speed_max_m_s,
        },
        near_envelope=int(np.sum(np.any((velocity > 0.8 * above + 1e-3) | (-velocity > 0.8 * below + 1e-3), axis=1))),
    )


def positions(knots: npt.NDArray[np.int64], coefficients: Floats, ticks: npt.NDArray[np.int64]) -> Floats:
    """Return positions [N, 7] of a piecewise polynomial with knots [S + 1] (ticks) and coefficients [S, 6, 7] at ticks [N]."""
    inside = np.clip(ticks, 0, knots[-1])
    segment = np.clip(np.searchsorted(knots, inside, side="right") - 1, 0, len(knots) - 2)
    powers = ((inside - knots[segment]) * TICK_S)[:, None] ** np.arange(6)
    result: Floats = np.einsum("np,npj->nj", powers, coefficients[segment])
    return result
