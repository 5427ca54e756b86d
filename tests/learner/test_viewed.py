"""Images on their way from a robot's journal into the replay: whole and in their places, or not at all."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from poco.episodes import Episode
from poco.journal.disk import FolderDisk
from poco.journal.records import (
    EVERY_STEP_SIDE_MAX,
    VIEWED_SIDE_MAX,
    Boot,
    Ended,
    Record,
    Stepped,
    Viewed,
    Written,
    encode,
    viewed,
)
from poco.learner.encoder import with_features
from poco.learner.episode_assembly import CAMERAS_MAX, EPISODE_IMAGES_BYTES, Arrival, Finished, assembled
from poco.learner.gathering import OPEN_MAX, Gathering
from poco.learner.intake import Admitted, admit
from poco.learner.journal_files import JournalFiles
from poco.learner.replay import Replay
from poco.learner.vla.eyes import Eyes
from poco.records import StepKey
from poco.runtime.entrance import PACKET_BYTES, Offer
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


def gathered(
    specification: Specification, records: Sequence[Record], once_a_chunk: bool = False
) -> tuple[list[Finished], Gathering]:
    """What becomes of `records`, one entry each."""
    gathering = Gathering(specification.digest())
    entries = [(position, Written("policy-1", position, 0, 0, record)) for position, record in enumerate(records, 1)]
    arrivals = [one for position, entry in entries for one in gathering.take(position, "arm", "journal", entry)]
    finished = [assembled(one, entries[one.first_position - 1 : one.position], once_a_chunk) for one in arrivals]
    return [one for one in finished if one is not None], gathering


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


def test_an_episode_without_the_images_of_a_policy_that_looks_is_not_learned_from(
    specification: Specification, seen: Episode, tmp_path: Path
) -> None:
    """It is counted as refused, and the sentence is one for who runs robots."""
    ((finished,), _) = gathered(specification, [one for one in told(seen) if not isinstance(one, Viewed)])
    eyes, admitted = Eyes(SHOWN.cameras, SHOWN.side, "0" * 64), Admitted()
    replay = Replay.create(tmp_path / "replay", with_features(specification, eyes), 100_000, SHOWN, 2)
    assert not admit(finished, replay, admitted, eyes)
    assert (admitted.refused, admitted.episodes, replay.episodes) == (1, 0, 0)
    assert "came without the images that its policy was shown" in admitted.last_refusal


@pytest.mark.parametrize(("cameras", "side"), [(("left", "right"), 16), (("left", "near"), 8), (("left",), 8)])
def test_a_robot_that_another_policy_drives_is_told_so_once(
    specification: Specification, seen: Episode, tmp_path: Path, cameras: tuple[str, ...], side: int
) -> None:
    """The sentence is the same for all of its episodes, so that the learner says it once."""
    eyes, admitted = Eyes(cameras, side, "0" * 64), Admitted()
    shown = Shown(cameras=cameras, side=side, target_size=0)
    replay = Replay.create(tmp_path / "replay", with_features(specification, eyes), 100_000, shown, 2)
    ((finished,), _) = gathered(specification, told(seen))
    told_of = set()
    for number in (0, 1):
        end = msgspec.structs.replace(finished.end, episode=number)
        assert not admit(replace(finished, end=end), replay, admitted, eyes)
        told_of.add(admitted.last_refusal)
    assert (admitted.refused, replay.episodes) == (2, 0)
    (sentence,) = told_of
    assert f"robot {seen.end.robot} sends images of left, right of 8 x 8 pixels" in sentence
    assert f"{', '.join(cameras)} of {side} x {side} pixels: start the robot with the served artifact" in sentence


def test_images_of_strangers_stay_out(specification: Specification, seen: Episode, tmp_path: Path) -> None:
    """Too many, in another order of steps, of another size than they say, of other episodes: never kept."""
    records = told(seen)
    first = records[1]
    assert isinstance(first, Viewed)
    ahead = msgspec.structs.replace(first, key=StepKey("arm", 1, seen.end.episode, 9))
    short = msgspec.structs.replace(first, pixels=first.pixels[1:])
    crowd: list[Record] = [first] * (CAMERAS_MAX + 5)
    assert gathered(specification, [records[0], ahead, short, *crowd])[0] == []
    ((crowded,), _) = gathered(specification, [records[0], ahead, short, *crowd, *records[3:]], once_a_chunk=True)
    assert crowded.views is None
    ((alone,), _) = gathered(specification, [records[0], *crowd, records[3], records[-1]], once_a_chunk=True)
    assert alone.views is not None
    assert len(alone.views.cameras) == CAMERAS_MAX
    other = msgspec.structs.replace(first, key=StepKey("somebody", 1, 0, 0))
    assert gathered(specification, [records[0], other])[1].counts["of another robot"] == 1
    ((done,), _) = gathered(specification, [records[0], ahead, *records[1:]])
    assert done.views is not None
    admitted = Admitted()
    replay = Replay.create(tmp_path / "replay", specification, 100_000, Shown(cameras=("left",), side=8, target_size=0))
    assert not admit(done, replay, admitted)
    assert "the replay keeps" in admitted.last_refusal


@pytest.mark.parametrize("side", [1, EVERY_STEP_SIDE_MAX, 224, 512, VIEWED_SIDE_MAX])
def test_every_strip_fits_into_a_packet(side: int) -> None:
    """What a robot may journal reaches the link process: an image in one piece as long as it fits, else in as many as it takes."""
    key = StepKey("r" * 64, 2**62, 2**62, 2**62)
    image = np.random.default_rng(0).integers(0, 256, (3, side, side), np.uint8)
    strips = list(viewed(key, "c" * 64, image))
    assert (len(strips) == 1) == (side <= EVERY_STEP_SIDE_MAX)
    assert all(len(encode(Offer(2**62, strip))) <= PACKET_BYTES for strip in strips)
    rows = [np.frombuffer(strip.pixels, np.uint8).reshape(3, -1, side) for strip in strips]
    np.testing.assert_array_equal(np.concatenate(rows, axis=1), image)


def test_large_images_come_once_a_chunk_in_strips(specification: Specification, seen: Episode) -> None:
    """Strips become images again; observations between are black, and without a strip in its place there are no images."""
    records, side, draw = told(seen), 250, np.random.default_rng(1)
    sent: list[Record] = [record for record in records if not isinstance(record, Viewed)]
    image = draw.integers(0, 256, (2, 3, side, side), np.uint8)
    keys = [StepKey("arm", seen.end.boot_epoch, seen.end.episode, number) for number in (0, 2)]
    strips = [[one for camera in (0, 1) for one in viewed(key, str(camera), image[camera])] for key in keys]
    assert len(strips[0]) == 4
    sent[3:3] = strips[1]
    sent[1:1] = strips[0]

    def views(records: Sequence[Record], once_a_chunk: bool = True) -> Views | None:
        ((one,), _) = gathered(specification, records, once_a_chunk)
        return one.views

    found = views(sent)
    assert found is not None
    assert found.shown == Shown(cameras=("0", "1"), side=side, target_size=0)
    for number, images in enumerate(found.images):
        np.testing.assert_array_equal(images, image if number in (0, 2) else np.zeros_like(image))
    assert views(sent, once_a_chunk=False) is None
    for lost in (1, 2, 4):
        assert views([*sent[:lost], *sent[lost + 1 :]]) is None
    later = views([sent[0], *sent[5:]])
    assert later is not None
    assert not later.images[:2].any()
    np.testing.assert_array_equal(later.images[2], image)


def test_few_large_images_of_a_long_episode_do_not_fill_the_memory(specification: Specification, seen: Episode) -> None:
    """Images that would take more than an episode may, all observations counted, are left out, and the steps come without."""
    boot, ending, (step, *_) = told(seen)[0], Ended(end=seen.end), seen.steps
    image, count = (
        np.ones((3, VIEWED_SIDE_MAX, VIEWED_SIDE_MAX), np.uint8),
        EPISODE_IMAGES_BYTES // 3 // VIEWED_SIDE_MAX**2,
    )
    strips = list(viewed(msgspec.structs.replace(step.key, step=0), "near", image))

    def finished(steps: int) -> Finished:
        keys = [msgspec.structs.replace(step.key, step=number) for number in range(steps)]
        records = [boot, *strips, *(Stepped(step=msgspec.structs.replace(step, key=key)) for key in keys), ending]
        ((one,), _) = gathered(specification, records, once_a_chunk=True)
        return one

    long = finished(count)
    assert (len(long.steps), long.views) == (count, None)
    assert finished(8).views is not None


def test_episodes_that_do_not_end_take_no_memory(specification: Specification, seen: Episode) -> None:
    """However many images of unfinished episodes come, they wait on the disk; of too many episodes the oldest are given up."""
    (boot, *_), step, side, count = told(seen), seen.steps[0], EVERY_STEP_SIDE_MAX, 7
    gathering, taken = Gathering(specification.digest()), itertools.count(1)
    pixels = bytes(3 * side**2)

    def take(record: Record) -> list[Arrival]:
        number = next(taken)
        return list(gathering.take(number, "arm", "journal", Written("policy-1", number, 0, 0, record)))

    take(boot)
    tracemalloc.start()
    for episode in range(1, OPEN_MAX + 3):
        for number in range(count):
            key = StepKey("arm", seen.end.boot_epoch, episode, number)
            take(Viewed(key=key, camera="near", side=side, pixels=pixels))
            take(Stepped(step=msgspec.structs.replace(step, key=key)))
    assert tracemalloc.get_traced_memory()[0] < len(pixels)
    tracemalloc.stop()
    assert (gathering.counts["episodes broken off"], gathering.oldest_open) == (2, 2 * 2 * count + 2)
    assert not take(Ended(end=msgspec.structs.replace(seen.end, episode=2)))
    (arrival,) = take(Ended(end=msgspec.structs.replace(seen.end, episode=3)))
    assert arrival.first_position == 2 * 2 * count + 2
