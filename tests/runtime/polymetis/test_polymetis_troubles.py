"""What becomes of a run when the server behind it does one of the things that it does; all processes real."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from poco.errors import FaultError, UsageError
from poco.hw.fault_script import Entry, Fault, Reflex, Silence
from poco.hw.polymetis.wire import ControllerServer
from poco.hw.task_signals import EmulatorSignals
from poco.runtime.measures import Report
from poco.runtime.report import REPORT
from programs import Program, StartProgram, is_sentence

HOST = "127.0.5.5"
MANY = "50"


@pytest.fixture
def emulator(start: StartProgram) -> Program:
    """A Polymetis server over the emulated arm, in lockstep."""
    program = start("poco-emulator", "--host", HOST, "--interface", "polymetis", "--pacing", "lockstep")
    program.until(lambda: "ready" in program.out)
    return program


@pytest.fixture
def act(emulator: Program, start: StartProgram, tmp_path: Path) -> Callable[..., Program]:
    """Start the operator behind that server, his run folder tmp_path/run."""

    def act(*words: str) -> Program:
        addresses = ["--robot", "polymetis", "--robot.host", HOST, "--sensors", f"emulator://{HOST}"]
        return start("poco-runtime", *addresses, "--policy", "operator", "--out", str(tmp_path / "run"), *words)

    return act


def report(tmp_path: Path) -> Report:
    return msgspec.json.decode((tmp_path / "run" / REPORT).read_bytes(), type=Report)


def in_motion(program: Program) -> None:
    with EmulatorSignals(HOST) as signals:
        program.until(lambda: signals.status().commands_taken >= 2)


@pytest.mark.parametrize(
    "fault",
    [Silence(ticks=1500), pytest.param(Reflex(error="joint_reflex"), marks=pytest.mark.proof)],
    ids=["silence", "bound"],
)
def test_our_controller_gone(act: Callable[..., Program], tmp_path: Path, fault: Fault) -> None:
    """After a second without robot client the server holds the arm with its own controller: the run ends with a fault."""
    program = act("--episodes", MANY)
    in_motion(program)
    with EmulatorSignals(HOST) as signals:
        signals.inject([Entry(fault=fault, at=0)])
    assert program.wait() == FaultError.exit_code
    assert is_sentence(program.err)
    assert len(report(tmp_path).faults) == 1


@pytest.mark.proof
def test_another_controller_in_its_place(act: Callable[..., Program], tmp_path: Path) -> None:
    """Where somebody else sets a controller while ours runs, the torques tell: the run ends with a fault."""
    from told_controller import controller

    program = act("--episodes", MANY)
    in_motion(program)
    intruder = ControllerServer(HOST)
    state = intruder.state()
    intruder.set_controller(controller(state.timestamp.seconds, np.array(state.joint_positions) + 0.01))
    intruder.close()
    assert program.wait() == FaultError.exit_code
    assert is_sentence(program.err)


@pytest.mark.proof
def test_a_server_that_dies(act: Callable[..., Program], emulator: Program) -> None:
    """Without a server the run ends with one sentence."""
    program = act("--episodes", MANY)
    in_motion(program)
    emulator.process.kill()
    assert program.wait() != 0
    assert is_sentence(program.err)


def test_nobody_there(start: StartProgram, tmp_path: Path) -> None:
    """Without a server nothing begins, and the sentence says what to start."""
    words = [
        "--robot",
        "polymetis",
        "--robot.host",
        "127.0.5.9",
        "--sensors",
        "emulator://127.0.5.9",
        "--policy",
        "operator",
    ]
    program = start("poco-runtime", *words, "--out", str(tmp_path / "run"))
    assert program.wait() != 0
    assert is_sentence(program.err)


def test_what_is_not_there_is_refused(start: StartProgram, tmp_path: Path) -> None:
    """The servo's own laws are refused in one sentence before anything moves."""
    addresses = ["--robot", "polymetis", "--robot.host", "127.0.5.9", "--sensors", "none", "--task.outcome", "none"]
    words = ["--robot.control", "joint_impedance", "--policy", "operator", "--out", str(tmp_path / "run")]
    program = start("poco-runtime", *addresses, *words)
    assert program.wait() == UsageError.exit_code
    assert is_sentence(program.err)
    assert "robot.control" in program.err
