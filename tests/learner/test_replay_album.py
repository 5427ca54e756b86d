"""An album finds the images of the episodes that a replay holds by their marks, and follows as episodes come and go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from poco.learner.demonstrations import Recorded
from poco.learner.encoder import with_features
from poco.learner.replay import Replay
from poco.learner.sight import encoded
from poco.learner.vla.eyes import MARK, Eyes, ReplayAlbum
from poco.records import DISCARDED, EpisodeEnd
from poco.specification import Specification
from poco.views import Shown, Views

CAMERAS, SIDE, STEPS = ("left", "right"), 6, 9


@pytest.fixture
def eyes() -> Eyes:
    return Eyes(CAMERAS, SIDE, "frozen")


def marked(told: Specification, eyes: Eyes, number: int) -> Recorded:
    """An episode with images at every third observation, of which the second camera's are those of every other episode too."""
    draw = np.random.default_rng(number)
    images = np.zeros((STEPS + 1, 2, 3, SIDE, SIDE), np.uint8)
    images[::3, 0] = draw.integers(1, 256, images[::3, 0].shape)
    images[::3, 1] = number % 2 + 1
    observations = draw.uniform(-1, 1, (STEPS + 1, told.observation_size)).astype(np.float32)
    end = EpisodeEnd(
        robot="arm",
        boot_epoch=1,
        episode=number,
        tick=STEPS * told.period_ticks,
        final_observation=observations[-1].tolist(),
        outcome="success",
        terminated=True,
        truncated=False,
    )
    actions, rewards = np.zeros((STEPS, told.action_size), np.float32), np.zeros(STEPS, np.float32)
    views = Views(CAMERAS, images, np.zeros((STEPS + 1, 0), np.float32))
    seen = Recorded(told, observations[:-1], actions, rewards, end, views)
    return encoded(seen, eyes, with_features(told, eyes))


def marks_of(episode: Recorded) -> dict[bytes, np.ndarray]:
    """The images of `episode` by their marks; those that are wholly black have none."""
    assert episode.views is not None
    rows = np.array([*episode.observations, episode.end.final_observation], np.float32)
    marks = rows[:, : 2 * MARK].reshape(-1, 2, MARK)
    return {
        marks[place].tobytes(): episode.views.images[place]
        for place in np.ndindex(*marks.shape[:2])
        if marks[place].any()
    }


def test_it_holds_what_the_replay_holds(specification: Specification, eyes: Eyes, tmp_path: Path) -> None:
    """After every admission, discard and rewind: all images of the episodes there are, and none of those that went."""
    shown = Shown(cameras=CAMERAS, side=SIDE, target_size=0)
    replay = Replay.create(tmp_path, with_features(specification, eyes), 12_000, shown, image_interval=3)
    album, draw, given = ReplayAlbum(eyes, replay), np.random.default_rng(5), {}
    for number in range(40):
        given[number] = marked(specification, eyes, number)
        assert replay.admit(given[number])
        match int(draw.integers(8)):
            case 0:
                replay.relabel(msgspec.structs.replace(given[number].end, outcome=DISCARDED, revision=1))
            case 1:
                replay.rewind(replay.watermark - 1)
            case 2:
                replay.rewind(0)
        held = {one.end.episode for one in replay.recorded()}
        there = {mark: image for episode in held for mark, image in marks_of(given[episode]).items()}
        for mark, image in there.items():
            np.testing.assert_array_equal(album.find(mark), image)
        gone = {mark for episode in given.keys() - held for mark in marks_of(given[episode])} - there.keys()
        assert all(album.find(mark) is None for mark in gone)
    assert len(held) > 1


def test_it_reads_each_episode_once(
    specification: Specification, eyes: Eyes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While episodes come and the oldest make room, what it knows already is not read again."""
    shown = Shown(cameras=CAMERAS, side=SIDE, target_size=0)
    replay = Replay.create(tmp_path, with_features(specification, eyes), 12_000, shown, image_interval=3)
    album, read, seen = ReplayAlbum(eyes, replay), [], Replay.seen

    def noted(replay: Replay, number: int) -> Any:
        read.append(number)
        return seen(replay, number)

    monkeypatch.setattr(Replay, "seen", noted)
    for number in range(30):
        episode = marked(specification, eyes, number)
        replay.admit(episode)
        assert all(album.find(mark) is not None for mark in marks_of(episode))
    assert read == list(range(1, 31))
    assert replay.episodes < 30
