"""Pacing decides from robot and clock alone when the next tick is due, so a fake clock proves it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from poco.clock import monotonic_ns
from poco.hw.emulator.pacing import ANSWER_TIMEOUT_NS, GATE_TIMEOUT_NS, START_PAUSE_NS, TICK_NS, Gate, Pacer, Pacing


@dataclass
class RobotPhase:
    """The four facts that pacing asks a robot for."""

    streamed: bool = True
    commanded: bool = True
    answered: bool = False
    first_state_of_motion: bool = False


def paced(pacing: Pacing) -> tuple[Pacer, int]:
    """Return a pacer that has sent a state punctually at the returned time."""
    pacer = Pacer(pacing)
    now_ns = monotonic_ns() + TICK_NS
    pacer.sent(RobotPhase(streamed=False), now_ns)
    now_ns = pacer._due_ns
    pacer.sent(RobotPhase(streamed=False), now_ns)
    return pacer, now_ns


@pytest.mark.parametrize("pacing", list(Pacing))
def test_an_idle_robot_keeps_real_time(pacing: Pacing) -> None:
    """Without a motion the next tick is due 1 ms after the last, whatever the pacing."""
    pacer, sent_ns = paced(pacing)
    idle = RobotPhase(streamed=False, commanded=False)
    assert pacer.wait_ns(idle, sent_ns) == TICK_NS
    assert pacer.wait_ns(idle, sent_ns + TICK_NS) == 0


@pytest.mark.parametrize(
    ("pacing", "answered", "elapsed_ns", "expected_ns"),
    [
        (Pacing.REALTIME, True, 0, TICK_NS),
        (Pacing.REALTIME, True, TICK_NS, 0),
        (Pacing.REALTIME, False, TICK_NS, ANSWER_TIMEOUT_NS[Pacing.REALTIME] - TICK_NS),
        (Pacing.REALTIME, False, ANSWER_TIMEOUT_NS[Pacing.REALTIME], 0),
        (Pacing.STRICT, False, 0, TICK_NS),
        (Pacing.STRICT, False, TICK_NS, 0),
        (Pacing.LOCKSTEP, True, 0, 0),
        (Pacing.LOCKSTEP, False, TICK_NS, ANSWER_TIMEOUT_NS[Pacing.LOCKSTEP] - TICK_NS),
        (Pacing.LOCKSTEP, False, ANSWER_TIMEOUT_NS[Pacing.LOCKSTEP], 0),
    ],
)
def test_a_motion_waits_for_its_client_as_the_pacing_says(
    pacing: Pacing, answered: bool, elapsed_ns: int, expected_ns: int
) -> None:
    """Real time waits for the clock, then (bounded) for the answer; lockstep for the answer alone; strict for the clock alone."""
    pacer, sent_ns = paced(pacing)
    assert pacer.wait_ns(RobotPhase(answered=answered), sent_ns + elapsed_ns) == expected_ns


def test_lockstep_lets_the_client_read_the_first_state_of_a_motion() -> None:
    """The state in which the modes switch is not answered, so lockstep waits a fixed pause instead."""
    pacer, sent_ns = paced(Pacing.LOCKSTEP)
    assert pacer.wait_ns(RobotPhase(first_state_of_motion=True), sent_ns) == START_PAUSE_NS


def test_dilation_counts_what_robot_time_fell_behind() -> None:
    """Two late ticks add up, the longer one is remembered, and afterwards the schedule starts anew."""
    pacer, sent_ns = paced(Pacing.REALTIME)
    for late_ns in (3_000_000, 40_000_000):
        sent_ns += TICK_NS + late_ns
        pacer.sent(RobotPhase(), sent_ns)
    assert (pacer.dilation_ns, pacer.longest_dilation_ns) == (43_000_000, 40_000_000)
    assert pacer.wait_ns(RobotPhase(answered=True), sent_ns) == TICK_NS


def test_a_gate_holds_at_its_tick_until_set_anew_or_expired() -> None:
    """Robot time may reach the gate's tick and not pass it; a gate kept shut opens after its time and is counted."""
    gate = Gate()
    assert not gate.holds(10, 0)
    gate.set(10, 0)
    assert [gate.holds(tick, 0) for tick in (9, 10, 11)] == [False, True, True]
    gate.set(-1, 0)
    assert not gate.holds(10, 0)
    gate.set(10, 0)
    assert gate.holds(10, GATE_TIMEOUT_NS - 1)
    assert not gate.holds(10, GATE_TIMEOUT_NS)
    assert gate.timeouts == 1
