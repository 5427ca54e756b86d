"""Asynchronous joint positions: the client names a target now and then, and the arm makes its own way to the newest."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from poco.clock import TICK_S
from poco.limits import JOINTS, POSITION_MAX_RAD, POSITION_MIN_RAD, VELOCITY_MAX_RAD_S

from .motion_check import CommandedMotion
from .protocol import Error

Floats = npt.NDArray[np.float64]

ACCELERATION_RAD_S2 = 5.0
"""What every joint of the arm's own way speeds up and slows down by; half of what it can. Our choice, as is all of its shape."""

SMOOTHING_TICKS = 20
"""The way is the average of that many ticks of a profile whose acceleration jumps, so its jerk is at most 2 * 5 / 0.02 = 500."""

_STEP = ACCELERATION_RAD_S2 * TICK_S * TICK_S


class JointTargets:
    """Every joint goes to its newest target as fast as `velocity_max` [7] (rad/s) and the arm's own acceleration let it."""

    def __init__(self, motion: CommandedMotion) -> None:
        """Move `motion`."""
        self._motion = motion
        self._velocity_max = VELOCITY_MAX_RAD_S
        self._target = motion.q.copy()
        self._profile_q = motion.q.copy()
        self._profile_dq = np.zeros(JOINTS)
        self._recent = np.tile(motion.q, (SMOOTHING_TICKS, 1))

    def limit(self, velocity_max: Floats) -> None:
        """Be no faster than `velocity_max` [7] (rad/s) in the motions that begin from now on, nor than the arm is."""
        self._velocity_max = np.minimum(velocity_max, VELOCITY_MAX_RAD_S)

    def begin(self) -> None:
        """Begin a motion where the arm is commanded to be, and stay there until a target comes."""
        self._target[:] = self._profile_q[:] = self._recent[:] = self._motion.q
        self._profile_dq[:] = 0.0

    def follow(self, command: npt.NDArray[np.void], first: bool) -> list[Error]:
        """Take q_c for the target, unless the command ends the motion: then it names none."""
        target = command["q_c"]
        if not command["motion_generation_finished"]:
            if (target < POSITION_MIN_RAD).any() or (target > POSITION_MAX_RAD).any():
                return [Error.JOINT_POSITION_LIMITS]
            self._target[:] = target
        self.proceed()
        return []

    def proceed(self) -> None:
        """Go on towards the target for one tick."""
        self._advance_profile()
        self._recent[:-1] = self._recent[1:]
        self._recent[-1] = self._profile_q
        q = self._recent.mean(axis=0)
        self._motion.take(q, *self._motion.differentiate(q))

    def _advance_profile(self) -> None:
        """Take the highest speed from which the joint still comes to rest at the target in whole ticks of the acceleration."""
        way = self._target - self._profile_q
        ticks_to_rest = np.sqrt(0.25 + 2.0 * np.abs(way) / _STEP) - 0.5
        speed = np.minimum(ticks_to_rest * ACCELERATION_RAD_S2 * TICK_S, np.abs(way) / TICK_S)
        wanted = np.copysign(np.minimum(speed, self._velocity_max), way)
        change_max = ACCELERATION_RAD_S2 * TICK_S
        self._profile_dq += np.clip(wanted - self._profile_dq, -change_max, change_max)
        self._profile_q += self._profile_dq * TICK_S
        arrived = (np.abs(way) <= _STEP) & (wanted == self._profile_dq)
        self._profile_q[arrived] = self._target[arrived]
