"""Images on their way from a robot's journal into the replay: whole and in their places, or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from poco.episodes import Episode
from poco.journal.disk import FolderDisk
from poco.journal.records import VIEWED_SIDE_MAX, Boot, Ended, Record, Stepped, Viewed, Written
from poco.learner.gathering import CAMERAS_MAX, Finished, Gathering
from poco.learner.intake import Admitted, admit
from poco.learner.journal_files import JournalFiles
from poco.learner.replay import Replay
from poco.records import StepKey
from poco.runtime.journal import Journal
from poco.specification import Specification
from poco.surroundings import RealSurroundings
from poco.views import Shown, Views

SHOWN = Shown(cameras=("left", "right"), side=8, target_size=0)


@pytest.fixture
def seen(demonstrations: tuple[Episode, ...]) -> Episode:
    """An episode with images of two cameras."""
    episode, generator = demonstrations[0], np.random.default_rng(0)
    count = len(episode.steps) + 1
    images = generator.integers(0, 256, (count, *SHOWN.image_shape), np.uint8)
    return replace(episode, views=Views(SHOWN.cameras, images, np.zeros((count, 0), np.float32)))


def told(episode: Episode) -> list[Record]:
    """What a robot records of `episode`."""
    assert episode.views is not None
    end, specification = episode.end, episode.specification
    records: list[Record] = [
        Boot(
            robot=end.robot,
            boot_epoch=end.boot_epoch,
            generation=1,
            specification=specification,
            specification_hash=specification.digest(),
        )
    ]
    ending = Ended(end=end)
    for number, images in enumerate(episode.views.images):
        key = StepKey(end.robot, end.boot_epoch, end.episode, number)
        records += [
            Viewed(key=key, camera=camera, side=SHOWN.side, pixels=image.tobytes())
            for camera, image in zip(SHOWN.cameras, images, strict=True)
        ]
        records.append(Stepped(step=episode.steps[number]) if number < len(episode.steps) else ending)
    return records


def gathered(specification: Specification, records: list[Record]) -> tuple[list[Finished], Gathering]:
    """What becomes of `records`, one entry each."""
    gathering = Gathering(specification.digest())
    finished = [
        one
        for position, record in enumerate(records, 1)
        for one in gathering.take(position, "arm", "journal", Written("policy-1", position, 0, 0, record))
    ]
    return finished, gathering


def test_images_come_out_as_they_went_in(specification: Specification, seen: Episode, tmp_path: Path) -> None:
    """Through a journal on a disk and into a replay that keeps images: every level is in its place."""
    journal = Journal(FolderDisk(tmp_path / "journal"), "arm", RealSurroundings(), quota_bytes=1 << 30)
    for number, record in enumerate(told(seen), 1):
        journal.append("policy-1", number, record)
    assert journal.commit()
    journal.close()
    assert seen.views is not None
    (episode,) = JournalFiles(tmp_path / "journal").episodes(specification)
    assert episode.views is not None
    assert episode.views.shown == SHOWN
    np.testing.assert_array_equal(episode.views.images, seen.views.images)
    ((finished,), _) = gathered(specification, told(seen))
    assert finished.first_position == 2
    replay = Replay.create(tmp_path / "replay", specification, 100_000, SHOWN)
    assert admit(finished, replay, Admitted())
    (kept,) = replay.recorded()
    assert kept.views is not None
    np.testing.assert_array_equal(kept.views.images, seen.views.images)
    plain = Replay.create(tmp_path / "plain", specification, 100_000)
    assert admit(finished, plain, Admitted())


@pytest.mark.parametrize("lost", [1, 2, 5, -2, -3])
def test_an_image_too_few_means_none(specification: Specification, seen: Episode, lost: int) -> None:
    """Without one of its images the episode is still whole, but has no images, and a replay that keeps them says so."""
    records = told(seen)
    assert isinstance(records.pop(lost), Viewed)
    ((finished,), _) = gathered(specification, records)
    assert len(finished.steps) == len(seen.steps)
    assert finished.views is None


def test_images_of_strangers_stay_out(specification: Specification, seen: Episode, tmp_path: Path) -> None:
    """Too many, in another order of steps, of another size than they say, of other episodes: counted, never kept."""
    records = told(seen)
    first = records[1]
    assert isinstance(first, Viewed)
    ahead = msgspec.structs.replace(first, key=StepKey("arm", 1, seen.end.episode, 9))
    short = msgspec.structs.replace(first, pixels=first.pixels[1:])
    crowd: list[Record] = [first] * (CAMERAS_MAX + 5)
    finished, gathering = gathered(specification, [records[0], ahead, short, *crowd])
    assert finished == []
    assert gathering.counts["images"] == CAMERAS_MAX
    assert gathering.counts["images out of place"] == 7
    other = msgspec.structs.replace(first, key=StepKey("somebody", 1, 0, 0))
    assert gathered(specification, [records[0], other])[1].counts["of another robot"] == 1
    ((done,), _) = gathered(specification, [records[0], ahead, *records[1:]])
    assert done.views is not None
    admitted = Admitted()
    replay = Replay.create(tmp_path / "replay", specification, 100_000, Shown(cameras=("left",), side=8, target_size=0))
    assert not admit(done, replay, admitted)
    assert "the replay keeps" in admitted.last_refusal


def test_the_largest_image_fits_into_a_packet() -> None:
    """What a robot may journal reaches the link process in one piece."""
    from poco.journal.records import encode
    from poco.runtime.entrance import PACKET_BYTES, Offer

    key = StepKey("r" * 64, 2**62, 2**62, 2**62)
    viewed = Viewed(key=key, camera="c" * 64, side=VIEWED_SIDE_MAX, pixels=bytes(3 * VIEWED_SIDE_MAX**2))
    assert len(encode(Offer(2**62, viewed))) <= PACKET_BYTES
