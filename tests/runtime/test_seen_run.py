"""A policy that sees drives the emulated arm through camera processes, from its artifact, with everything a run has."""

from __future__ import annotations

import ctypes.util
import json
import re
import signal
from pathlib import Path

import msgspec
import numpy as np
import pytest

from poco.artifact import read_artifact
from poco.episodes import Episode, read_episode
from poco.learner.journal_files import JournalFiles
from poco.learner.own_episodes import own_successes
from poco.runtime.encoder import Encoder
from poco.runtime.measures import Report
from poco.runtime.run_events import CameraOpened, CameraStale
from poco.runtime.run_folder import EpisodeEnded, RunFolder
from programs import ROOT, Program, StartProgram, is_sentence, shared_memory

SEEING = ROOT / "artifacts" / "peg_in_hole_seen"
EPISODES = 2

pytestmark = pytest.mark.skipif(
    ctypes.util.find_library("EGL") is None and ctypes.util.find_library("OSMesa") is None,
    reason="neither libegl1 nor libosmesa6 is installed",
)


def see(start: StartProgram, folder: Path, host: str, *arguments: str) -> Program:
    """Start a run of the committed policy that sees, in lockstep."""
    flags = [
        "--robot",
        "sim",
        "--robot.host",
        host,
        "--emulator.pacing",
        "lockstep",
        "--policy",
        SEEING,
        "--out",
        folder,
    ]
    return start("poco-runtime", *flags, "--episodes", str(EPISODES), *arguments)


def test_it_sees_and_succeeds(start: StartProgram, tmp_path: Path) -> None:
    """Two episodes end in success, never with a stale image, in processes without torch; the same seed sends the same commands."""
    program = see(start, tmp_path / "a", "127.0.2.51")
    program.until(lambda: "episode 0 (1 of " in program.out)
    maps = {name: Path(f"/proc/{process}/maps").read_text() for name, process in program.children().items()}
    assert (program.wait(), program.err) == (0, "")
    assert not any("libtorch" in text for text in maps.values())
    assert {name for name, text in maps.items() if "libmujoco" in text} == {"emulator", "camera"}
    first = RunFolder.open(tmp_path / "a")
    events = first.events()
    assert [event.outcome for event in events if isinstance(event, EpisodeEnded)] == ["success"] * EPISODES
    assert {event.camera for event in events if isinstance(event, CameraOpened)} == {"near", "wrist"}
    assert not [event for event in events if isinstance(event, CameraStale)]
    assert all(chunk.image_ns > 0 for chunk in first.chunks())
    report = msgspec.json.decode((first.path / "report.json").read_bytes(), type=Report)
    assert set(report.cameras) == {"near", "wrist"}
    steps = sum(event.steps for event in events if isinstance(event, EpisodeEnded))
    for camera in report.cameras.values():
        assert camera.frames > steps
        assert (camera.lost, camera.repeated, camera.stale) == (0, 0, [])
    options = json.loads((first.path / "options.json").read_bytes())
    assert not [name for name in shared_memory() if name.startswith(options["run_name"])]
    again = see(start, tmp_path / "b", "127.0.2.52")
    assert (again.wait(), again.err) == (0, "")
    second = RunFolder.open(tmp_path / "b")
    last_tick = [event.tick for event in events if isinstance(event, EpisodeEnded)][-1]
    ours, theirs = (folder.ticks() for folder in (first, second))
    count = int(np.searchsorted(ours["state"]["tick"], last_tick))
    assert ours["command"]["q"][:count].tobytes() == theirs["command"]["q"][:count].tobytes()
    episodes = [
        [read_episode(path) for path in sorted(folder.episodes.glob("*.safetensors"))] for folder in (first, second)
    ]
    for one, other in zip(*episodes, strict=True):
        assert [step.observation for step in one.steps] == [step.observation for step in other.steps]
    assert_images_are_in_the_journal(tmp_path / "journal-fr3", [*episodes[0], *episodes[1]])


def assert_images_are_in_the_journal(folder: Path, episodes: list[Episode]) -> None:
    """Every observation of the journal has its images, and the encoder makes the recorded observation of them, bit for bit."""
    artifact = read_artifact(SEEING)
    encoder, told = Encoder(artifact), artifact.specification.told.observation_size
    journaled = list(JournalFiles(folder).episodes(artifact.specification))
    assert [len(episode.steps) for episode in journaled] == [len(episode.steps) for episode in episodes]
    for episode in journaled:
        assert episode.views is not None
        assert episode.views.cameras == ("near", "wrist")
        observations = np.array([*episode.observations, episode.end.final_observation], np.float32)
        for images, observation in zip(episode.views.images, observations, strict=True):
            np.testing.assert_array_equal(encoder.run(images, observation[-told:]), observation)


def test_a_missing_camera_is_said_before_anything_starts(start: StartProgram, tmp_path: Path) -> None:
    """Settings without one of the policy's cameras end the run with one sentence and a code of its own."""
    camera = {"name": "near", "source": "rendered", "width": 64, "height": 64, "rate_hz": 30, "crop": None}
    camera |= {"exposure_us": None, "white_balance_k": None, "age_max_s": 0.1, "repeats_max": 5}
    program = see(start, tmp_path / "run", "127.0.2.53", "--cameras", json.dumps([camera]))
    assert program.wait() == 10
    assert is_sentence(program.err)
    assert "sees through the camera wrist, the settings have near" in program.err
    assert not (tmp_path / "run").exists()


def test_frames_that_are_too_small_are_refused(start: StartProgram, tmp_path: Path) -> None:
    """A camera with fewer pixels than the policy sees ends the run before anything starts."""
    cameras: list[dict[str, object]] = [
        {
            "name": name,
            "source": "rendered",
            "width": 48,
            "height": 48,
            "rate_hz": 30,
            "crop": None,
            "exposure_us": None,
        }
        | {"white_balance_k": None, "age_max_s": 0.1, "repeats_max": 5}
        for name in ("near", "wrist")
    ]
    program = see(start, tmp_path / "run", "127.0.2.54", "--cameras", json.dumps(cameras))
    assert program.wait() == 3
    assert is_sentence(program.err)
    assert "shows 48 x 48 pixels of 48 x 48, the policy sees 64 x 64" in program.err
    assert not (tmp_path / "run").exists()


@pytest.mark.proof
def test_images_reach_the_replay_of_a_learner(start: StartProgram, tmp_path: Path) -> None:
    """What a robot saw goes over the link into the replay of a serving learner, and a new encoder can be cloned from it."""
    key = tmp_path / "trust"
    assert start("poco-trust", "init", "--folder", key).wait() == 0
    recipe, address = tmp_path / "recipe.yaml", f"ipc://{tmp_path}/learner"
    text = (ROOT / "configs" / "cpu" / "peg_in_hole_seen.yaml").read_text()
    recipe.write_text(re.sub("replay_bytes: [0-9]+", "replay_bytes: 60000000", text))
    served = tmp_path / "served"
    flags = ["--artifact", SEEING, "--config", recipe, "--out", served, "--signing-key", key / "learner.key"]
    learner = start("poco-learner", "serve", *flags, "--bind", address)
    learner.until(lambda: "serving robots" in learner.err)
    robot = see(start, tmp_path / "run", "127.0.2.61", "--link", address)
    assert (robot.wait(), robot.err) == (0, "")
    learner.until(lambda: f"; {EPISODES} episodes, " in learner.err)
    learner.process.send_signal(signal.SIGTERM)
    assert learner.wait() == 0
    successes = own_successes(served)
    assert len(successes.episodes) == EPISODES
    assert successes.specification.cameras == ()
    recorded = [read_episode(path) for path in sorted((tmp_path / "run" / "episodes").glob("*.safetensors"))]
    encoder, told = Encoder(read_artifact(SEEING)), successes.specification.observation_size
    for episode, ours in zip(successes.episodes, recorded, strict=True):
        assert episode.views is not None
        for images, observation in zip(episode.views.images, ours.observations, strict=False):
            np.testing.assert_array_equal(encoder.run(images, observation[-told:]), observation)
