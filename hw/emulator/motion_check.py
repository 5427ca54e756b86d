"""The commanded motion as the arm sees it: backward differences of what was received, checked against the arm's limits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from poco.clock import TICK_S, TICKS_PER_SECOND
from poco.limits import JOINTS, ROBOT_MARGINS, VelocityEnvelope, fr3_limits

from .protocol import Error

Floats = npt.NDArray[np.float64]

START_POSE_TOLERANCE_RAD = 1e-3
"""How far the first command of a motion may be from q_d. Our choice; the vendor states none."""


class CommandedMotion:
    """Position, velocity and acceleration [7] (rad, rad/s, rad/s^2) that the arm follows, one tick at a time.

    `q`, `dq`, `ddq` are what the state reports as q_d, dq_d, ddq_d. Used by the emulator and by the environment.
    """

    def __init__(self, q: Floats) -> None:
        """Start at rest at `q` [7] (rad)."""
        self.q = np.array(q, dtype=np.float64)
        self.dq = np.zeros(JOINTS)
        self.ddq = np.zeros(JOINTS)

    @property
    def at_rest(self) -> bool:
        """Whether the commanded velocity and acceleration are exactly zero."""
        return not (self.dq.any() or self.ddq.any())

    def differentiate(self, q: Floats) -> tuple[Floats, Floats]:
        """Return velocity and acceleration [7] that a move to `q` [7] within this tick means (backward Euler, 1 ms)."""
        dq = (q - self.q) * TICKS_PER_SECOND
        return dq, (dq - self.dq) * TICKS_PER_SECOND

    def take(self, q: Floats, dq: Floats, ddq: Floats) -> None:
        """Make `q` [7] with its derivatives from `differentiate` the command of this tick."""
        self.q[:], self.dq[:], self.ddq[:] = q, dq, ddq

    def extrapolate(self) -> None:
        """Continue for one tick with constant acceleration, as the arm does when a command is lost."""
        self.dq += self.ddq * TICK_S
        self.q += self.dq * TICK_S

    def brake(self, deceleration: Floats) -> None:
        """Slow every joint down for one tick by at most `deceleration` [7] (rad/s^2), to rest."""
        change = np.clip(-self.dq, -deceleration * TICK_S, deceleration * TICK_S)
        self.ddq[:] = change * TICKS_PER_SECOND
        self.dq += change
        self.q += self.dq * TICK_S

    def accompany(self, q: Floats, dq: Floats) -> None:
        """Be where the arm is measured to be, `q`, `dq` [7] (rad, rad/s), because something else than this motion drives it."""
        self.q[:], self.dq[:], self.ddq[:] = q, dq, 0.0

    def give_way(self, q: Floats) -> None:
        """Stop pushing: command rest where the arm is measured to be, at `q` [7] (rad)."""
        self.q[:], self.dq[:], self.ddq[:] = q, 0.0, 0.0


class LimitErrors(NamedTuple):
    """What the arm calls a broken limit of the joints: position, velocity, acceleration, jerk."""

    position: Error
    velocity: Error
    acceleration: Error
    jerk: Error


JOINT_COMMANDS = LimitErrors(
    Error.JOINT_POSITION_LIMITS,
    Error.JOINT_VELOCITY_LIMITS,
    Error.JOINT_VELOCITY_DISCONTINUITY,
    Error.JOINT_ACCELERATION_DISCONTINUITY,
)
INVERSE_KINEMATICS = LimitErrors(
    Error.CARTESIAN_JOINT_POSITION_LIMITS,
    Error.CARTESIAN_JOINT_VELOCITY_LIMITS,
    Error.CARTESIAN_JOINT_VELOCITY_DISCONTINUITY,
    Error.CARTESIAN_JOINT_ACCELERATION_DISCONTINUITY,
)
"""Names where the joints were commanded themselves, and where they follow from a commanded pose."""


class MotionCheck:
    """The limits of the FR3 on received joint positions: position, velocity by position, acceleration, jerk."""

    def __init__(self, errors: LimitErrors = JOINT_COMMANDS) -> None:
        """Use the arm's own limits, without margin; `errors` says what it calls a broken one."""
        limits = fr3_limits(ROBOT_MARGINS)
        self._errors = errors
        self._envelope = VelocityEnvelope(limits)
        self._position_min: Floats = limits["position_min"]
        self._position_max: Floats = limits["position_max"]
        self.acceleration_max: Floats = limits["acceleration_max"]
        self._acceleration_step_max: Floats = limits["jerk_max"] * TICK_S

    def start_violations(self, motion: CommandedMotion, q: Floats) -> list[Error]:
        """Return the error of a first command `q` [7] (rad) that is not where the arm is."""
        far = np.abs(q - motion.q).max() > START_POSE_TOLERANCE_RAD
        return [Error.START_POSE_INVALID] if far else []

    def take(self, motion: CommandedMotion, q: Floats, dq: Floats, ddq: Floats) -> list[Error]:
        """Make `q`, `dq`, `ddq` [7] the command of this tick of `motion`, or leave it and return the limits that they break."""
        found = self.violations(motion, q, dq, ddq)
        if not found:
            motion.take(q, dq, ddq)
        return found

    def violations(self, motion: CommandedMotion, q: Floats, dq: Floats, ddq: Floats) -> list[Error]:
        """Return every limit that the step of `motion` to `q`, `dq`, `ddq` [7] breaks; empty if none."""
        found = []
        if (q < self._position_min).any() or (q > self._position_max).any():
            found.append(self._errors.position)
        slowest, fastest = self._envelope(q)
        if (dq < slowest).any() or (dq > fastest).any():
            found.append(self._errors.velocity)
        if (np.abs(ddq) > self.acceleration_max).any():
            found.append(self._errors.acceleration)
        if (np.abs(ddq - motion.ddq) > self._acceleration_step_max).any():
            found.append(self._errors.jerk)
        return found
