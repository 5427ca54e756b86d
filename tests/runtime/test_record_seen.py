"""Demonstrations with images on the emulated arm: what cameras saw is in files and journal, and a policy that sees is cloned."""

from __future__ import annotations

import ctypes.util
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from leading_hand import mode_of, pull, take_the_arm, tip_m
from poco.episodes import Episode, read_episode
from poco.hw.task_signals import EmulatorSignals
from poco.learner.checkpoint import read_checkpoint
from poco.learner.demonstrations import Recorded
from poco.learner.journal_files import JournalFiles
from poco.learner.sight import encoded
from poco.observation import without_target
from poco.runtime.contact_sheet import CONTACT_SHEET
from poco.runtime.run_events import CameraFresh, CameraStale
from poco.runtime.run_folder import EVENTS, EpisodeEnded, EpisodeStarted, RunFolder
from poco.runtime.run_options import OPERATOR_SPECIFICATION
from poco.specification import read_specification
from poco.trouble import Mode
from programs import ROOT, Program
from terminal_session import seen, sitting

TOLD, HIDDEN = without_target(read_specification(OPERATOR_SPECIFICATION))
CAMERAS, SIDE, KEPT = ("wrist", "near"), 32, 2

pytestmark = pytest.mark.skipif(
    ctypes.util.find_library("EGL") is None and ctypes.util.find_library("OSMesa") is None,
    reason="neither libegl1 nor libosmesa6 is installed",
)


def recording(folder: Path, host: str, *arguments: str) -> Program:
    """Start to record with scripted hands and both cameras of the scene."""
    flags = ["--robot", "sim", "--robot.host", host, "--emulator.clearance_mm", "3", "--task", "peg_in_hole"]
    flags += ["--hands", "scripted", "--noise", "0.1", "--image-side", str(SIDE), "--see", *CAMERAS]
    return Program("poco-runtime", "record", *flags, *arguments, "--out", folder / "run", folder=folder)


def files(folder: Path) -> list[Episode]:
    """The episodes that were kept, in order."""
    return [read_episode(file) for file in sorted((folder / "run" / "episodes").glob("*.safetensors"))]


@dataclass(frozen=True)
class Demonstrated:
    """A run in lockstep: its folder and what was kept."""

    folder: Path
    episodes: list[Episode]


@pytest.fixture(scope="module")
def demonstrated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demonstrated]:
    """Two demonstrations."""
    folder = tmp_path_factory.mktemp("demonstrated")
    program = recording(folder, "127.0.19.31", "--emulator.pacing", "lockstep", "--episodes", str(KEPT))
    try:
        assert (program.wait(), program.err) == (0, "")
        yield Demonstrated(folder, files(folder))
    finally:
        program.end()


def test_every_observation_has_its_images(demonstrated: Demonstrated) -> None:
    """In files and journal alike, of the cameras in the order asked for; what they show instead of telling is beside them."""
    journaled = list(JournalFiles(demonstrated.folder / "journal-fr3").episodes(TOLD))
    assert [episode.end for episode in journaled] == [episode.end for episode in demonstrated.episodes]
    assert len(journaled) == KEPT
    for episode, ours in zip(demonstrated.episodes, journaled, strict=True):
        assert episode.specification == TOLD
        assert episode.views is not None
        assert ours.views is not None
        assert episode.views.cameras == ours.views.cameras == CAMERAS
        assert episode.views.images.shape == (len(episode.steps) + 1, len(CAMERAS), 3, SIDE, SIDE)
        np.testing.assert_array_equal(episode.views.images, ours.views.images)
        assert episode.views.target.shape == (len(episode.steps) + 1, HIDDEN.observation_size)
        assert len({image.tobytes() for image in episode.views.images[:, 0]}) > len(episode.steps) / 2


def test_the_sheet_shows_frames(demonstrated: Demonstrated) -> None:
    """The contact sheet has the blue of the block with the hole in it, which no path has."""
    with Image.open(demonstrated.folder / "run" / CONTACT_SHEET) as picture:
        red, _, blue = np.moveaxis(np.asarray(picture.convert("RGB"), np.int16), -1, 0)
    assert np.count_nonzero(blue - red > 60) > 200


def test_a_policy_that_sees_is_cloned(demonstrated: Demonstrated) -> None:
    """The learner's own program makes encoder and policy of the files; what it has seen fits them and images of the journal."""
    out = demonstrated.folder / "checkpoint"
    flags = ["--data", str(demonstrated.folder / "run" / "episodes"), "--steps", "4", "--batch", "8", "--width", "4"]
    program = Program("poco-learner", "clone", *flags, "--out", out, folder=demonstrated.folder)
    assert (program.wait(), json.loads(program.out)["out"]) == (0, str(out))
    made = read_checkpoint(out)
    assert made.specification.cameras == CAMERAS
    assert made.specification.told == TOLD
    assert made.encoder is not None
    for episode in JournalFiles(demonstrated.folder / "journal-fr3").episodes(TOLD):
        shown = encoded(Recorded.of(episode), made.encoder, made.specification)
        assert shown.observations.shape == (len(episode.steps), made.specification.observation_size)


@pytest.mark.proof
@pytest.mark.timeout(7200)
def test_they_teach_as_much_as_the_operator(tmp_path: Path) -> None:
    """Policies that see, cloned from recorded demonstrations and the environment's operator's, on the same fresh episodes: those
    of the recorded ones are at most ten points worse (`bench/demonstrations.py` judges, and prints the figures). Three of each,
    since two clones of the same demonstrations differ by more than that."""
    words = ["--image-side", "64", "--count", "60", "--clones", "3", "--steps", "2000", "--episodes", "100"]
    bench = [sys.executable, str(ROOT / "bench" / "demonstrations.py"), "--folder", str(tmp_path / "seen"), *words]
    assert subprocess.run(bench, check=False).returncode == 0
    rows = json.loads((tmp_path / "seen" / "report.json").read_bytes())["rows"]
    assert [row["demonstrations"] for row in rows] == [60, 60]


@pytest.mark.proof
def test_a_frozen_camera_holds_the_recording(tmp_path: Path) -> None:
    """Nothing is recorded of the time in which a camera was not to be trusted; the run says which, and goes on afterwards."""
    host = "127.0.19.32"
    program = recording(tmp_path, host, "--episodes", "1")
    try:
        events = tmp_path / "run" / EVENTS
        program.until(lambda: events.is_file() and "episode_start" in events.read_text())
        EmulatorSignals(host).spoil("near", "frozen", 1500)
        assert (program.wait(), program.err) == (0, "")
    finally:
        program.end()
    assert_nothing_untrusted_is_recorded(tmp_path)


@pytest.mark.proof
def test_a_frozen_camera_takes_a_led_arm_back(tmp_path: Path) -> None:
    """It is held as long as a camera is not to be trusted, whatever the hand does, and is then in the hand again."""
    host = "127.0.19.33"
    flags = ["--robot", "sim", "--robot.host", host, "--task", "peg_in_hole", "--task.outcome", "none"]
    flags += ["--hands", "guiding", "--robot.control", "joint_impedance", "--image-side", str(SIDE)]
    with sitting(tmp_path) as start:
        session = start("record", *flags)
        memory = take_the_arm(session)
        with EmulatorSignals(host) as hand:
            goal_m = tip_m(memory) + np.array([0.0, 0.04, 0.02])
            session.program.until(lambda: pull(hand, memory, goal_m))
            session.type_until("", seen(EpisodeStarted, 1))
            hand.spoil("near", "frozen", 3000)
            session.type_until("", seen(CameraStale, 1))
            session.program.until(lambda: mode_of(memory) == Mode.HOLDING)
            session.type_until("", seen(CameraFresh, 1))
            session.program.until(lambda: mode_of(memory) == Mode.LED)
            session.program.until(lambda: pull(hand, memory, goal_m - np.array([0.0, 0.03, 0.0])))
            session.type_until("y", seen(EpisodeEnded, 1))
            session.type_until(" ", lambda events: session.program.process.poll() is not None)
        assert (session.program.wait(), session.program.err) == (0, "")
    assert_nothing_untrusted_is_recorded(tmp_path)


def assert_nothing_untrusted_is_recorded(folder: Path) -> None:
    """No step of the only episode begins while a camera was stale, and every step has its images."""
    found = RunFolder.open(folder / "run").events()
    stale = [event for event in found if isinstance(event, CameraStale)]
    assert "near" in {event.camera for event in stale}
    (episode,) = files(folder)
    for event in stale:
        again = [one.tick for one in found if isinstance(one, CameraFresh) and one.camera == event.camera]
        untrusted = range(event.tick, min(tick for tick in again if tick > event.tick))
        assert not [step.tick for step in episode.steps if step.tick in untrusted]
    assert episode.views is not None
    assert len(episode.views.images) == len(episode.steps) + 1
