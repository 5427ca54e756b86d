"""Whatever ends first, the arm comes to rest by itself: Ctrl-C, killed processes and reflexes, with all processes real."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np

from poco.errors import ArmError, FaultError
from poco.hw.fault_script import Entry, Stall
from poco.hw.task_signals import EmulatorSignals
from poco.runtime.run_folder import EpisodeEnded, EpisodeStarted, Fault, Recovery, Reflex, RunFolder
from poco.shm import RunMemory
from poco.trouble import BY_NAME, Mode
from programs import ARTIFACT, StartProgram, gone, is_sentence, kill, shared_memory, wait_gone
from runs import assert_came_to_rest, chunks_made, report_of, run_name

INTERRUPTED_EXIT = 130
TIGHT = ["--robot.collision_force_n", "[8, 8, 8, 30, 30, 30]"]
"""Thresholds so low (N, Nm) that touching the rim of a hole that the peg hardly fits is a reflex."""


def test_interrupt_brakes_first(run: StartProgram, tmp_path: Path) -> None:
    """Ctrl-C while the arm moves: it brakes, the motion ends as finished, the report is written, nothing is left behind."""
    folder = tmp_path / "run"
    program = run("127.0.2.10", "--robot", "sim", "--episodes", "100")
    program.until(chunks_made(folder, 3))
    children = list(program.children().values())
    assert len(children) == 4
    program.process.send_signal(signal.SIGINT)
    assert program.wait() == INTERRUPTED_EXIT
    assert program.err == ""
    ticks = RunFolder.open(folder).ticks()
    assert_came_to_rest(ticks)
    assert ticks["command"]["mode"][np.flatnonzero(ticks["command"]["mode"] == Mode.FOLLOWING)[-1] + 1] == Mode.BRAKING
    assert not any(isinstance(event, Reflex) for event in RunFolder.open(folder).events())
    assert report_of(folder).episodes[0].outcome == "unfinished"
    assert all(gone(child) for child in children)
    assert run_name(folder) not in shared_memory()
    assert [(folder / f"{name}.log").read_text() for name in ("servo", "policy")] == ["", ""]


def test_killed_supervisor(run: StartProgram, start: StartProgram, tmp_path: Path) -> None:
    """The arm comes to rest, is held and its motion ended; all processes leave; the next start sweeps the shared memory."""
    folder = tmp_path / "run"
    program = run("127.0.2.11", "--robot", "sim", "--episodes", "100", "--servo.orphan_hold_s", "1")
    program.until(chunks_made(folder, 3))
    name, children = run_name(folder), program.children()
    memory = RunMemory.attach(name)
    kill(program.process.pid)
    program.wait()
    parts = [RunFolder.open(folder).ticks()]
    assert parts[0]["command"]["mode"][-1] == Mode.FOLLOWING
    while not gone(children["servo"]):
        parts.append(memory.drain_ticks())
    ticks = np.concatenate([*parts, memory.drain_ticks()])
    assert_came_to_rest(ticks)
    following = np.flatnonzero(ticks["command"]["mode"] == Mode.FOLLOWING)
    assert len(ticks) - following[-1] > 200
    wait_gone(list(children.values()))
    assert [(folder / f"{name}.log").read_text() for name in ("servo", "policy")] == ["", ""]
    assert name in shared_memory()
    del memory
    nobody = ["--robot", "franka", "--robot.host", "127.0.2.12", "--sensors", "emulator://127.0.2.12"]
    assert start("poco-runtime", "--policy", ARTIFACT, "--out", tmp_path / "next", *nobody).wait() == ArmError.exit_code
    assert name not in shared_memory()


def test_killed_policy(run: StartProgram, tmp_path: Path) -> None:
    """The policy process is started again after a pause, repeats the episode it died in, and the run completes."""
    folder = tmp_path / "run"
    program = run("127.0.2.13", "--robot", "sim", "--emulator.pacing", "lockstep", "--episodes", "2")
    program.until(chunks_made(folder, 2))
    kill(program.children()["policy"])
    assert (program.wait(), program.err) == (0, "")
    assert "start 2" in program.out
    events = RunFolder.open(folder).events()
    assert [event.episode for event in events if isinstance(event, EpisodeStarted)] == [0, 0, 1]
    assert [event.episode for event in events if isinstance(event, EpisodeEnded)] == [0, 1]
    report = report_of(folder)
    assert (report.finished, report.faults, report.tick_gaps) == (2, [], 0)


def test_killed_emulator(run: StartProgram, tmp_path: Path) -> None:
    """When the emulated arm dies the run ends with one sentence and the code of an arm that is not there."""
    folder = tmp_path / "run"
    program = run("127.0.2.14", "--robot", "sim", "--episodes", "100")
    program.until(chunks_made(folder, 2))
    children = program.children()
    kill(children["emulator"])
    assert program.wait() == ArmError.exit_code
    assert is_sentence(program.err), program.err
    assert all(gone(child) for child in children.values())
    assert run_name(folder) not in shared_memory()


def test_a_stalled_emulator_is_one_fault(run: StartProgram, tmp_path: Path) -> None:
    """An emulated arm that stands still for longer than the servo waits is told once, recovered from once, and the run goes on."""
    host, folder = "127.0.2.17", tmp_path / "run"
    program = run(host, "--robot", "sim", "--episodes", "2", "--servo.emulated_silence_s", "0.4")
    program.until(chunks_made(folder, 2))
    with EmulatorSignals(host) as signals:
        signals.inject([Entry(fault=Stall(milliseconds=800), at=0)])
    assert (program.wait(), program.err) == (0, "")
    events = RunFolder.open(folder).events()
    kinds = [type(event) for event in events if isinstance(event, Fault | Recovery | Reflex)]
    assert kinds == [Fault, Recovery]
    assert [event.code for event in events if isinstance(event, Fault)] == [BY_NAME["arm_silent"].code]
    report = report_of(folder)
    assert (report.finished, [item.outcome for item in report.episodes].count("fault")) == (2, 1)


def test_reflex_in_simulation(run: StartProgram, tmp_path: Path) -> None:
    """A collision ends its episode as a fault, the arm recovers by itself, and both are counted in the report."""
    tight = ["--emulator.clearance_mm", "0.25", "--emulator.pacing", "lockstep", *TIGHT]
    program = run("127.0.2.15", "--robot", "sim", "--episodes", "2", *tight)
    assert (program.wait(), program.err) == (0, "")
    folder = RunFolder.open(tmp_path / "run")
    outcomes = [event.outcome for event in folder.events() if isinstance(event, EpisodeEnded)]
    assert len(outcomes) == 2
    assert "fault" in outcomes
    report = report_of(tmp_path / "run")
    assert report.finished == 2
    assert len(report.reflexes) >= outcomes.count("fault")
    assert report.recoveries >= len(report.reflexes)
    assert all(event.automatic for event in folder.events() if isinstance(event, Recovery))


def test_reflex_on_an_arm(run: StartProgram, start: StartProgram, tmp_path: Path) -> None:
    """The same on `--robot franka` ends the run with the code of a latched fault; the arm stays where a person finds it."""
    host = "127.0.2.16"
    emulator = start("poco-emulator", "--host", host, "--pacing", "lockstep", "--clearance-mm", "0.25")
    emulator.until(lambda: "ready" in emulator.out)
    program = run(host, "--robot", "franka", "--sensors", f"emulator://{host}", "--episodes", "5", *TIGHT)
    assert program.wait() == FaultError.exit_code
    assert is_sentence(program.err), program.err
    assert "arm" in program.err
    report = report_of(tmp_path / "run")
    assert (len(report.reflexes), report.recoveries) == (1, 0)
    with EmulatorSignals(host) as signals:
        status = signals.status()
    assert (status.reflexes, status.connected) == (1, False)
