"""Motion limits of the FR3 and the record that `step()`, the planner and the emulated arm read them from.

Values: constants of libfranka 0.21's rate limiter and joint velocity limits (protocol 10, FR3). Units are rad, s, m.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from poco.records import LIMITS

Floats = npt.NDArray[np.float64]

JOINTS = 7
POSITION_MIN_RAD = np.array([-2.7501, -1.7918, -2.9065, -3.0481, -2.8101, 0.54092, -3.0196])
POSITION_MAX_RAD = np.array([2.7501, 1.7918, 2.9065, -0.1458, 2.8101, 4.5205, 3.0196])
VELOCITY_MAX_RAD_S = np.array([2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26])
VELOCITY_OFFSET_RAD_S = np.array([0.30, 0.20, 0.20, 0.30, 0.35, 0.35, 0.35])
DECELERATION_RAD_S2 = np.array([6.0, 2.585, 3.5, 4.0, 17.0, 5.5, 17.0])
ACCELERATION_MAX_RAD_S2 = np.full(JOINTS, 10.0)
JERK_MAX_RAD_S3 = np.full(JOINTS, 5000.0)
TORQUE_MAX_NM = np.array([87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0])
TORQUE_RATE_MAX_NM_S = 1000.0
TRANSLATION_SPEED_MAX_M_S = 3.0
TRANSLATION_ACCELERATION_MAX_M_S2 = 9.0
TRANSLATION_JERK_MAX_M_S3 = 4500.0
ROTATION_SPEED_MAX_RAD_S = 2.5
ROTATION_ACCELERATION_MAX_RAD_S2 = 17.0
ROTATION_JERK_MAX_RAD_S3 = 8500.0
ELBOW_SPEED_MAX_RAD_S = 1.5
ELBOW_ACCELERATION_MAX_RAD_S2 = 10.0
ELBOW_JERK_MAX_RAD_S3 = 5000.0


@dataclass(frozen=True, slots=True)
class Guards:
    """Cartesian guards of the tool tip in the base frame: box and table plane (m), speed cap (m/s), lead bounds (m, rad)."""

    box_min_m: tuple[float, float, float] = (0.2, -0.4, 0.0)
    box_max_m: tuple[float, float, float] = (0.75, 0.4, 0.8)
    table_z_m: float = 0.0
    speed_max_m_s: float = 0.25
    lead_max_m: float = 0.010
    lead_max_rad: float = 0.1


@dataclass(frozen=True, slots=True)
class Margins:
    """How much of the arm's limits is used: fractions of velocity, acceleration and jerk, and a position margin (rad)."""

    velocity: float = 0.9
    acceleration: float = 0.8
    jerk: float = 0.8
    position_rad: float = 0.02


STEP_MARGINS = Margins()
"""What `step()` enforces on every tick, whatever was planned."""

PLANNING_MARGINS = Margins(velocity=0.8, acceleration=0.75, jerk=0.75, position_rad=0.05)
"""What the planner aims for; the distance to STEP_MARGINS absorbs rounding and never triggers the servo."""

ROBOT_MARGINS = Margins(velocity=1.0, acceleration=1.0, jerk=1.0, position_rad=0.0)
"""The arm's own limits, as the emulated arm checks them."""


def fr3_limits(
    margins: Margins = STEP_MARGINS,
    guards: Guards | None = None,
    flange_t_tip: Floats | None = None,
) -> npt.NDArray[np.void]:
    """Return one LIMITS record (shape ()) of the FR3 scaled by `margins`.

    `flange_t_tip` [4, 4] is the pose of the tool tip in the flange frame (m); identity if None.
    Any process may call it.
    """
    bounds = guards or Guards()
    record = np.zeros((), LIMITS)
    record["position_min"] = POSITION_MIN_RAD + margins.position_rad
    record["position_max"] = POSITION_MAX_RAD - margins.position_rad
    record["velocity_max"] = VELOCITY_MAX_RAD_S * margins.velocity
    record["velocity_offset"] = VELOCITY_OFFSET_RAD_S
    record["deceleration"] = DECELERATION_RAD_S2
    record["velocity_scale"] = margins.velocity
    record["acceleration_max"] = ACCELERATION_MAX_RAD_S2 * margins.acceleration
    record["jerk_max"] = JERK_MAX_RAD_S3 * margins.jerk
    record["box_min"] = bounds.box_min_m
    record["box_max"] = bounds.box_max_m
    record["table_z"] = bounds.table_z_m
    record["speed_max"] = bounds.speed_max_m_s
    record["lead_max_m"] = bounds.lead_max_m
    record["lead_max_rad"] = bounds.lead_max_rad
    record["flange_t_tip"] = (np.eye(4) if flange_t_tip is None else flange_t_tip).ravel()
    record["hold_timeout_ticks"] = 60_000
    return record


@dataclass(frozen=True, slots=True)
class VelocityEnvelope:
    """Position-dependent joint velocity bounds of the FR3: v_up = min(v_max, max(0, sqrt(2 dec (q_max - q)) - off))."""

    limits: npt.NDArray[np.void] = field(default_factory=fr3_limits)

    def __call__(self, q: Floats) -> tuple[Floats, Floats]:
        """Return lower and upper velocity bounds [7] (rad/s) at `q` [7] (rad)."""
        limits, scale = self.limits, float(self.limits["velocity_scale"])
        above = np.sqrt(np.maximum(0.0, 2.0 * limits["deceleration"] * (limits["position_max"] - q)))
        below = np.sqrt(np.maximum(0.0, 2.0 * limits["deceleration"] * (q - limits["position_min"])))
        upper = np.minimum(limits["velocity_max"], scale * np.maximum(0.0, above - limits["velocity_offset"]))
        lower = -np.minimum(limits["velocity_max"], scale * np.maximum(0.0, below - limits["velocity_offset"]))
        return lower, upper
