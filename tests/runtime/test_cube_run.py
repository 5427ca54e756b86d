"""Cube placing through the whole path: arm and gripper of the emulator, every process of a run, the scripted operator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from poco.episodes import read_episode
from poco.runtime.run_events import GripperDone, GripperReady, GripperTold
from poco.runtime.run_folder import EpisodeEnded, Fault, Reflex, RunFolder
from programs import StartProgram

FLAGS = ("--robot", "sim", "--policy", "operator", "--emulator.task", "cube", "--task.episode_steps", "200")


def place(start: StartProgram, folder: Path, host: str, episodes: int) -> RunFolder:
    """Let the operator place the cube in so many episodes; return what the run left."""
    words = ["--emulator.pacing", "lockstep", "--robot.host", host, "--episodes", str(episodes), "--out", folder]
    program = start("poco-runtime", *FLAGS, *words)
    assert program.wait() == 0, program.err
    return RunFolder.open(folder)


def outcomes(run: RunFolder) -> list[str]:
    return [event.outcome for event in run.events() if isinstance(event, EpisodeEnded)]


def test_a_cube_is_grasped_carried_and_set_down(start: StartProgram, tmp_path: Path) -> None:
    """Two cubes reach their square; the gripper homed once, grasped and opened in each episode, and the steps say so."""
    run = place(start, tmp_path / "run", "127.0.1.80", 2)
    events = run.events()
    assert outcomes(run) == ["success", "success"]
    assert not [event for event in events if isinstance(event, Fault | Reflex)]
    assert len([event for event in events if isinstance(event, GripperReady)]) == 1
    told = [event.order for event in events if isinstance(event, GripperTold)]
    assert told.count("grasp") >= 2
    assert {event.outcome for event in events if isinstance(event, GripperDone)} <= {"done", "stopped"}
    for path in sorted(run.episodes.glob("*.safetensors")):
        episode = read_episode(path)
        assert episode.specification.grips
        asked = np.array([step.action_policy[-1] for step in episode.steps])
        width = np.array([step.observation[-1] for step in episode.steps])
        assert {-1.0, 1.0} <= set(np.round(asked, 6))
        assert np.isfinite(width).all()
        assert np.abs(width[asked < 0] - 0.0).min() < 0.05
        np.testing.assert_array_equal(
            asked[asked < 0], [step.action_executed[-1] for step in episode.steps if step.action_policy[-1] < 0]
        )


@pytest.mark.proof
def test_the_operator_places_nine_of_ten_cubes(start: StartProgram, tmp_path: Path) -> None:
    """Of fifty cubes anywhere in their region at least forty-five end on their square."""
    run = place(start, tmp_path / "run", "127.0.1.81", 50)
    count = outcomes(run).count("success")
    print(f"{count} of 50 cubes")
    assert count >= 45
