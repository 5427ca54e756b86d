"""Every kind of fault an emulated arm can suffer, one at a time on the real servo: noticed when, as what, and what goes on.

The arm is in lockstep, so that nothing but what is injected happens, and every tick of it is recorded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

import numpy as np
import pytest

from emulated_arm import emulated_arm
from poco.hw.fault_script import (
    Delay,
    Drop,
    Entry,
    Fault,
    NotFinite,
    Push,
    Reflex,
    Reorder,
    SecondClient,
    Silence,
    StaleAfterRecovery,
    Stall,
    UserStop,
)
from poco.hw.task_signals import EmulatorSignals
from poco.trouble import BY_NAME, TROUBLES, Grade, Mode
from servo_process import ServoProcess

HOST = "127.0.12.13"
LOST_MAX = 20
"""So many commands in a row may be missing before the arm stops itself."""

UNREAD_STATES = 400
"""More states than the socket of a client keeps that does not read them."""

GAPS = {"gap_bridged", "gap_not_bridged"}
"""Noted where states are lost; lost commands show only where the motion departs from what the arm makes up for them."""

OF_THEIR_OWN: dict[type[object], str] = {
    Silence: "tests/runtime/test_stop_table.py, test_robot_silent: a lockstep arm is never silent",
    StaleAfterRecovery: "test_a_stale_state_after_recovery",
}


@dataclass(frozen=True)
class Row:
    """What is injected; the troubles of which one must be noted, empty for none; within how many ticks; the fault it latches."""

    fault: Fault
    noted: frozenset[str]
    within_ticks: int
    latched: str = ""


def row(fault: Fault, *noted: str, within_ticks: int, latched: str = "") -> Row:
    """Return a Row."""
    return Row(fault, frozenset(noted), within_ticks, latched)


ROWS = [
    row(Drop(what="states", count=5), *GAPS, within_ticks=7),
    row(Drop(what="commands", count=15), within_ticks=0),
    row(Drop(what="states", count=25), "arm_error", within_ticks=LOST_MAX + 5, latched="arm_error"),
    row(Drop(what="commands", count=25), "arm_error", within_ticks=LOST_MAX + 5, latched="arm_error"),
    row(Delay(what="states", ticks=4, count=3), *GAPS, within_ticks=10),
    row(Delay(what="commands", ticks=4, count=15), within_ticks=0),
    row(Reorder(what="states"), *GAPS, within_ticks=5),
    row(Reorder(what="commands"), within_ticks=0),
    row(Stall(milliseconds=60), within_ticks=0),
    row(SecondClient(), within_ticks=0),
    row(Push(force_n=(0.0, 5.0, -10.0), ticks=20), within_ticks=0),
    row(NotFinite(field="q"), "state_not_finite", within_ticks=3, latched="state_not_finite"),
    row(NotFinite(field="q_d"), "state_not_finite", within_ticks=3, latched="state_not_finite"),
    row(Reflex(error="joint_reflex"), "arm_error", within_ticks=3, latched="arm_error"),
    row(Reflex(error="power_limit_violation"), "arm_error", within_ticks=3, latched="arm_error"),
    row(UserStop(), "user_stopped", within_ticks=3, latched="user_stopped"),
]


@pytest.fixture(scope="module")
def signals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorSignals]:
    """The task port of an emulated arm in lockstep."""
    flags = ["--pacing", "lockstep", "--task", "none", "--recovery-delay-s", "0.05"]
    with emulated_arm(HOST, tmp_path_factory.mktemp("emulator"), *flags) as signals:
        yield signals


@pytest.fixture(scope="module")
def servo(signals: EmulatorSignals, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServoProcess]:
    """One servo that suffers all of them, one after the other."""
    with ServoProcess(HOST, tmp_path_factory.mktemp("servo"), recover=True) as servo:
        servo.arm(0.0)
        yield servo


def counts(servo: ServoProcess) -> dict[str, int]:
    """How often each trouble has been noted."""
    noted = servo.memory.control()["event_counts"]
    return {trouble.name: int(noted[trouble.code]) for trouble in TROUBLES.values()}


def name_of(item: Row) -> str:
    """Return a short name of a row for the test's id."""
    words = [
        type(item.fault).__name__,
        *(str(getattr(item.fault, key, "")) for key in ("what", "field", "error", "count")),
    ]
    return "-".join(word for word in words if word)


@pytest.mark.parametrize("item", ROWS, ids=name_of)
def test_each_fault_is_noticed_and_leaves_a_servo_that_works(
    signals: EmulatorSignals, servo: ServoProcess, item: Row
) -> None:
    """In its bound, under its name, the chunk forgotten after a latch and kept or braked for otherwise; then it moves again."""
    chunk_id = servo.follow()
    servo.forget_ticks()
    before = counts(servo)
    injected = signals.status().faults_injected
    tick = signals.inject([Entry(fault=item.fault, at=0)])
    servo.until(lambda: signals.status().faults_injected > injected)
    if item.latched:
        servo.until(lambda: servo.fault == item.latched)
        servo.until(lambda: servo.mode == Mode.FAULT)
    else:
        servo.until(lambda: servo.mode == Mode.HOLDING)
    noted = {name for name, count in counts(servo).items() if count > before[name] and name != "chunk_ended"}
    assert noted & item.noted or not item.noted
    assert noted <= item.noted | GAPS
    assert {name for name in noted if BY_NAME[name].grade is Grade.LATCHED} == {item.latched} - {""}
    ticks = servo.recorded()
    following = ticks["state"]["tick"][ticks["command"]["mode"] == Mode.FOLLOWING]
    if item.latched:
        assert following[-1] - tick <= item.within_ticks
        recover(signals, servo, item)
        resumed = servo.recorded()[len(ticks) :]
        assert not resumed["command"]["chunk_id"].any()
    elif not item.noted:
        assert chunk_id in ticks["command"]["chunk_id"]
        assert np.all(np.diff(ticks["state"]["tick"]) == 1)
    else:
        events = np.isin(ticks["command"]["event"], [BY_NAME[name].code for name in item.noted])
        assert ticks["state"]["tick"][events][0] - tick <= item.within_ticks
    again = servo.follow()
    assert int(servo.state["chunk_id"]) == again
    servo.until(lambda: servo.mode == Mode.HOLDING)


def recover(signals: EmulatorSignals, servo: ServoProcess, item: Row) -> None:
    """Show that the fault stays by itself, then act as the operator and wait for the hold."""
    assert servo.fault == item.latched
    if isinstance(item.fault, UserStop):
        signals.inject([Entry(fault=UserStop(pressed=False), at=0)])
        servo.until(lambda: signals.status().mode == "idle")
        assert servo.fault == item.latched
    servo.memory.recover()
    servo.until(lambda: servo.mode == Mode.HOLDING)


def test_a_stale_state_after_recovery(signals: EmulatorSignals, servo: ServoProcess) -> None:
    """States that still say Reflex after the recovery latch nothing new: one act of the operator is enough."""
    servo.follow()
    told = servo.printed.count("stopped")
    signals.inject(
        [Entry(fault=StaleAfterRecovery(count=5), at=0), Entry(fault=Reflex(error="cartesian_reflex"), at=1)]
    )
    servo.until(lambda: servo.fault == "arm_error" and servo.printed.count("stopped") > told)
    before = counts(servo)["arm_error"]
    servo.memory.recover()
    servo.until(lambda: servo.mode == Mode.HOLDING)
    servo.follow()
    servo.until(lambda: servo.mode == Mode.HOLDING)
    assert counts(servo)["arm_error"] == before


def test_states_from_before_a_recovery_do_not_pass_for_its_end(signals: EmulatorSignals, servo: ServoProcess) -> None:
    """An idle arm falls into a reflex while nobody reads: its old states still say Idle, the first after recovery Reflex."""
    servo.follow()
    signals.inject([Entry(fault=UserStop(), at=0), Entry(fault=UserStop(pressed=False), at=60)])
    servo.until(lambda: servo.fault == "user_stopped" and signals.status().mode == "idle")
    idle_from = signals.status().tick
    servo.until(lambda: signals.status().tick > idle_from + UNREAD_STATES)
    signals.inject(
        [Entry(fault=StaleAfterRecovery(count=5), at=0), Entry(fault=Reflex(error="cartesian_reflex"), at=1)]
    )
    servo.until(lambda: signals.status().mode == "reflex")
    servo.memory.recover()
    servo.until(lambda: servo.mode == Mode.HOLDING)
    servo.follow()
    servo.until(lambda: servo.mode == Mode.HOLDING)


def test_every_kind_has_its_row() -> None:
    """No kind of fault is left out."""
    assert {type(item.fault) for item in ROWS} | set(OF_THEIR_OWN) == set(get_args(Fault))
