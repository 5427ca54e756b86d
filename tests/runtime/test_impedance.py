"""The real servo under its own laws, through the vendor's library, on the emulated arm: holds, follows, recovers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from emulated_arm import emulated_arm
from poco import _core
from poco.hw.fault_script import Drop, Entry, Fault, NotFinite, Push, Reflex
from poco.hw.task_signals import EmulatorSignals
from poco.runtime.run_folder import EpisodeEnded, RunFolder
from poco.runtime.run_folder import Fault as FaultEvent
from poco.trouble import TROUBLES, Mode, Request
from programs import StartProgram
from servo_process import ServoProcess

HOST = "127.0.12.31"
PUSH = Push(force_n=(8.0, 5.0, -12.0), ticks=1500)
FORCE_N = np.array(PUSH.force_n)
HELD_RAD, HELD_M = 5e-4, 5e-4
CONTROLS = ("joint_impedance", "cartesian_impedance")
CALM = {"gap_bridged", "chunk_ended"}


@pytest.fixture(scope="module")
def signals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorSignals]:
    """The task port of an emulated arm in lockstep."""
    flags = ["--pacing", "lockstep", "--task", "none", "--recovery-delay-s", "0.05"]
    with emulated_arm(HOST, tmp_path_factory.mktemp("emulator"), *flags) as signals:
        yield signals


def tip(servo: ServoProcess, q: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the position (m) of the tool tip at `q`."""
    return np.array(_core.tip(q.tolist(), servo.limits)[0])


def now(signals: EmulatorSignals, fault: Fault) -> None:
    """Let `fault` happen in the next tick."""
    signals.inject([Entry(fault=fault, at=0)])


def noted(servo: ServoProcess) -> set[str]:
    """Return the names of the troubles so far."""
    counts = servo.memory.control()["event_counts"]
    return {trouble.name for trouble in TROUBLES.values() if counts[trouble.code]}


def finish(servo: ServoProcess) -> None:
    """Ask for the stop; the servo ends the motion and leaves with 0."""
    servo.memory.set_request(Request.STOP)
    assert servo.wait() == 0


@pytest.mark.parametrize("control", CONTROLS)
def test_it_holds_follows_and_recovers(signals: EmulatorSignals, tmp_path: Path, control: str) -> None:
    """Held against 15 N to force over stiffness; the chunk's end reached; losses, blindness and a reflex borne."""
    with ServoProcess(HOST, tmp_path, recover=True, robot__control=control) as servo:
        reflexes = signals.status().reflexes
        servo.arm(0.0)
        held = np.array(servo.state["q_c"])
        now(signals, PUSH)
        servo.pass_ticks(1300)
        state = servo.state
        impedance = servo.options.settings.robot.impedance
        if control == "joint_impedance":
            expected = np.array(state["tau_ext"]) / np.array(impedance.stiffness_nm_rad)
            np.testing.assert_allclose(np.array(state["q"]) - held, expected, atol=HELD_RAD)
            assert np.abs(expected).max() > 2e-3
        else:
            moved = tip(servo, np.array(state["q"])) - tip(servo, held)
            np.testing.assert_allclose(moved, FORCE_N / np.array(impedance.tip_stiffness[:3]), atol=HELD_M)
        servo.pass_ticks(3000)  # the null space comes back last
        np.testing.assert_allclose(servo.state["q"], held, atol=HELD_RAD)
        servo.follow()
        now(signals, Drop(what="commands", count=5))
        servo.pass_ticks(50)
        now(signals, Drop(what="states", count=4))
        servo.until(lambda: servo.mode == Mode.HOLDING)
        servo.pass_ticks(500)
        np.testing.assert_allclose(servo.state["q"], servo.state["q_c"], atol=2e-3)
        assert noted(servo) <= CALM
        assert signals.status().reflexes == reflexes
        servo.follow()
        now(signals, Reflex(error="joint_reflex"))
        servo.until(lambda: servo.fault == "arm_error")
        servo.memory.recover()
        servo.until(lambda: servo.mode == Mode.HOLDING)
        servo.follow()
        now(signals, NotFinite(field="q"))
        servo.until(lambda: servo.fault == "state_not_finite")
        servo.until(lambda: servo.mode == Mode.FAULT)
        servo.memory.recover()
        servo.until(lambda: servo.mode == Mode.HOLDING)
        assert signals.status().reflexes == reflexes + 1
        servo.follow()
        servo.until(lambda: servo.mode == Mode.HOLDING)
        finish(servo)
        assert signals.status().mode == "idle"


def test_a_whole_run_by_joint_impedance(run: StartProgram, tmp_path: Path) -> None:
    """`poco-runtime --robot.control joint_impedance`: the committed policy ends its episode in success, without a fault."""
    flags = ["--emulator.pacing", "lockstep", "--robot.control", "joint_impedance", "--episodes", "1"]
    program = run("127.0.12.32", "--robot", "sim", *flags)
    assert program.wait() == 0, program.err
    assert "joint_impedance" in (tmp_path / "run" / "options.json").read_text()
    events = RunFolder.open(tmp_path / "run").events()
    assert [event.outcome for event in events if isinstance(event, EpisodeEnded)] == ["success"]
    assert not [event for event in events if isinstance(event, FaultEvent)]
