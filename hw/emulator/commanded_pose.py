"""The commanded pose as the arm sees it: backward differences of what was received, checked against the arm's Cartesian limits."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from poco.clock import TICK_S, TICKS_PER_SECOND
from poco.limits import (
    ROTATION_ACCELERATION_MAX_RAD_S2,
    ROTATION_JERK_MAX_RAD_S3,
    ROTATION_SPEED_MAX_RAD_S,
    TRANSLATION_ACCELERATION_MAX_M_S2,
    TRANSLATION_JERK_MAX_M_S3,
    TRANSLATION_SPEED_MAX_M_S,
)

from .protocol import Error
from .transforms import difference, displaced

Floats = npt.NDArray[np.float64]

START_POSE_TOLERANCE = 1e-3
"""How far (m, rad) the first command of a motion may be from where the arm is. Our choice; the vendor states none."""


class CommandedPose:
    """Pose [4, 4] of the end effector, twist and acceleration [6] (m, rad; axes of the base) of the newest command of a motion."""

    def __init__(self) -> None:
        """Be nowhere until a motion begins."""
        self.O_T_EE = np.eye(4)
        self.twist = np.zeros(6)
        self.acceleration = np.zeros(6)

    def begin(self, O_T_EE: Floats) -> None:
        """Begin a motion at rest at `O_T_EE` [4, 4] (m)."""
        self.take(O_T_EE, np.zeros(6), np.zeros(6))

    def differentiate(self, O_T_EE: Floats) -> tuple[Floats, Floats]:
        """Return twist and acceleration [6] that a move to `O_T_EE` within this tick means (backward Euler, 1 ms)."""
        twist = difference(self.O_T_EE, O_T_EE) * TICKS_PER_SECOND
        return twist, (twist - self.twist) * TICKS_PER_SECOND

    def integrate(self, twist: Floats) -> tuple[Floats, Floats]:
        """Return pose [4, 4] and acceleration [6] that a tick of `twist` [6] means."""
        return displaced(self.O_T_EE, twist * TICK_S), (twist - self.twist) * TICKS_PER_SECOND

    def take(self, O_T_EE: Floats, twist: Floats, acceleration: Floats) -> None:
        """Make pose, twist and acceleration the command of this tick."""
        self.O_T_EE[:], self.twist[:], self.acceleration[:] = O_T_EE, twist, acceleration

    def extrapolate(self) -> None:
        """Continue for one tick with constant acceleration, as the arm does when a command is lost."""
        twist = self.twist + self.acceleration * TICK_S
        self.take(displaced(self.O_T_EE, twist * TICK_S), twist, self.acceleration)


def start_violations(pose: CommandedPose, O_T_EE: Floats) -> list[Error]:
    """Return the error of a first command `O_T_EE` [4, 4] (m) that is not where the arm is."""
    far = np.abs(difference(pose.O_T_EE, O_T_EE)).max() > START_POSE_TOLERANCE
    return [Error.CARTESIAN_START_POSE_INVALID] if far else []


def violations(pose: CommandedPose, twist: Floats, acceleration: Floats) -> list[Error]:
    """Return every Cartesian limit that the step of `pose` to `twist`, `acceleration` [6] breaks; empty if none."""
    jerk = (acceleration - pose.acceleration) * TICKS_PER_SECOND
    found = []
    if _beyond(twist, TRANSLATION_SPEED_MAX_M_S, ROTATION_SPEED_MAX_RAD_S):
        found.append(Error.CARTESIAN_VELOCITY_LIMITS)
    if _beyond(acceleration, TRANSLATION_ACCELERATION_MAX_M_S2, ROTATION_ACCELERATION_MAX_RAD_S2):
        found.append(Error.CARTESIAN_VELOCITY_DISCONTINUITY)
    if _beyond(jerk, TRANSLATION_JERK_MAX_M_S3, ROTATION_JERK_MAX_RAD_S3):
        found.append(Error.CARTESIAN_ACCELERATION_DISCONTINUITY)
    return found


def _beyond(vector: Floats, translation_max: float, rotation_max: float) -> bool:
    return math.hypot(*vector[:3]) > translation_max or math.hypot(*vector[3:]) > rotation_max
