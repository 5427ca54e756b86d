"""Motion generators in joint space: what a client's joint positions or velocities mean for the motion that the arm follows."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from poco.clock import TICK_S, TICKS_PER_SECOND

from .motion_check import CommandedMotion, MotionCheck
from .protocol import Error


class MotionGenerator(Protocol):
    """Turns the commands of one kind of motion into joint motion, a tick at a time; lives as long as its robot."""

    def begin(self) -> None:
        """Begin a motion from rest where the arm is commanded to be."""

    def follow(self, command: npt.NDArray[np.void], first: bool) -> list[Error]:
        """Take the COMMAND of this tick, the `first` of the motion or a later one; or leave it and return what it breaks."""

    def proceed(self) -> None:
        """Live through one tick without a command: one that is lost is replaced by constant acceleration."""


class JointPositions:
    """Joint positions, differentiated by the arm."""

    def __init__(self, motion: CommandedMotion, check: MotionCheck) -> None:
        """Move `motion`, inside the limits of `check`."""
        self._motion, self._check = motion, check

    def begin(self) -> None:
        """Begin a motion; the first command must be where the motion is."""

    def follow(self, command: npt.NDArray[np.void], first: bool) -> list[Error]:
        """Go to q_c."""
        q = command["q_c"]
        violations = self._check.start_violations(self._motion, q) if first else []
        return violations or self._check.take(self._motion, q, *self._motion.differentiate(q))

    def proceed(self) -> None:
        """Continue the joint motion."""
        self._motion.extrapolate()


class JointVelocities:
    """Joint velocities, integrated from where the motion begins."""

    def __init__(self, motion: CommandedMotion, check: MotionCheck) -> None:
        """Move `motion`, inside the limits of `check`."""
        self._motion, self._check = motion, check

    def begin(self) -> None:
        """Begin a motion; the first command counts from rest."""

    def follow(self, command: npt.NDArray[np.void], first: bool) -> list[Error]:
        """Move at dq_c for this tick."""
        motion, dq = self._motion, command["dq_c"]
        return self._check.take(motion, motion.q + dq * TICK_S, dq, (dq - motion.dq) * TICKS_PER_SECOND)

    def proceed(self) -> None:
        """Continue the joint motion."""
        self._motion.extrapolate()
