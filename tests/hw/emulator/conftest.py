"""Emulators in processes of their own, as pylibfranka needs them: it never lets go of the interpreter's lock."""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Iterator

import pytest
from emulator_program import PROGRAM
from fci_client import StartEmulator

START_TIMEOUT_S = 60.0


@pytest.fixture
def start_emulator() -> Iterator[StartEmulator]:
    """Start `poco-emulator` on a host with flags, wait for its ready line, and end it after the test."""
    running: list[subprocess.Popen[str]] = []

    def start(host: str, *flags: str) -> subprocess.Popen[str]:
        command = [*PROGRAM, "--host", host, *flags]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        running.append(process)
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], START_TIMEOUT_S)
        assert ready, "no ready line"
        assert "ready" in process.stdout.readline()
        return process

    yield start
    for process in running:
        process.terminate()
        process.communicate(timeout=60)


@pytest.fixture(autouse=True)
def ordinary_scheduling() -> Iterator[None]:
    """Undo what the vendor's library does to the thread that makes a Robot: FIFO 99, where it may."""
    yield
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
