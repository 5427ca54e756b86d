"""Every late turnaround of the servo is put down to one cause, from what the servo's thread itself did in that tick."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from poco import _core
from poco.limits import STEP_MARGINS, Guards, fr3_limits
from poco.records import TICK
from poco.runtime.misses import CAUSES, LATE_NS, count_misses
from poco.shm import RunMemory

BUSY_NS = 3 * LATE_NS
SEVEN = [0.0] * 7
REST = [0.0, -0.2, 0.0, -2.2, 0.0, 2.0, 0.785]


@pytest.mark.parametrize(
    ("spent_ns", "told", "cause"),
    [
        (LATE_NS, {"cpu_ns": LATE_NS}, None),
        (-5, {}, None),
        (LATE_NS + 1, {"cpu_ns": LATE_NS + 1, "waits": 3}, "ran"),
        (9 * LATE_NS, {"cpu_ns": LATE_NS, "waits": 1}, "waited"),
        (9 * LATE_NS, {"major_faults": 1, "preemptions": 1}, "waited"),
        (9 * LATE_NS, {"preemptions": 2, "minor_faults": 4}, "preempted"),
        (9 * LATE_NS, {}, "preempted"),
    ],
)
def test_one_cause_each(spent_ns: int, told: dict[str, int], cause: str | None) -> None:
    """Exactly 1 ms is punctual, a tick without a command no miss; own code comes before waiting, waiting before preemption."""
    ticks = np.zeros(3, TICK)
    ticks["state"]["received_ns"] = 10**9
    ticks["sent_ns"] = 10**9
    ticks["sent_ns"][1] += spent_ns
    for field, value in told.items():
        ticks[field][1] = value
    assert count_misses(ticks) == {name: int(name == cause) for name in CAUSES}


@pytest.fixture
def memory() -> Iterator[RunMemory]:
    """The shared memory of a run."""
    run = RunMemory.create(f"test-misses-{os.getpid()}")
    yield run
    run.unlink()


def compute() -> None:
    """Use the processor for BUSY_NS."""
    until_ns = time.thread_time_ns() + BUSY_NS
    while time.thread_time_ns() < until_ns:
        pass


def wait() -> None:
    """Give the processor up for BUSY_NS."""
    time.sleep(BUSY_NS / 1e9)


@pytest.mark.parametrize(("pastime", "cause"), [(compute, "ran"), (wait, "waited")])
def test_the_servo_keeps_its_account(memory: RunMemory, pastime: Callable[[], None], cause: str) -> None:
    """A thread that computes or waits between state and command is caught at it; the next tick begins a new account."""
    servo = _core.Servo(memory.native, fr3_limits(STEP_MARGINS, Guards(), np.eye(4)))
    for tick in range(1, 4):
        servo.tick(tick, REST, SEVEN, SEVEN, SEVEN, REST, SEVEN, SEVEN, np.eye(4).ravel().tolist(), 1, 0)
        if tick == 2:
            pastime()
        servo.sent()
    ticks = memory.drain_ticks()
    assert count_misses(ticks[1:2]) == {name: int(name == cause) for name in CAUSES}
    assert ticks["cpu_ns"][2] < ticks["cpu_ns"][1] or cause == "waited"
    assert ticks["waits"][2] == 0 or cause == "ran"
