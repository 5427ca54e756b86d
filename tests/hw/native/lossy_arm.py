"""An arm by the emulator's own rules, whose states and commands get lost: it extrapolates, reports and checks as FR3 does."""

from __future__ import annotations

from collections import Counter

import numpy as np
from following_arm import READY_RAD, Floats, FollowingArm, Record

from poco import _core
from poco.hw.emulator.motion_check import CommandedMotion, MotionCheck

LOST_IN_ROW_MAX = 19
"""The arm ends a motion with the twentieth command that is missing in a row."""


class LossyArm(FollowingArm):
    """A FollowingArm with the emulated arm's motion and limit check, that reports in single precision.

    `sent` holds what the arm moved along, extrapolation included; `breaches` the limits it found broken by commands.
    """

    def __init__(self, limits: Record, q: Floats = READY_RAD) -> None:
        super().__init__(limits, q)
        self.motion, self.check = CommandedMotion(q), MotionCheck()
        self.breaches: Counter[str] = Counter()
        self._report()

    def step(self, ticks: int = 1, follow: bool = True) -> Record:
        """Run `ticks` ticks in which state and command arrive."""
        for _ in range(ticks):
            self._answer()
            q = np.array(self.command["q"])
            dq, ddq = self.motion.differentiate(q)
            self.breaches.update(error.name for error in self.check.violations(self.motion, q, dq, ddq))
            self.motion.take(q, dq, ddq)
            self._live()
        return self.command

    def lose_ticks(self, ticks: int) -> None:
        """Lose `ticks` states on their way to the servo, which therefore sends no command."""
        for _ in range(ticks):
            self.motion.extrapolate()
            self._live()

    def lose_commands(self, ticks: int) -> None:
        """Lose `ticks` commands on their way to the arm, unseen by the servo except in the states that follow."""
        for _ in range(ticks):
            self._answer()
            self.motion.extrapolate()
            self._live()

    def _answer(self) -> None:
        self.state["tick"] = self.tick
        _core.step(self.state, self.chunk, self.request, self.limits, self.memory, self.command, self.recoveries)

    def _live(self) -> None:
        self.tick += 1
        self.sent.append(self.motion.q.copy())
        self.modes.append(self.mode)
        self._report()

    def _report(self) -> None:
        motion, state = self.motion, self.state
        state["q_d"], state["dq_d"], state["ddq_d"] = (
            np.float32(motion.q),
            np.float32(motion.dq),
            np.float32(motion.ddq),
        )
        state["q"], state["dq"] = state["q_d"], state["dq_d"]
