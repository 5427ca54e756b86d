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
from poco.frames import FRAME, FrameMailbox
from poco.shm import DIRECTORY, PREFIX, sweep

FRAMES = 400


@pytest.fixture
def camera() -> Iterator[FrameMailbox]:
    """Yield the mailbox of a fresh camera."""
    mailbox = FrameMailbox(f"frames-{os.getpid()}", create=True)
    yield mailbox
    mailbox.unlink()


def plain(tick: int) -> np.ndarray[tuple[()], np.dtype[np.void]]:
    """A frame of one colour that tells its tick."""
    frame = np.zeros((), FRAME)
    frame["tick"], frame["captured_ns"], frame["pixels"] = tick, 1000 * tick, tick % 256
    return frame


def test_the_newest_frame_wins(camera: FrameMailbox) -> None:
    """Nothing before the first; of three the last, again and again."""
    reader = FrameMailbox(camera.path.name.removeprefix(PREFIX), create=False)
    assert reader.newest() is None
    for tick in (1, 2, 3):
        camera.publish(plain(tick))
    for _ in range(2):
        frame = reader.newest()
        assert frame is not None
        assert frame == plain(3)


def _publish(name: str) -> None:
    camera = FrameMailbox(name, create=False)
    for tick in range(1, FRAMES + 1):
        camera.publish(plain(tick))


def test_a_reader_never_sees_half_a_frame(camera: FrameMailbox) -> None:
    """While another process publishes as fast as it can, every frame read is of one colour and ticks only grow."""
    process = multiprocessing.get_context("fork").Process(
        target=_publish, args=(camera.path.name.removeprefix(PREFIX),)
    )
    process.start()
    ticks = [0]
    while ticks[-1] < FRAMES:
        frame = camera.newest()
        if frame is None:
            continue
        tick = int(frame["tick"])
        assert np.all(frame["pixels"] == tick % 256)
        assert frame["captured_ns"] == 1000 * tick
        assert tick >= ticks[-1]
        ticks.append(tick)
    process.join()
    assert process.exitcode == 0


def test_mistakes_get_a_sentence(camera: FrameMailbox) -> None:
    """A name in use, a missing camera and a file of another size."""
    name = camera.path.name.removeprefix(PREFIX)
    with pytest.raises(PocoError, match="choose another name"):
        FrameMailbox(name, create=True)
    with pytest.raises(PocoError, match="start the camera first"):
        FrameMailbox("absent", create=False)
    os.truncate(camera.path, 100)
    with pytest.raises(PocoError, match="has 100 bytes"):
        FrameMailbox(name, create=False)
    os.truncate(camera.path, _core.FRAME_MAILBOX_BYTES)


def test_a_frame_of_another_size_is_refused(camera: FrameMailbox) -> None:
    """The native side takes nothing but a whole FRAME."""
    with pytest.raises(TypeError, match="FRAME"):
        camera.publish(np.zeros((), [("pixels", "u1", (100,))]))
    assert camera.newest() is None


def test_sweep_takes_only_what_nobody_holds() -> None:
    """A living camera stays, one whose process has gone is removed."""
    name = f"frames-dead-{os.getpid()}"
    gone = multiprocessing.get_context("fork").Process(target=FrameMailbox, args=(name,), kwargs={"create": True})
    living = FrameMailbox(f"frames-living-{os.getpid()}", create=True)
    gone.start()
    gone.join()
    try:
        assert Path(DIRECTORY / f"{PREFIX}{name}").exists()
        swept = sweep()
        assert name in swept
        assert living.path.exists()
    finally:
        living.unlink()
