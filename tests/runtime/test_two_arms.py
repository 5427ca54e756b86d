"""Two robots on one computer: each run has its own arm, shared memory, journal and status, and does not notice the other."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from poco.hw.task_signals import EmulatorSignals
from poco.runtime.supervisor import INTERRUPTED_EXIT
from programs import ARTIFACT, Program, StartProgram, shared_memory
from runs import assert_undisturbed, chunks_made, ended, run_name

HOSTS = {"left": "127.0.30.61", "right": "127.0.30.62"}
EPISODES = {"left": 100_000, "right": 1}


@pytest.fixture
def arms(start: StartProgram) -> Program:
    """Two emulated arms in lockstep by one command."""
    program = start("poco-emulator", "--host", HOSTS["left"], "--arms", "2", "--pacing", "lockstep")
    program.until(lambda: program.out.count("ready") == 2)
    return program


def test_two_runs_drive_two_arms_at_once(arms: Program, start: StartProgram, tmp_path: Path) -> None:
    """Both move, in one folder, with names of their own; the right one finishes while the left one goes on until interrupted."""
    runs = {}
    for name, episodes in EPISODES.items():
        address = f"emulator://{HOSTS[name]}"
        task = ["--task.sensors", address, "--task.outcome", address, "--task.reset", address]
        where = ["--robot", "franka", "--robot.host", HOSTS[name], "--robot.name", name, "--out", tmp_path / name]
        runs[name] = start("poco-runtime", "--policy", ARTIFACT, *where, *task, "--episodes", str(episodes))
    for name, program in runs.items():
        program.until(chunks_made(tmp_path / name, 2))
    names = {name: run_name(tmp_path / name) for name in HOSTS}
    assert runs["right"].wait() == 0, runs["right"].err
    assert names["left"] in shared_memory()
    assert names["right"] not in shared_memory()
    runs["left"].process.send_signal(signal.SIGINT)
    assert runs["left"].wait() == INTERRUPTED_EXIT
    assert names["left"] not in shared_memory()
    assert len(ended(tmp_path / "right")) == EPISODES["right"]
    for name, host in HOSTS.items():
        assert_undisturbed(tmp_path / name)
        assert any((tmp_path / f"journal-{name}").iterdir())
        with EmulatorSignals(host) as signals:
            status = signals.status()
        assert (status.mode, status.reflexes, status.connected) == ("idle", 0, False)
        assert status.commands_taken > 1000
