"""Offers waiting for the gate: one file each, written beside and renamed by the link process; the newest wins."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence
from pathlib import Path

from poco.clock import monotonic_ns

FOLDER = "incoming"
SUFFIX = ".offer"
FRAMES_MAX = 128
_SIZE = struct.Struct("<Q")
_numbers = itertools.count()


def leave_offer(store: Path, frames: Sequence[bytes]) -> None:
    """Leave an offer for the gate; the link process calls it. It need not survive a loss of power: the publisher repeats it."""
    folder = store / FOLDER
    folder.mkdir(exist_ok=True)
    final = folder / f"{monotonic_ns():020d}-{next(_numbers):06d}{SUFFIX}"
    beside = final.with_suffix(".part")
    with beside.open("wb") as stream:
        for frame in frames:
            stream.write(_SIZE.pack(len(frame)))
            stream.write(frame)
    beside.rename(final)


def newest_offer(store: Path, bytes_max: int) -> list[bytes] | None:
    """Take the newest offer away and return its frames, or None if there is none; older ones are dropped.

    A file that is larger than `bytes_max` or cut off gives the frames that could be read; the gate refuses those.
    """
    files = sorted((store / FOLDER).glob(f"*{SUFFIX}"))
    if not files:
        return None
    frames: list[bytes] = []
    with files[-1].open("rb") as stream:
        left = bytes_max
        while len(frames) < FRAMES_MAX and len(prefix := stream.read(_SIZE.size)) == _SIZE.size:
            (size,) = _SIZE.unpack(prefix)
            frames.append(stream.read(min(size, left + 1)))
            left -= len(frames[-1])
            if left < 0 or len(frames[-1]) < size:
                break
    for file in files:
        file.unlink()
    return frames
