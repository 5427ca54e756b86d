"""A replay keeps images as they came, beside its steps, within its size, and gives whole episodes back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from poco.episodes import Episode
from poco.errors import ArtifactError
from poco.learner.replay import Replay
from poco.learner.replay_layout import VIEWS_FILE
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
