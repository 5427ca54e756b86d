"""Requests, faults, losses and recoveries in any order: motion only while armed, no latch cleared but by the operator."""

from __future__ import annotations

import os
from collections import Counter

import numpy as np
from following_arm import MOVE, READY_RAD, REST, Floats, make_chunk, wide_limits
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from poco import _core
from poco.clock import monotonic_ns
from poco.records import ARM_STATE, COMMAND
from poco.shm import RunMemory
from poco.trouble import BY_NAME, TROUBLES, Grade, Mode, Request

TRANSITIONS = 1_000_000
REFLEX, USER_STOPPED = 4, 5
LATCHED = {trouble.code for trouble in TROUBLES.values() if trouble.grade is Grade.LATCHED}
CHANCES = {
    "nothing": 0.885,
    "request": 0.015,
    "recover": 0.04,
    "chunk": 0.04,
    "bad chunk": 0.003,
    "reflex": 0.002,
    "user stop": 0.002,
    "error": 0.002,
    "not finite": 0.002,
    "gap": 0.007,
    "reanchor": 0.001,
    "clock restarts": 0.001,
}


class Rules:
    """What every command must obey, told only what was asked and what the arm reported."""

    def __init__(self) -> None:
        self.mode, self.fault, self.acts_used, self.q = int(Mode.DISARMED), 0, 0, b""
        self.seen: Counter[tuple[int, int]] = Counter()
        self.cleared = 0

    def check(self, mode: int, fault: int, q: bytes, *, request: int, acts: int, well: bool, moved: bool) -> None:
        """Judge one tick; `acts`: of recovery so far, `well`: the arm reports no trouble, `moved`: by itself, unseen."""
        assert fault == 0 or fault in LATCHED
        assert fault or well, "an arm in trouble latches"
        if self.fault and fault != self.fault:
            assert acts != self.acts_used, "a latch was cleared without an act of the operator"
            assert well, "a latch was cleared while the arm was in trouble"
            self.cleared += 1
            self.acts_used = acts
        elif not self.fault and well:
            self.acts_used = acts
        assert mode != Mode.FOLLOWING or (request == Request.ARMED and fault == 0)
        assert mode != Mode.HOLDING or (request == Request.ARMED and fault == 0)
        assert mode != Mode.FINISHED or request == Request.STOP
        resting = {Mode.BRAKING, Mode.FOLLOWING}.isdisjoint((mode, self.mode))
        assert moved or not resting or not self.q or q == self.q, "a held arm was moved"
        if self.mode != Mode.FOLLOWING and mode == Mode.BRAKING and request != Request.STOP:
            assert moved or self.mode == Mode.BRAKING, "braking without motion before it"
        self.seen[self.mode, mode] += 1
        self.mode, self.fault, self.q = mode, fault, q


class Arm:
    """An arm that follows perfectly, in reach of every event of CHANCES."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.memory, self.limits, self.state = _core.Memory(), wide_limits(), np.zeros((), ARM_STATE)
        self.state["tick"], self.state["robot_mode"] = 2_000_000_000, MOVE
        self.state["q"] = self.state["q_d"] = READY_RAD
        self.request, self.acts, self.ident = Request.DISARMED, 0, 0
        self.moved = False
        self.offered = make_chunk(
            (READY_RAD, REST, REST), np.array([READY_RAD + 0.004, READY_RAD]), [100, 100], attach=1, ident=1
        )
        self._shape = self.offered["coefficients"][:2].copy()
        self._shape[:, 0] -= READY_RAD
        self.presented = False

    @property
    def well(self) -> bool:
        """Return whether what the arm reports is no trouble."""
        state = self.state
        return bool(np.isfinite(state["q"][0])) and state["errors"] == 0 and state["robot_mode"] == MOVE

    def happen(self, event: str) -> None:
        """Let one event happen before the next tick."""
        state, rng = self.state, self.rng
        if event == "request":
            self.request = Request(int(rng.choice(4, p=[0.15, 0.65, 0.1, 0.1])))
        elif event == "recover":
            self.acts += 1
            state["robot_mode"], state["errors"] = (MOVE, 0) if rng.random() < 0.8 else (REFLEX, 1)
        elif event in ("chunk", "bad chunk"):
            self._offer(good=event == "chunk")
        elif event == "reflex":
            state["robot_mode"] = REFLEX
        elif event == "user stop":
            state["robot_mode"] = USER_STOPPED
        elif event == "error":
            state["errors"] = 1
        elif event == "not finite":
            state["q"][0] = np.nan
        elif event == "gap":
            self._lose(int(rng.integers(1, 21)))
        elif event == "reanchor":
            self.memory.reanchor()
            self.moved = True
        elif event == "clock restarts":
            state["tick"] -= 200_000
            self.moved = True

    def _offer(self, good: bool) -> None:
        self.ident += 1
        hold, offered = np.array(self.memory.q), self.offered
        side = 1.0 if hold[0] < READY_RAD[0] else -1.0
        offered["coefficients"][:2] = side * self._shape
        offered["coefficients"][:2, 0] += hold
        offered["chunk_id"], offered["attach_tick"] = self.ident, int(self.state["tick"]) + int(self.rng.integers(4))
        if not good:
            offered["coefficients"][1, 4, 2] = np.nan
        self.presented = True

    def _lose(self, ticks: int) -> None:
        state, self.moved = self.state, True
        for _ in range(ticks):
            state["dq_d"] += state["ddq_d"] * 1e-3
            state["q_d"] += state["dq_d"] * 1e-3
        state["tick"] += ticks


def test_a_million_random_transitions_obey_the_rules() -> None:
    """1,000,000 ticks with an event at every ninth: no rule is broken, and every mode is entered from every likely one."""
    rng = np.random.default_rng(61)
    arm, rules = Arm(rng), Rules()
    command, nanoseconds = np.zeros(1, COMMAND), np.zeros(1, np.int64)
    modes, faults, positions = command["mode"], command["fault"], command["q"]
    names = list(CHANCES)
    events = rng.choice(len(names), TRANSITIONS, p=list(CHANCES.values()))
    for event in events:
        if event:
            arm.happen(names[event])
        well = arm.well
        _core.follow(
            arm.state,
            arm.offered if arm.presented else None,
            arm.request,
            arm.limits,
            arm.memory,
            command,
            nanoseconds,
            1,
            arm.acts,
        )
        rules.check(
            int(modes[0]),
            int(faults[0]),
            positions.tobytes(),
            request=arm.request,
            acts=arm.acts,
            well=well,
            moved=arm.moved,
        )
        arm.moved = False
    print({f"{Mode(a).name} > {Mode(b).name}": n for (a, b), n in sorted(rules.seen.items())}, rules.cleared)
    assert rules.seen.total() == TRANSITIONS
    assert rules.cleared >= 3_000
    assert rules.seen[Mode.HOLDING, Mode.FOLLOWING] >= 1_000
    assert rules.seen[Mode.FOLLOWING, Mode.BRAKING] >= 1_000
    assert rules.seen[Mode.FINISHED, Mode.HOLDING] >= 100
    for name in ("arm_error", "user_stopped", "state_not_finite", "chunk_not_finite", "supervisor_lost"):
        assert arm.memory.event_counts[BY_NAME[name].code] >= 100, name


class ServoMachine(RuleBasedStateMachine):
    """The servo object in shared memory: heartbeat lost and back, device failures, requests, recoveries and chunks."""

    def __init__(self) -> None:
        super().__init__()
        self.run = RunMemory.create(f"rules-{os.getpid()}")
        self.servo = _core.Servo(self.run.native, wide_limits())
        self.law = Rules()
        self.tick, self.ident, self.acts = 1000, 0, 0
        self.request, self.heartbeat = Request.DISARMED, True
        self.q, self.dq, self.ddq = READY_RAD.copy(), REST.copy(), REST.copy()
        self.failed = False

    def teardown(self) -> None:
        """Remove the shared memory."""
        self.run.unlink()

    @rule(ticks=st.integers(1, 150), robot_mode=st.sampled_from([MOVE, MOVE, MOVE, REFLEX, USER_STOPPED]))
    def live(self, ticks: int, robot_mode: int) -> None:
        """Let time pass; every tick obeys the rules."""
        zero = [0.0] * 7
        lost = not self.heartbeat and self.request != Request.STOP
        for _ in range(ticks):
            q = np.array(
                self.servo.tick(
                    self.tick,
                    self.q.tolist(),
                    self.dq.tolist(),
                    zero,
                    zero,
                    self.q.tolist(),
                    self.dq.tolist(),
                    self.ddq.tolist(),
                    [0.0] * 16,
                    robot_mode,
                    0,
                )
            )
            self.law.check(
                self.servo.mode,
                self.servo.fault,
                q.tobytes(),
                request=Request.ORPHANED if lost else self.request,
                acts=self.acts,
                well=robot_mode == MOVE,
                moved=self.failed,
            )
            self._take(q)
            self.failed = False

    def _take(self, q: Floats) -> None:
        dq = (q - self.q) * 1000.0
        self.q, self.dq, self.ddq = q, dq, (dq - self.dq) * 1000.0
        self.tick += 1

    @rule(request=st.sampled_from([Request.DISARMED, Request.ARMED, Request.ARMED, Request.STOP]))
    def ask(self, request: Request) -> None:
        """Ask for anything in any order."""
        self.request = request
        self.run.set_request(request)

    @rule(alive=st.booleans())
    def supervisor(self, alive: bool) -> None:
        """Lose the supervisor's heartbeat or get it back."""
        self.heartbeat = alive
        self.run.native.beat(monotonic_ns() + (3600 if alive else -3600) * 1_000_000_000)

    @rule()
    def recover(self) -> None:
        """Act as the operator."""
        self.acts += 1
        self.run.recover()

    @rule(shift=st.floats(-0.01, 0.01), good=st.booleans())
    def publish(self, shift: float, good: bool) -> None:
        """Publish a chunk that fits a hold, or one that is not finite."""
        self.ident += 1
        start = (self.q.copy(), REST, REST)
        chunk = make_chunk(start, (self.q + shift)[None], [200], attach=self.tick + 1, ident=self.ident)
        if not good:
            chunk["coefficients"][0, 3, 3] = np.inf
        self.run.publish_chunk(chunk)

    @rule(trouble=st.sampled_from(["arm_error", "user_stopped", "arm_silent"]))
    def fail(self, trouble: str) -> None:
        """Let the client library raise: the arm stops by itself and its clock goes on."""
        fault = self.servo.fault
        self.servo.arm_failed(BY_NAME[trouble].code)
        assert self.servo.fault == fault or (fault == 0 and self.servo.fault == BY_NAME[trouble].code)
        self.law.fault, self.law.mode = self.servo.fault, self.servo.mode
        self.servo.reanchor()
        self.dq, self.ddq, self.failed = REST.copy(), REST.copy(), True
        self.tick += 500

    @invariant()
    def what_is_published_is_what_is_commanded(self) -> None:
        """Assert that the others read the servo's own mode and fault."""
        state = self.run.read_state()
        if state is not None:
            assert (int(state["mode"]), int(state["fault"])) == (self.servo.mode, self.servo.fault)


ServoMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None, derandomize=True)
TestServoInSharedMemory = ServoMachine.TestCase
