"""A replay keeps images as they came, beside its steps, within its size, and gives whole episodes back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from poco.episodes import Episode
from poco.errors import ArtifactError
from poco.learner.replay import Replay
from poco.learner.replay_layout import VIEWS_FILE
from poco.records import DISCARDED
from poco.specification import Specification
from poco.views import Shown, Views

SHOWN = Shown(cameras=("left", "right"), side=8, target_size=3)
BYTES = 60_000


def seen(episode: Episode, seed: int) -> Episode:
    random, count = np.random.default_rng(seed), len(episode.steps) + 1
    images = random.integers(0, 256, (count, *SHOWN.image_shape), dtype=np.uint8)
    return replace(episode, views=Views(SHOWN.cameras, images, random.uniform(-1, 1, (count, 3)).astype(np.float32)))


@pytest.fixture
def episodes(demonstrations: tuple[Episode, ...]) -> list[Episode]:
    return [seen(episode, number) for number, episode in enumerate(demonstrations)]


def same(first: Any, second: Episode) -> bool:
    assert first.views is not None
    assert second.views is not None
    names = ("images", "target")
    return (
        first.views.shown == SHOWN
        and all(np.array_equal(getattr(first.views, name), getattr(second.views, name)) for name in names)
        and np.array_equal(first.observations, second.observations)
        and np.array_equal(first.actions_policy, second.actions_policy)
        and np.array_equal(first.rewards, second.rewards)
        and (first.end.episode, first.end.outcome) == (second.end.episode, second.end.outcome)
        and first.end.final_observation == pytest.approx(second.end.final_observation)
    )


def test_what_is_kept_comes_back_within_the_size(
    specification: Specification, episodes: list[Episode], tmp_path: Path
) -> None:
    """More episodes than fit: the files stay below the limit and the newest episodes come back, reopened too, images and all."""
    replay = Replay.create(tmp_path / "replay", specification, BYTES, SHOWN)
    size = sum(file.stat().st_size for file in (tmp_path / "replay").glob("*.bin"))
    assert BYTES / 2 < size <= BYTES
    replay.begin_with(episodes[:2])
    for episode in episodes[2:]:
        assert replay.admit(episode)
    assert 1 < replay.episodes < len(episodes)
    replay.flush()
    for opened in (replay, Replay.open(tmp_path / "replay", specification)):
        kept = list(opened.recorded())
        assert len(kept) == replay.episodes
        assert all(same(one, other) for one, other in zip(kept, episodes[-len(kept) :], strict=True))


def test_learning_reads_the_same_with_and_without_images(
    specification: Specification, episodes: list[Episode], tmp_path: Path
) -> None:
    """Windows do not depend on images; a replay without room for them leaves them out."""
    batches = []
    for name, shown in (("with", SHOWN), ("without", None)):
        replay = Replay.create(tmp_path / name, specification, 10 * BYTES, shown)
        replay.begin_with(episodes)
        batches.append(replay.windows(np.arange(len(replay))))
        assert all((one.views is None) == (shown is None) for one in replay.recorded())
    assert batches[0].observation.equal(batches[1].observation)
    assert batches[0].actions.equal(batches[1].actions)
    assert not (tmp_path / "without" / VIEWS_FILE).exists()


def test_images_that_do_not_belong_are_refused(
    specification: Specification, episodes: list[Episode], tmp_path: Path
) -> None:
    """No images, other cameras, one too few, a target that is no number: one sentence and nothing is stored."""
    replay, views = Replay.create(tmp_path / "replay", specification, BYTES, SHOWN), episodes[0].views
    assert views is not None
    wrong = (
        None,
        replace(views, cameras=("left", "back")),
        replace(views, images=views.images[1:]),
        replace(views, images=views.images.astype(np.float32)),
        replace(views, target=np.full_like(views.target, np.nan)),
    )
    for other in wrong:
        with pytest.raises(ArtifactError, match=r"has (the )?images"):
            replay.admit(replace(episodes[0], views=other))
    assert replay.episodes == 0
    file = tmp_path / "replay" / VIEWS_FILE
    with file.open("r+b") as stream:
        stream.truncate(file.stat().st_size - 1)
    with pytest.raises(ArtifactError, match=VIEWS_FILE):
        Replay.open(tmp_path / "replay", specification)


def glimpsed(episode: Episode, interval: int) -> Episode:
    """The same episode with images of one observation in `interval`; the others are black, as a robot sends them."""
    assert episode.views is not None
    images = episode.views.images.copy()
    images[np.arange(len(images)) % interval > 0] = 0
    return replace(episode, views=replace(episode.views, images=images, target=np.zeros_like(episode.views.target)))


def test_images_that_come_seldom_leave_room_for_more(
    specification: Specification, episodes: list[Episode], tmp_path: Path
) -> None:
    """Where images come once in so many steps more episodes fit into the same size, and come back image by image, reopened too."""
    size = BYTES // 2
    often = Replay.create(tmp_path / "often", specification, size, SHOWN)
    seldom = Replay.create(tmp_path / "seldom", specification, size, SHOWN, image_interval=4)
    assert size * 0.9 < sum(file.stat().st_size for file in (tmp_path / "seldom").glob("*.bin")) <= size
    given = [glimpsed(episode, 4) for episode in episodes]
    for episode in given:
        assert often.admit(episode)
        assert seldom.admit(episode)
    assert seldom.episodes > 2 * often.episodes
    seldom.flush()
    for opened in (seldom, Replay.open(tmp_path / "seldom", specification)):
        kept = list(opened.recorded())
        assert all(same(one, other) for one, other in zip(kept, given[-len(kept) :], strict=True))
        for number, one in zip(opened.numbers, kept, strict=True):
            observations, places = opened.seen(int(number))
            assert one.views is not None
            np.testing.assert_array_equal([opened.images(int(place)) for place in places], one.views.images)
            np.testing.assert_array_equal(observations[:-1], one.observations)
            assert observations[-1] == pytest.approx(one.end.final_observation)


def test_episodes_share_the_room_for_images(
    specification: Specification, episodes: list[Episode], tmp_path: Path
) -> None:
    """Whatever comes, goes, is thrown away, taken back or opened again: what is held has its own images, the oldest give way."""
    draw, folder = np.random.default_rng(3), tmp_path / "replay"
    replay = Replay.create(folder, specification, BYTES, SHOWN, image_interval=5)
    given: dict[int, Episode] = {}
    for number in range(60):
        episode = glimpsed(episodes[number % len(episodes)], int(draw.integers(1, 7)))
        episode = replace(episode, end=msgspec.structs.replace(episode.end, episode=number))
        given[number] = episode
        assert replay.admit(episode)
        match int(draw.integers(6)):
            case 0:
                replay.relabel(msgspec.structs.replace(episode.end, outcome=DISCARDED, revision=1))
            case 1:
                replay.rewind(replay.watermark - 2)
            case 2:
                replay = Replay.open(folder, specification)
        assert all(same(one, given[one.end.episode]) for one in replay.recorded())
    assert replay.episodes > 2


def test_an_episode_with_more_images_than_there_is_room_for_is_refused(
    specification: Specification, episodes: list[Episode], tmp_path: Path
) -> None:
    """In one sentence with the remedy, and what is held stays; demonstrations that crowd each other out are refused too."""
    size = 17_000
    replay = Replay.create(tmp_path / "replay", specification, size, SHOWN, image_interval=15)
    assert replay.admit(glimpsed(episodes[0], 15))
    with pytest.raises(ArtifactError, match=r"images of 16 observations, the replay takes .*: raise replay_bytes"):
        replay.admit(episodes[1])
    assert replay.episodes == 1
    with pytest.raises(ArtifactError, match=r"and for \d+ images of a camera: raise replay_bytes"):
        replay.begin_with([glimpsed(episode, 8) for episode in episodes[1:]])
