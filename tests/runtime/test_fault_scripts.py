"""Seeded random faults on the real servo: nothing crashes, no limit breaks, and the operator gets the arm back."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from oracle import Share, judge
from poco.hw.emulator.faults import REFLEXES
from poco.hw.fault_script import (
    Datagrams,
    Delay,
    Drop,
    Entry,
    Fault,
    NotFinite,
    Reflex,
    Reorder,
    SecondClient,
    StaleAfterRecovery,
    Stall,
    UserStop,
)
from poco.hw.task_signals import EmulatorSignals
from poco.trouble import BY_NAME, TROUBLES, Grade, Mode
from programs import Program
from servo_process import PATIENCE_S, ServoProcess

Records = npt.NDArray[np.void]

SEEDS = 30
PROOF_BLOCKS = 20
BLOCK_SEEDS = 50
FAULTS_MAX = 4
SPREAD_TICKS = 300
STOPPED_FOR_TICKS = 60
SHARE = Share(jerk=1.1)
"""A motion that is joined after a gap is judged from the arm's float32 report, whose third difference is that coarse."""

SPEED_MAX_M_S = 0.25 * 1.1
"""While commands are lost the arm goes on accelerating by itself; braking from there is all that is left."""

RECOVERY_PAUSE_S = 0.01


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, EmulatorSignals]]:
    """An emulated arm in lockstep, so that a seed repeats itself; its address and task port."""
    host = "127.0.4.51"
    flags = ["--pacing", "lockstep", "--recovery-delay-s", "0.05"]
    program = Program("poco-emulator", "--host", host, *flags, folder=tmp_path_factory.mktemp("emulator"))
    try:
        program.until(lambda: "ready" in program.out)
        with EmulatorSignals(host) as signals:
            yield host, signals
    finally:
        program.end()


def random_faults(generator: np.random.Generator) -> list[Entry]:
    """Return 1 to FAULTS_MAX random faults within SPREAD_TICKS; a pressed user stop is released again."""
    entries = []
    for _ in range(generator.integers(1, FAULTS_MAX + 1)):
        at = int(generator.integers(SPREAD_TICKS))
        fault = random_fault(generator)
        entries.append(Entry(fault=fault, at=at))
        if isinstance(fault, UserStop):
            entries.append(Entry(fault=UserStop(pressed=False), at=at + STOPPED_FOR_TICKS))
    return entries


def random_fault(generator: np.random.Generator) -> Fault:
    """Return one random fault of any kind that a lockstep arm can suffer."""
    what: Datagrams = "states" if generator.random() < 0.5 else "commands"
    count, ticks = (int(number) for number in generator.integers(1, (24, 6)))
    return (
        lambda: Drop(what=what, count=count),
        lambda: Delay(what=what, ticks=ticks, count=count),
        lambda: Reorder(what=what, count=count),
        lambda: Stall(milliseconds=5 * count),
        lambda: Reflex(error=list(REFLEXES)[count % len(REFLEXES)]),
        lambda: UserStop(),
        lambda: NotFinite(field="q" if what == "states" else "dq_d", count=ticks),
        lambda: StaleAfterRecovery(count=ticks),
        lambda: SecondClient(),
    )[int(generator.integers(9))]()


def suffer(servo: ServoProcess, signals: EmulatorSignals, seed: int) -> list[Entry]:
    """Move, suffer the faults of `seed` and, as the operator, bring the arm back until it holds again; return the faults."""
    entries = random_faults(np.random.default_rng(seed))
    servo.move()
    injected = signals.status().faults_injected + len(entries)
    signals.inject(entries, seed)
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        servo.beat()
        arm = signals.status()
        suffered = arm.faults_injected == injected
        if suffered and arm.mode == "move" and servo.mode == Mode.HOLDING:
            break
        assert servo.process.poll() is None, f"seed {seed}: {servo.errors}{servo.printed}"
        assert time.monotonic() < deadline_s, f"seed {seed}, {injected} injected: {servo.mode} {arm} {servo.printed}"
        if suffered and arm.mode != "user_stopped" and servo.mode == Mode.FAULT:
            servo.memory.recover()
        time.sleep(RECOVERY_PAUSE_S)
    servo.beat()
    return entries


def run_seeds(servo: ServoProcess, signals: EmulatorSignals, seeds: range) -> None:
    """Suffer one seed after the other and check what must hold after all of them."""
    suffered: Counter[str] = Counter()
    for seed in seeds:
        printed = len(servo.printed)
        entries = suffer(servo, signals, seed)
        suffered.update(type(entry.fault).__name__ for entry in entries)
        injected = {entry.fault.error for entry in entries if isinstance(entry.fault, Reflex)}
        found = set(re.findall(r'"(\w+)"', servo.printed[printed:])) - injected
        assert found <= {"communication_constraints_violation"}, f"seed {seed}: the arm found {found}"
    assert "Traceback" not in servo.errors
    ticks = servo.recorded()
    for stretch in stretches(ticks):
        commands = np.vstack([reported(stretch), stretch["command"]["q"]])
        verdict = judge(commands, SHARE, servo.specification.tip, SPEED_MAX_M_S, history=3)
        assert verdict.clean, (verdict, stretch["state"]["tick"][[0, -1]])
    counts = servo.memory.control()["event_counts"]
    seen = {TROUBLES[code].name for code in np.flatnonzero(counts).tolist()}
    assert {"gap_bridged", "state_not_finite", "arm_error", "user_stopped"} <= seen, f"too little happened: {seen}"
    latched = np.unique(ticks["command"]["fault"])
    assert all(TROUBLES[int(code)].grade is Grade.LATCHED for code in latched.tolist() if code)
    assert not counts[BY_NAME["arm_silent"].code]
    print(
        f"seeds {seeds[0]} to {seeds[-1]}: {len(ticks)} ticks, {servo.printed.count('stopped')} stops, {dict(suffered)}"
    )


def stretches(ticks: Records) -> list[Records]:
    """Return the runs of ticks with finite reports in which the arm took every command, as far as the servo knows."""
    finite = np.isfinite(ticks["state"]["q_d"]).all(axis=1) & np.isfinite(ticks["state"]["dq_d"]).all(axis=1)
    kept = ticks[finite]
    joined = np.isin(kept["command"]["event"], [BY_NAME[name].code for name in ("gap_bridged", "gap_not_bridged")])
    cuts = np.flatnonzero((np.diff(kept["state"]["tick"]) != 1) | joined[1:]) + 1
    return [part for part in np.split(kept, cuts) if len(part)]


def reported(stretch: Records) -> npt.NDArray[np.float64]:
    """Return the three set-points [3, 7] before `stretch` that its first state reports as position and differences."""
    first = stretch["state"][0]
    q, dq, ddq = first["q_d"], first["dq_d"] * 1e-3, first["ddq_d"] * 1e-6
    return np.stack([q - 2 * dq + ddq, q - dq, q])


@pytest.fixture
def servo(emulator: tuple[str, EmulatorSignals], tmp_path: Path) -> Iterator[ServoProcess]:
    """A servo that holds the arm once that has noticed the end of the one before; in lockstep nobody is ever silent."""
    host, signals = emulator
    deadline_s = time.monotonic() + PATIENCE_S
    while signals.status().mode == "move":
        assert time.monotonic() < deadline_s, f"the arm stays in {signals.status().mode}"
        time.sleep(RECOVERY_PAUSE_S)
    with ServoProcess(host, tmp_path, recover=True) as servo:
        servo.arm(0.0)
        yield servo


def test_random_faults(emulator: tuple[str, EmulatorSignals], servo: ServoProcess) -> None:
    """Thirty random scripts: the servo survives, the arm finds nothing but what was injected, the oracle no violation."""
    run_seeds(servo, emulator[1], range(SEEDS))


@pytest.mark.proof
@pytest.mark.parametrize("block", range(PROOF_BLOCKS))
def test_many_random_faults(emulator: tuple[str, EmulatorSignals], servo: ServoProcess, block: int) -> None:
    """The same for a thousand further scripts, fifty to a servo."""
    first = SEEDS + block * BLOCK_SEEDS
    run_seeds(servo, emulator[1], range(first, first + BLOCK_SEEDS))
