"""Camera frames in shared memory: newest wins, whole frames only, nothing left behind."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from poco import _core
from poco.errors import PocoError
from poco.frames import Frame, FrameRing, ring_name
from poco.records import FRAME_HEAD
from poco.shm import DIRECTORY, PREFIX, sweep

FRAMES = 400
SIZE = (48, 65)
"""Three colours of these are no whole number of words."""


@pytest.fixture
def camera() -> Iterator[FrameRing]:
    """Yield the ring of a fresh camera."""
    ring = FrameRing(ring_name(f"run-{os.getpid()}", "near"), SIZE)
    yield ring
    ring.unlink()


def plain(number: int) -> Frame:
    """A frame of one colour that tells its number."""
    head = np.zeros((), FRAME_HEAD)
    head["number"], head["t_ns"], head["serial"] = number, 1000 * number, f"camera {number}"
    return Frame(head, np.full((*SIZE, 3), number % 256, np.uint8))


def test_the_newest_frame_wins(camera: FrameRing) -> None:
    """Nothing before the first; of three the last, again and again, to its last pixel; the frame before stays as it was."""
    reader = FrameRing(camera.path.name.removeprefix(PREFIX))
    assert reader.size == SIZE
    assert reader.newest() is None
    for number in (1, 2, 3):
        camera.publish(plain(number))
    for _ in range(2):
        frame = reader.newest()
        assert frame is not None
        assert frame.head == plain(3).head
        assert np.array_equal(frame.pixels, plain(3).pixels)
    camera.publish(plain(4))
    newer = reader.newest()
    assert newer is not None
    assert frame is not None
    assert (int(newer.head["number"]), int(frame.head["number"])) == (4, 3)
    assert np.all(frame.pixels == 3)


def _publish(name: str) -> None:
    camera = FrameRing(name)
    for number in range(1, FRAMES + 1):
        camera.publish(plain(number))


def test_a_reader_never_sees_half_a_frame(camera: FrameRing) -> None:
    """While another process publishes as fast as it can, every frame read is of one colour and numbers only grow."""
    process = multiprocessing.get_context("fork").Process(
        target=_publish, args=(camera.path.name.removeprefix(PREFIX),)
    )
    process.start()
    numbers = [0]
    while numbers[-1] < FRAMES:
        frame = camera.newest()
        if frame is None:
            continue
        number = int(frame.head["number"])
        assert np.all(frame.pixels == number % 256)
        assert frame.head["t_ns"] == 1000 * number
        assert frame.head["serial"] == f"camera {number}".encode()
        assert number >= numbers[-1]
        numbers.append(number)
    process.join()
    assert process.exitcode == 0


def test_mistakes_get_a_sentence(camera: FrameRing) -> None:
    """A name in use, a missing camera and a file that is no ring."""
    name = camera.path.name.removeprefix(PREFIX)
    with pytest.raises(PocoError, match="choose another name"):
        FrameRing(name, SIZE)
    with pytest.raises(PocoError, match="start the run"):
        FrameRing("absent")
    os.truncate(camera.path, 100)
    with pytest.raises(PocoError, match="not a ring of frames"):
        FrameRing(name)
    os.truncate(camera.path, _core.frame_ring_bytes(*SIZE))


def test_a_frame_of_another_size_is_refused(camera: FrameRing) -> None:
    """The native side takes nothing but whole heads and pixels."""
    with pytest.raises(TypeError, match="size"):
        camera.publish(Frame(plain(1).head, np.zeros((*SIZE, 4), np.uint8)))
    with pytest.raises(TypeError, match="FRAME_HEAD"):
        camera.publish(Frame(np.zeros((), [("number", "i8")]), plain(1).pixels))
    assert camera.newest() is None


def _create(name: str) -> None:
    FrameRing(name, SIZE)


def test_sweep_takes_only_what_nobody_holds() -> None:
    """A living camera stays, one whose process has gone is removed."""
    name = f"frames-dead-{os.getpid()}"
    gone = multiprocessing.get_context("fork").Process(target=_create, args=(name,))
    living = FrameRing(f"frames-living-{os.getpid()}", SIZE)
    gone.start()
    gone.join()
    try:
        assert Path(DIRECTORY / f"{PREFIX}{name}").exists()
        swept = sweep()
        assert name in swept
        assert living.path.exists()
    finally:
        living.unlink()
