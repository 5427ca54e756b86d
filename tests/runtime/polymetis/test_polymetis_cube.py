"""Cube placing behind Polymetis: both of its emulated servers, every process of a run, the scripted operator."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from poco.runtime.measures import Report
from poco.runtime.report import REPORT
from poco.runtime.run_events import GripperDone, GripperReady, GripperTold
from poco.runtime.run_folder import RunFolder
from programs import StartProgram


def place(start: StartProgram, folder: Path, host: str, episodes: int) -> RunFolder:
    """Let the operator place the cube in so many episodes; return what the run left."""
    words = ["--host", host, "--interface", "polymetis", "--task", "cube", "--pacing", "lockstep"]
    emulator = start("poco-emulator", *words)
    emulator.until(lambda: "ready" in emulator.out)
    task = ["--emulator.task", "cube", "--task.episode_steps", "200", "--policy", "operator"]
    addresses = ["--robot", "polymetis", "--robot.host", host, "--sensors", f"emulator://{host}"]
    program = start("poco-runtime", *addresses, *task, "--episodes", str(episodes), "--out", folder)
    assert program.wait() == 0, program.err
    return RunFolder.open(folder)


def test_a_cube_is_grasped_carried_and_set_down(start: StartProgram, tmp_path: Path) -> None:
    """The cube reaches its square; the gripper was ready, grasped and opened, and every order came to its end."""
    run = place(start, tmp_path / "run", "127.0.5.25", 1)
    report = msgspec.json.decode((run.path / REPORT).read_bytes(), type=Report)
    assert (report.finished, report.successes, report.faults) == (1, 1, [])
    events = run.events()
    ready = [event for event in events if isinstance(event, GripperReady)]
    assert [event.facts["Polymetis"] for event in ready] == ["of unknown version"]
    assert "grasp" in [event.order for event in events if isinstance(event, GripperTold)]
    ends = [(event.order, event.outcome) for event in events if isinstance(event, GripperDone)]
    assert ("grasp", "done") in ends
    assert {outcome for _, outcome in ends} <= {"done", "stopped"}


@pytest.mark.proof
@pytest.mark.timeout(1800)
def test_the_operator_places_nine_of_ten_cubes(start: StartProgram, tmp_path: Path) -> None:
    """Of twenty cubes anywhere in their region at least eighteen end on their square."""
    run = place(start, tmp_path / "run", "127.0.5.26", 20)
    report = msgspec.json.decode((run.path / REPORT).read_bytes(), type=Report)
    print(f"{report.successes} of {report.finished} cubes")
    assert report.successes >= 18
