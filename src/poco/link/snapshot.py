"""A snapshot is what a learner publishes as one message of several frames; on the link it travels as one run of bytes."""

from __future__ import annotations

import struct
from collections.abc import Sequence

MAX_FRAMES = 128

_SIZE = struct.Struct("<Q")


def join(frames: Sequence[bytes]) -> bytes:
    """Return `frames` as one run of bytes."""
    return b"".join(piece for frame in frames for piece in (_SIZE.pack(len(frame)), frame))


def split(content: bytes) -> list[bytes] | None:
    """Return the frames in `content`; None for bytes that `join` does not make, whatever they are."""
    frames: list[bytes] = []
    position = 0
    while position < len(content):
        start = position + _SIZE.size
        if len(frames) == MAX_FRAMES or start > len(content):
            return None
        (size,) = _SIZE.unpack_from(content, position)
        if size > len(content) - start:
            return None
        frames.append(content[start : start + size])
        position = start + size
    return frames
