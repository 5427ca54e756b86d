"""Images for the learner of a policy that takes frames whole: on its grid of steps, whoever chose and wherever chunks began."""

from __future__ import annotations

import ctypes.util
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import numpy.typing as npt
import pytest

from poco.artifact import read_artifact
from poco.episodes import read_episode
from poco.journal.disk import FolderFiles
from poco.journal.log import LogReader
from poco.journal.records import Viewed, decode
from poco.records import ROBOT_STATE, TaskSignal
from poco.runtime.actors import Moment, PolicyActor
from poco.runtime.eyes import Eyes
from poco.runtime.grid_images import GridImages
from poco.runtime.run_folder import RunFolder
from programs import ROOT
from terminal_session import sitting

TINY = ROOT / "artifacts" / "tiny_smolvla"
CAMERAS, EVERY = ("near", "wrist"), 5

SIGNAL = TaskSignal(
    tick=0, target_position=(0.5, 0.0, 0.1), target_yaw=0.0, noise_m=0.0, noise_rad=0.0, outcome="running"
)

Pixels = npt.NDArray[np.uint8]


class Watch:
    """A policy with two cameras before which single grey levels pass."""

    def __init__(self) -> None:
        self.actor = PolicyActor(read_artifact(TINY), seed=0, task="pick up the object")
        self.eyes = SimpleNamespace(side=0, frames=())
        self.grid = GridImages(self.actor, cast(Eyes, self.eyes))

    def see(self, step: int, level: int) -> None:
        """Let `step` begin with frames of one level, in memory that the next frames take."""
        self.eyes.frames = tuple(np.full((96, 128, 3), level, np.uint8) for _ in CAMERAS)
        self.grid.saw(step)

    def choose(self) -> Pixels:
        """Let the policy make a chunk of what was seen last; return the images that it took in."""
        specification = self.actor.specification
        state = np.zeros((), ROBOT_STATE)
        observation = np.zeros(specification.observation_size, np.float32)
        self.actor.choose(Moment(0, 0, observation, state, SIGNAL, self.eyes.frames))
        self.grid.chose()
        assert self.actor.taken_in is not None
        return self.actor.taken_in.copy()

    def would_see(self) -> Pixels:
        """What the policy would take in of what was seen last."""
        images = self.actor.images_of(self.eyes.frames)
        assert images is not None
        return images

    def given(self, step: int) -> Pixels:
        """The images that the journal gets at `step`."""
        images = self.grid.of(step)
        assert images is not None
        return images


def test_a_chosen_chunk_has_the_images_that_were_taken_in() -> None:
    """Those of the choice, also when later frames have come; each is given once."""
    watch = Watch()
    watch.see(0, 40)
    taken_in = watch.choose()
    for step in range(1, EVERY):
        watch.see(step, 40 + step)
    np.testing.assert_array_equal(watch.given(0), taken_in)
    assert [watch.grid.of(step) for step in range(EVERY)] == [None] * EVERY


def test_where_nobody_chose_the_policys_own_images_are_made_of_the_frames() -> None:
    """A chunk begins beside the grid: the step on it has what the policy would have seen there, the chunk's own step has none."""
    watch = Watch()
    watch.see(3, 90)
    watch.choose()
    watch.see(5, 150)
    expected = watch.would_see()
    watch.eyes.frames[0][:] = 7
    watch.see(6, 200)
    watch.choose()
    assert watch.grid.of(3) is None
    np.testing.assert_array_equal(watch.given(5), expected)
    assert watch.grid.of(6) is None


def test_what_is_observed_anew_counts() -> None:
    """After a rest the same step begins with other frames; images that an earlier choice took in are not its own."""
    watch = Watch()
    watch.see(5, 10)
    watch.choose()
    watch.see(5, 220)
    np.testing.assert_array_equal(watch.given(5), watch.would_see())


def test_another_episode_has_nothing_of_the_one_before() -> None:
    """A step that left no record keeps nothing for the same number in the next episode."""
    watch = Watch()
    watch.see(5, 10)
    watch.choose()
    watch.see(0, 20)
    assert watch.grid.of(5) is None
    assert watch.grid.of(0) is not None


@pytest.mark.parametrize("eyes", [None, SimpleNamespace(side=64, frames=())])
def test_eyes_that_make_images_need_none(eyes: Eyes | None) -> None:
    """Nor does who sees nothing."""
    grid = GridImages(Watch().actor, eyes)
    grid.saw(0)
    grid.chose()
    assert grid.of(0) is None


@pytest.mark.skipif(
    ctypes.util.find_library("EGL") is None and ctypes.util.find_library("OSMesa") is None,
    reason="neither libegl1 nor libosmesa6 is installed",
)
def test_a_person_takes_over_and_the_grid_stays(tmp_path: Path) -> None:
    """Keys take over from a policy that sees: every fifth step and the end have the images of both cameras in the journal, none is
    black, those between have none; chunks began beside the grid meanwhile."""
    flags = ["--robot", "sim", "--robot.host", "127.0.45.5", "--emulator.pacing", "lockstep", "--policy", str(TINY)]
    flags += ["--task", "pick up the object", "--hands", "keyboard", "--task.episode_steps", "40"]
    with sitting(tmp_path) as start:
        session = start(*flags)
        session.type_until("r", lambda events: len(RunFolder.open(session.folder).chunks()) >= 7)
        assert (session.program.wait(), session.program.err) == (0, "")
    steps = read_episode(next((session.folder / "episodes").glob("*.safetensors"))).steps
    begun = [at for at, step in enumerate(steps) if at and step.chunk_id != steps[at - 1].chunk_id]
    delay = read_artifact(TINY).specification.delay_steps
    assert any(step.intervened for step in steps)
    assert any((at - delay) % EVERY for at in begun)
    shown: dict[int, dict[str, bytes]] = {}
    for entry in LogReader(FolderFiles(tmp_path / "journal-fr3")).all():
        written = decode(entry.payload)
        if written is not None and isinstance(view := written.record, Viewed):
            shown.setdefault(view.key.step, {}).setdefault(view.camera, b"")
            shown[view.key.step][view.camera] += view.pixels
    assert list(shown) == sorted({*range(0, len(steps), EVERY), len(steps)})
    assert all(tuple(images) == CAMERAS for images in shown.values())
    assert all(any(image) for images in shown.values() for image in images.values())
    assert len({images["wrist"] for images in shown.values()}) > len(shown) / 2
