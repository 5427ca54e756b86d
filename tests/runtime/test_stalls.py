"""Processes stopped, starved or short of memory or disk while the arm moves: it brakes, holds and goes on as configured.

A policy that is starved is measured by `poco-bench kills`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from oracle import Share, judge
from poco.artifact import read_artifact
from poco.episodes import read_episode
from poco.errors import PocoError
from poco.runtime.benchmarks.mischief import HOUR_NS, ClockStep, MemoryShortage, stopped
from poco.runtime.measures import Recording
from poco.runtime.run_folder import (
    EpisodeEnded,
    EpisodeStarted,
    Hold,
    PolicyRestart,
    PolicyStall,
    RunFolder,
    SupervisorStall,
)
from poco.trouble import BY_NAME
from programs import ARTIFACT, StartProgram, gone, is_sentence, kill, shared_memory
from runs import SPEED_MAX_M_S, assert_came_to_rest, chunks_made, report_of, run_name

SIM = ["--robot", "sim", "--robot.collision_force_n", "[200, 200, 200, 60, 60, 60]"]
"""Thresholds (N, Nm) that leave a policy alone which begins again in the middle of an insertion."""

PATIENT = ["--servo.policy_silence_s", "60"]
SMALL_DISK_BYTES = 8 << 20


def assert_inside_limits(folder: RunFolder) -> None:
    """No command of any motion of the run leaves the arm's limits."""
    recording = Recording.read(folder)
    for motion in recording.motions():
        commands = np.array(recording.ticks["command"]["q"][motion])
        verdict = judge(commands, Share(), read_artifact(ARTIFACT).specification.tip, SPEED_MAX_M_S)
        assert verdict.clean, verdict


def episodes_of(folder: RunFolder) -> tuple[list[int], list[int]]:
    """Numbers of the episodes that started and that ended, in order."""
    events = folder.events()
    started = [event.episode for event in events if isinstance(event, EpisodeStarted)]
    return started, [event.episode for event in events if isinstance(event, EpisodeEnded)]


@pytest.mark.proof
def test_a_policy_that_stood_still(run: StartProgram, tmp_path: Path) -> None:
    """The arm holds, the stall is an event, the policy goes on; what it did not see has no step and leaves a gap in the numbers."""
    program = run("127.0.11.10", *SIM, *PATIENT, "--episodes", "2")
    program.until(chunks_made(tmp_path / "run", 3))
    with stopped(program.children()["policy"]):
        time.sleep(2.0)
    assert (program.wait(), program.err) == (0, "")
    folder = RunFolder.open(tmp_path / "run")
    events = folder.events()
    assert sum(isinstance(event, PolicyStall) for event in events) >= 1
    assert not any(isinstance(event, PolicyRestart) for event in events)
    assert episodes_of(folder) == ([0, 1], [0, 1])
    assert report_of(folder.path).policy_stalls_s == [e.silent_s for e in events if isinstance(e, PolicyStall)]
    steps = read_episode(folder.episodes / "000000.safetensors").steps
    numbers = [step.key.step for step in steps]
    assert numbers == sorted(set(numbers))
    assert len(numbers) < numbers[-1] + 1
    assert all(after.tick > before.tick for before, after in pairwise(steps))
    assert_inside_limits(folder)


def test_a_policy_that_stays_stopped(run: StartProgram, tmp_path: Path) -> None:
    """Nothing waits for it for ever: it is killed, started again, repeats its episode, and the run completes."""
    program = run("127.0.11.11", *SIM, "--servo.policy_silence_s", "2", "--episodes", "2")
    program.until(chunks_made(tmp_path / "run", 3))
    policy = program.children()["policy"]
    os.kill(policy, signal.SIGSTOP)
    assert (program.wait(), program.err) == (0, "")
    assert gone(policy)
    folder = RunFolder.open(tmp_path / "run")
    restarts = [event for event in folder.events() if isinstance(event, PolicyRestart)]
    assert "no sign of life" in restarts[0].reason
    assert [event.start for event in restarts] == list(range(2, len(restarts) + 2))
    started, ended = episodes_of(folder)
    assert started[:2] == [0, 0]
    assert ended == [0, 1]
    assert report_of(folder.path).finished == 2
    assert_inside_limits(folder)


@pytest.mark.proof
def test_a_policy_that_dies_again_and_again(run: StartProgram, tmp_path: Path) -> None:
    """New starts that lead to no episode end the run with one sentence, the arm at rest."""
    program = run("127.0.11.12", *SIM, *PATIENT, "--episodes", "100")
    program.until(chunks_made(tmp_path / "run", 1))
    killed: set[int] = set()
    while program.process.poll() is None:
        policy = program.children().get("policy")
        if policy is not None and policy not in killed:
            kill(policy)
            killed.add(policy)
        time.sleep(0.05)
    assert program.wait() == PocoError.exit_code
    assert is_sentence(program.err)
    assert "did not help" in program.err
    assert len(killed) == 4
    assert_came_to_rest(RunFolder.open(tmp_path / "run").ticks())


@pytest.mark.proof
def test_a_supervisor_that_stood_still(run: StartProgram, tmp_path: Path) -> None:
    """Ctrl-Z and fg: the servo holds without a supervisor, motion resumes with it, the policy is not blamed."""
    program = run("127.0.11.13", *SIM, *PATIENT, "--episodes", "3")
    program.until(chunks_made(tmp_path / "run", 3))
    with stopped(program.process.pid):
        time.sleep(3.0)
    assert (program.wait(), program.err) == (0, "")
    folder = RunFolder.open(tmp_path / "run")
    events = folder.events()
    stalls = [event for event in events if isinstance(event, SupervisorStall)]
    assert len(stalls) >= 1
    assert BY_NAME["supervisor_lost"].code in [event.code for event in events if isinstance(event, Hold)]
    assert not any(isinstance(event, PolicyRestart) for event in events)
    assert episodes_of(folder)[1] == [0, 1, 2]
    assert report_of(folder.path).supervisor_stalls_s == [event.silent_s for event in stalls]
    assert_inside_limits(folder)


@pytest.mark.proof
def test_a_supervisor_that_stood_still_too_long(run: StartProgram, tmp_path: Path) -> None:
    """The servo has ended the motion at rest; the supervisor says so in one sentence when it goes on, and all is swept."""
    program = run("127.0.11.14", *SIM, "--servo.orphan_hold_s", "0.2", "--episodes", "100")
    program.until(chunks_made(tmp_path / "run", 3))
    children = program.children()
    with stopped(program.process.pid):
        while not gone(children["servo"]):
            time.sleep(0.05)
    assert program.wait() == PocoError.exit_code
    assert is_sentence(program.err)
    assert "servo.orphan_hold_s (0.2 s)" in program.err
    assert all(gone(child) for child in children.values())
    assert run_name(tmp_path / "run") not in shared_memory()
    assert_came_to_rest(RunFolder.open(tmp_path / "run").ticks())


def test_the_policy_goes_first_when_memory_runs_out(run: StartProgram, tmp_path: Path) -> None:
    """It has the highest score, then comes what can be started again too; the servo has the lowest this user may give."""
    program = run("127.0.11.15", *SIM, "--episodes", "100")
    program.until(chunks_made(tmp_path / "run", 1))
    scores = {
        name: int(Path(f"/proc/{process}/oom_score_adj").read_text()) for name, process in program.children().items()
    }
    assert scores["policy"] > scores["link"] > max(scores["servo"], scores["emulator"], 0)
    assert scores["servo"] == -1000 or "spared when memory runs out" in " ".join(program.out.split())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for a few seconds of a run."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.system(f"mount -t tmpfs -o size={SMALL_DISK_BYTES} none {disk} 2>/dev/null") != 0:
        pytest.skip("only root may mount a file system")
    yield disk
    os.system(f"umount {disk}")


def test_a_full_disk(start: StartProgram, small_disk: Path) -> None:
    """The arm brakes and holds, the run ends with one sentence and no process is left; what is on disk is whole."""
    out = small_disk / "run"
    program = start(
        "poco-runtime", "--policy", ARTIFACT, "--out", out, *SIM, "--robot.host", "127.0.11.16", "--episodes", "100"
    )
    program.until(chunks_made(out, 3))
    children = program.children()
    with contextlib.suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as filler:
        while filler.write(bytes(1 << 16)):
            pass
    assert program.wait() == PocoError.exit_code
    assert is_sentence(program.err)
    assert str(out) in program.err
    assert all(gone(child) for child in children.values())
    (small_disk / "filler").unlink()
    folder = RunFolder.open(out)
    ticks = folder.ticks()
    assert np.all(np.diff(ticks["state"]["tick"]) == 1)
    assert len(folder.chunks()) >= 3
    assert episodes_of(folder)[0][0] == 0
    assert (out / "servo.log").read_text() == ""
    assert_inside_limits(folder)


@pytest.mark.proof
def test_memory_runs_out(start: StartProgram, tmp_path: Path) -> None:
    """The kernel ends the one that eats or the policy, never the servo; the run goes on and completes."""
    shortage = MemoryShortage()
    out = tmp_path / "run"
    flags = ["--policy", ARTIFACT, "--out", out, *SIM, *PATIENT, "--robot.host", "127.0.11.17", "--episodes", "8"]
    try:
        with shortage.ready(tmp_path):
            program = start("poco-runtime", *flags)
            shortage.take_in(program.process.pid)
            program.until(chunks_made(out, 3))
            assert shortage.eat() < 0
            assert program.process.poll() is None
            assert (program.wait(), program.err) == (0, "")
    except PocoError as error:
        pytest.skip(str(error))
    folder = RunFolder.open(out)
    assert episodes_of(folder)[1] == list(range(8))
    assert_inside_limits(folder)


@pytest.mark.proof
def test_the_wall_clock_does_not_matter(start: StartProgram, tmp_path: Path) -> None:
    """While the wall clock jumps by an hour either way the same seed gives the same run bit for bit, and nobody waits by it."""
    clock = ClockStep()
    flags = [
        "--policy",
        ARTIFACT,
        *SIM,
        "--emulator.pacing",
        "lockstep",
        "--robot.host",
        "127.0.11.18",
        "--episodes",
        "2",
    ]
    plain = start("poco-runtime", *flags, "--out", tmp_path / "plain")
    assert (plain.wait(), plain.err) == (0, "")
    with clock.ready(tmp_path) as (_, environment), pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        program = start("poco-runtime", *flags, "--out", tmp_path / "stepped")
        patch.undo()
        program.until(chunks_made(tmp_path / "stepped", 1))
        steps = 0
        while program.process.poll() is None:
            clock.step((HOUR_NS, -HOUR_NS)[steps % 2])
            steps += 1
            time.sleep(0.05)
        assert (program.wait(), program.err) == (0, "")
        reads, waits = clock.uses()
    assert reads > 0
    assert waits == 0
    assert steps >= 4
    plain_run, stepped_run = (RunFolder.open(tmp_path / name) for name in ("plain", "stepped"))
    last_tick = [event.tick for event in plain_run.events() if isinstance(event, EpisodeEnded)][-1]
    until_its_end = [folder.ticks()[folder.ticks()["state"]["tick"] < last_tick] for folder in (plain_run, stepped_run)]
    for field in ("q", "mode", "chunk_id", "event", "fault"):
        expected, seen = (np.array(ticks["command"][field]) for ticks in until_its_end)
        assert len(expected) > 4000
        assert expected.tobytes() == seen.tobytes(), field
    attached = [[(c.chunk_id, c.observation_tick, c.attach_tick) for c in f.chunks()] for f in (plain_run, stepped_run)]
    assert attached[0] == attached[1]
    for name in ("000000.safetensors", "000001.safetensors"):
        expected_steps, seen_steps = (read_episode(folder.episodes / name).steps for folder in (plain_run, stepped_run))
        assert [(step.tick, step.observation, step.action_executed, step.reward) for step in expected_steps] == [
            (step.tick, step.observation, step.action_executed, step.reward) for step in seen_steps
        ]
