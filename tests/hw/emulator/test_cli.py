"""`poco-emulator` says in one sentence what is wrong and leaves with the documented exit code."""

from __future__ import annotations

import signal
import subprocess
import sys

from emulator_program import run
from fci_client import StartEmulator


def test_help_shows_examples() -> None:
    """--help explains the pacing and gives examples."""
    result = run("--help")
    assert result.returncode == 0
    assert "Examples" in result.stdout
    assert "lockstep" in result.stdout


def test_address_in_use_is_exit_code_6_and_interrupt_130(start_emulator: StartEmulator) -> None:
    """A taken address names the remedy; Ctrl-C ends an emulator without a traceback."""
    first = start_emulator("127.0.1.41", "--task", "none")
    second = run("--host", "127.0.1.41", "--task", "none")
    assert second.returncode == 6
    assert "127.0.0.2 (poco-emulator --host" in second.stderr
    assert second.stderr.count("\n") == 1
    first.send_signal(signal.SIGINT)
    _, errors = first.communicate(timeout=60)
    assert first.returncode == 130
    assert errors == ""


def test_wrong_values_are_exit_code_2() -> None:
    """A value outside its range names value, limit and unit."""
    wrong = (
        ("--recovery-delay-s", "1e9"),
        ("--seed", "-1"),
        ("--clearance-mm", "50"),
        ("--arms", "0"),
        ("--arms", "2", "--host", "localhost"),
        ("--arms", "2", "--host", "127.255.255.255"),
    )
    for flags in wrong:
        result = run("--host", "127.0.1.42", *flags)
        assert result.returncode == 2
        assert "must" in result.stderr
        assert "Traceback" not in result.stderr


def test_emulator_ends_after_its_parent(start_emulator: StartEmulator) -> None:
    """With --exit-with-parent it leaves by itself once that process is gone and nobody is connected."""
    parent = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    emulator = start_emulator("127.0.1.43", "--task", "none", "--exit-with-parent", str(parent.pid))
    assert emulator.poll() is None
    parent.communicate()
    assert emulator.wait(timeout=60) == 0
