"""A perfect arm driven natively through `step()`, fast enough for millions of ticks, and random motion at its limits."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from following_arm import MOVE, RAMP_TICKS, REST, Floats, Record, bang_bang, random_chunk, sample

import oracle
from poco import _core
from poco.limits import POSITION_MAX_RAD, POSITION_MIN_RAD, STEP_MARGINS
from poco.records import ARM_STATE, COMMAND
from poco.trouble import BY_NAME, TROUBLES, Grade, Mode, Request

STEP_SHARE = oracle.Share(
    STEP_MARGINS.velocity, STEP_MARGINS.acceleration, STEP_MARGINS.jerk, STEP_MARGINS.position_rad
)
ROBOT_SHARE = oracle.Share()
BATCH_MAX = 2048
REFUSALS = [trouble.code for trouble in TROUBLES.values() if trouble.grade is Grade.LATCHED]


@dataclass
class Tally:
    """What random motion amounted to: ticks, ticks in which the limiter or its stop acted, events and violations."""

    ticks: int = 0
    limited: int = 0
    losses: int = 0
    branches: int = 0
    near_position: int = 0
    near_envelope: int = 0
    events: Counter[str] = field(default_factory=Counter)
    violations: Counter[str] = field(default_factory=Counter)

    def judge(self, commands: Floats, share: oracle.Share, start: int = 0) -> None:
        """Judge commands [N, 7] that begin at rest, or whose first `start` (3 or more) are only the history of the others."""
        verdict = oracle.judge(commands, share, np.eye(4), 1e9, history=start)
        self.violations.update(verdict.violations)
        room = np.minimum(commands - oracle.FR3[:, 0], oracle.FR3[:, 1] - commands)[start:]
        self.near_position += int(np.sum(np.any(room < 0.1, axis=1)))
        self.near_envelope += verdict.near_envelope


class DrivenArm:
    """An armed arm that takes and reports every command exactly; `sent` holds all of them, extrapolation included."""

    def __init__(self, limits: Record, q: Floats) -> None:
        self.limits, self.memory, self.state = limits, _core.Memory(), np.zeros((), ARM_STATE)
        self.state["tick"], self.state["robot_mode"] = 100_000, MOVE
        self.state["q"] = self.state["q_d"] = q
        self.chunk: Record | None = None
        self.recoveries = 0
        self.sent: list[Floats] = []
        self.ticks = self.limited = 0
        self._commands, self._nanoseconds = np.zeros(BATCH_MAX, COMMAND), np.zeros(BATCH_MAX, np.int64)

    @property
    def mode(self) -> Mode:
        """Return the servo's mode."""
        return Mode(self.memory.mode)

    @property
    def tick(self) -> int:
        """Return the next tick."""
        return int(self.state["tick"])

    def step(self, ticks: int, request: Request = Request.ARMED) -> Record:
        """Run `ticks` ticks and return their COMMANDs, a view that the next call overwrites."""
        out = self._commands[:ticks]
        _core.follow(
            self.state,
            self.chunk,
            request,
            self.limits,
            self.memory,
            out,
            self._nanoseconds[:ticks],
            ticks,
            self.recoveries,
        )
        self.sent.append(out["q"].copy())
        self.ticks += ticks
        self.limited += int(np.sum((out["mode"] == Mode.BRAKING) | np.isin(out["event"], REFUSALS)))
        return out

    def lose(self, ticks: int) -> None:
        """Let the arm extrapolate `ticks` lost commands with constant acceleration."""
        state = self.state
        for _ in range(ticks):
            state["dq_d"] += state["ddq_d"] * 1e-3
            state["q_d"] += state["dq_d"] * 1e-3
            self.sent.append(state["q_d"][None].copy())
        state["q"], state["dq"] = state["q_d"], state["dq_d"]
        state["tick"] += ticks

    def branch(self) -> DrivenArm:
        """Return a copy that goes its own way from here; its `sent` begins with the last commands that were sent."""
        twin = DrivenArm(self.limits, self.state["q"])
        twin.memory, twin.state, twin.chunk = self.memory.copy(), self.state.copy(), self.chunk
        twin.recoveries = self.recoveries
        twin.sent = [np.concatenate(self.sent[-4:])[-4:]]
        return twin

    def come_to_rest(self, request: Request) -> None:
        """Run until the arm does not move any more."""
        self.step(1, request)
        while self.mode in (Mode.BRAKING, Mode.FOLLOWING):
            self.step(16, request)


def hard_chunk(rng: np.random.Generator, q: Floats, *, attach: int, ident: int) -> Record:
    """Return a chunk of one or more joints towards their limits, about as fast and as far as limits allow."""
    outer = np.where(rng.random(7) < 0.5, POSITION_MIN_RAD, POSITION_MAX_RAD)
    room = np.maximum(np.abs(outer - q) - STEP_MARGINS.position_rad - 0.004, 1e-4)
    moved = rng.random(7) < 0.2
    moved[rng.integers(7)] = True
    hardness = rng.uniform(0.2, 1.02)
    acceleration = hardness * 7.8
    seconds = min(float(np.sqrt(np.min(room[moved]) * rng.uniform(0.3, 1.02) / acceleration)), 2.3 / acceleration)
    run_up = max(1, round(seconds * 1e3 - 1.5 * RAMP_TICKS))
    return bang_bang(q, np.where(moved, hardness * np.sign(outer - q), 0.0), run_up, attach=attach, ident=ident)


def wander(arm: DrivenArm, rng: np.random.Generator, ticks: int, losses: bool, tally: Tally) -> None:
    """Feed random chunks at the edge of the limits and, at random moments, stop, lose commands, latch and branch off."""
    share = ROBOT_SHARE if losses else STEP_SHARE
    arm.step(2)
    active: Record | None = None
    ident = 0
    while arm.ticks < ticks:
        ident, ahead = ident + 1, int(rng.integers(1, 10))
        following = active is not None and arm.mode == Mode.FOLLOWING
        if following and active is not None:
            start = sample(active, arm.tick + ahead - int(active["attach_tick"]))
            arm.chunk = random_chunk(
                rng, start, rng.uniform(0.5, 1.2), attach=arm.tick + ahead, ident=ident, pred=int(active["chunk_id"])
            )
        else:
            q, attach = np.array(arm.memory.q), arm.tick + ahead
            if rng.random() < 0.8:
                arm.chunk = hard_chunk(rng, q, attach=attach, ident=ident)
            else:
                start = (q, REST, REST)
                arm.chunk = random_chunk(rng, start, rng.uniform(0.5, 2.5), attach=attach, ident=ident, pred=0)
        if arm.step(ahead + 1)["chunk_id"][-1] == ident:
            active = arm.chunk
        length = int(arm.chunk["knots"][arm.chunk["segments"]])
        for _ in range(int(rng.integers(2, 7))):
            arm.step(int(rng.integers(2, min(100, max(3, length // 4)))))
            if arm.mode != Mode.FOLLOWING:
                break
            twin = arm.branch()
            tally.branches += 1
            if losses:
                twin.lose(int(rng.integers(1, 20)))
                tally.losses += 1
            twin.come_to_rest(Request.DISARMED)
            _count(twin, tally, share, history=4)
        if arm.memory.fault:
            arm.come_to_rest(Request.ARMED)
            arm.recoveries += 1
            arm.step(1)
        elif rng.random() < 0.5:
            if losses:
                arm.lose(int(rng.integers(1, 20)))
                tally.losses += 1
            arm.come_to_rest(Request.DISARMED if rng.random() < 0.8 else Request.ARMED)
    _count(arm, tally, share, history=0)


def _count(arm: DrivenArm, tally: Tally, share: oracle.Share, history: int) -> None:
    tally.ticks += arm.ticks
    tally.limited += arm.limited
    if history == 0:
        events = arm.memory.event_counts
        tally.events.update({name: events[trouble.code] for name, trouble in BY_NAME.items()})
    tally.judge(np.concatenate(arm.sent), share, history)
