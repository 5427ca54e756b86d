"""When the next tick is due: against the clock, as fast as the client answers, or strictly against the clock."""

from __future__ import annotations

import ctypes
from enum import Enum
from typing import Protocol

from poco.clock import TICKS_PER_SECOND, monotonic_ns

TICK_NS = 1_000_000_000 // TICKS_PER_SECOND
_PR_SET_TIMERSLACK = 29


class Pacing(Enum):
    """How robot time relates to time on the wall while a client streams a motion; at any other time a robot keeps real time.

    realtime: 1 kHz, but a late answer is waited for (bounded) and the dilation is accounted. lockstep: state k + 1 follows the
    answer to state k at once. strict: 1 kHz whatever the client does, and what is late is lost, as on the arm.
    """

    REALTIME = "realtime"
    LOCKSTEP = "lockstep"
    STRICT = "strict"


ANSWER_TIMEOUT_NS = {Pacing.REALTIME: 100_000_000, Pacing.LOCKSTEP: 900_000_000, Pacing.STRICT: 0}
"""How long after a state its answer is waited for before the command counts as lost; the client itself gives up after 1 s."""

START_PAUSE_NS = 50_000_000
"""Lockstep only: time for the client to read the first state of a motion by itself, so that it answers the second one."""

GATE_TIMEOUT_NS = 30_000_000_000


class RobotPhase(Protocol):
    """What pacing needs to know of a robot."""

    @property
    def streamed(self) -> bool:
        """Whether a motion runs whose client has to answer every state."""

    @property
    def commanded(self) -> bool:
        """Whether a command has been taken in this motion."""

    @property
    def answered(self) -> bool:
        """Whether the answer to the newest state is here."""

    @property
    def first_state_of_motion(self) -> bool:
        """Whether the newest state is the one in which the modes switched."""


class Pacer:
    """Decides when the next tick is due; accounts how far robot time fell behind the wall in streamed motions (not in lockstep)."""

    def __init__(self, pacing: Pacing) -> None:
        """Start now; the kernel is asked to wake this thread without its usual 50 us of slack."""
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
        self.pacing = pacing
        self.dilation_ns = 0
        self.longest_dilation_ns = 0
        self._sent_ns = monotonic_ns()
        self._due_ns = self._sent_ns + TICK_NS

    def wait_ns(self, robot: RobotPhase, now_ns: int) -> int:
        """Return how long to wait for a datagram before the next tick, 0 if the tick is due."""
        if robot.streamed and self.pacing is Pacing.LOCKSTEP:
            if robot.first_state_of_motion:
                return max(0, self._sent_ns + START_PAUSE_NS - now_ns)
            return 0 if robot.answered else max(0, self._sent_ns + ANSWER_TIMEOUT_NS[Pacing.LOCKSTEP] - now_ns)
        if now_ns < self._due_ns:
            return self._due_ns - now_ns
        if robot.streamed and robot.commanded and not robot.answered:
            return max(0, self._sent_ns + ANSWER_TIMEOUT_NS[self.pacing] - now_ns)
        return 0

    def sent(self, robot: RobotPhase, now_ns: int) -> None:
        """Note that a state has just left; a schedule that slipped by more than a tick starts anew from here."""
        self._sent_ns = now_ns
        late_ns = now_ns - self._due_ns
        if robot.streamed and self.pacing is Pacing.LOCKSTEP:
            self._due_ns = now_ns
        elif late_ns > TICK_NS:
            self._due_ns = now_ns
            if robot.streamed:
                self.dilation_ns += late_ns
                self.longest_dilation_ns = max(self.longest_dilation_ns, late_ns)
        self._due_ns += TICK_NS


class Gate:
    """The robot tick that a policy holds the lockstep at until it has decided; -1 when there is none."""

    def __init__(self) -> None:
        """Begin open."""
        self.tick = -1
        self.timeouts = 0
        self._expires_ns = 0

    def set(self, tick: int, now_ns: int) -> None:
        """Let robot time run up to `tick` and no further; -1 opens the gate."""
        self.tick = tick
        self._expires_ns = now_ns + GATE_TIMEOUT_NS

    def holds(self, tick: int, now_ns: int) -> bool:
        """Return whether robot time must stay at `tick`; a gate that is kept shut for 30 s opens and is counted."""
        if self.tick < 0 or tick < self.tick:
            return False
        if now_ns >= self._expires_ns:
            self.tick = -1
            self.timeouts += 1
            return False
        return True
