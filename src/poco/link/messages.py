"""What crosses the link: one typed struct as msgpack in the first frame, raw bytes in a second one where there are any.

robot -> learner: Hello, Batch + frames of the journal, Ping, Fetch
learner -> robot: Welcome, Refused, Greet, Acknowledged, Offered, Part + bytes of a snapshot
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, TypeAlias, TypeVar

import msgspec

from poco.journal.records import UNREADABLE

PROTOCOL: Final = 3
MAX_HEADER_BYTES: Final = 4096
MAX_FRAME_BYTES: Final = 1 << 21
MAX_SNAPSHOT_BYTES: Final = 1 << 33
PARTS: Final = 16
FETCH_BYTES_MIN: Final = 8 << 10
FETCH_BYTES: Final = 512 << 10

Number = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
Frames = Sequence[bytes]


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="message", forbid_unknown_fields=True):
    pass


class Hello(_Message, frozen=True, kw_only=True, tag="hello"):
    """A robot introduces itself: who, which journal, under which specification it runs, the highest generation it has seen."""

    protocol: int
    robot: Name
    journal: Name
    specification_hash: Annotated[str, msgspec.Meta(max_length=64)]
    generation: Number
    first_sequence: Number
    durable_sequence: Number


class Batch(_Message, frozen=True, kw_only=True, tag="batch"):
    """Durable entries of the journal as they lie on the disk, in the second frame."""

    journal: Name


class Ping(_Message, frozen=True, kw_only=True, tag="ping"):
    """Still there, the newest generation it has, and the newest entry sent before; answered by an Acknowledged, which tells whether
    some of that was lost on the way, and by an Offered if there is a newer generation."""

    generation: Number
    sequence: Number


class Fetch(_Message, frozen=True, kw_only=True, tag="fetch"):
    """Asks for `size` bytes of a snapshot from `offset` on, or what there is of them, in as many as PARTS parts."""

    digest: Digest
    offset: Number
    size: Annotated[int, msgspec.Meta(ge=FETCH_BYTES_MIN, le=FETCH_BYTES)]


class Welcome(_Message, frozen=True, kw_only=True, tag="welcome"):
    """The learner has this journal up to `sequence` on its disk; no more than `window_bytes` may be under way."""

    journal: Name
    sequence: Number
    window_bytes: Number


class Refused(_Message, frozen=True, kw_only=True, tag="refused"):
    """The learner does not take this robot, and why; the robot tries again later."""

    reason: Annotated[str, msgspec.Meta(max_length=1000)]


class Greet(_Message, frozen=True, kw_only=True, tag="greet"):
    """The learner does not know this connection: say Hello."""


class Acknowledged(_Message, frozen=True, kw_only=True, tag="acknowledged"):
    """Everything of `journal` up to `sequence` is on the learner's disk; if `gap`, something from `expected` on was lost."""

    journal: Name
    sequence: Number
    expected: Number
    gap: bool = False


class Offered(_Message, frozen=True, kw_only=True, tag="offered"):
    """The newest snapshot there is."""

    generation: Number
    digest: Digest
    size: Annotated[int, msgspec.Meta(ge=1, le=MAX_SNAPSHOT_BYTES)]


class Part(_Message, frozen=True, kw_only=True, tag="part"):
    """A part of the snapshot `digest` from `offset` on, in the second frame."""

    digest: Digest
    offset: Number


FromRobot: TypeAlias = Hello | Batch | Ping | Fetch
FromLearner: TypeAlias = Welcome | Refused | Greet | Acknowledged | Offered | Part
Message: TypeAlias = FromRobot | FromLearner

_M = TypeVar("_M", bound=msgspec.Struct)
_encoder = msgspec.msgpack.Encoder()
_from_robot: msgspec.msgpack.Decoder[FromRobot] = msgspec.msgpack.Decoder(FromRobot)
_from_learner: msgspec.msgpack.Decoder[FromLearner] = msgspec.msgpack.Decoder(FromLearner)


def pack(message: Message, content: bytes | memoryview | None = None) -> list[bytes]:
    """Return `message` with its raw bytes as frames."""
    header = _encoder.encode(message)
    return [header] if content is None else [header, bytes(content)]


def from_robot(frames: Frames) -> tuple[FromRobot, bytes] | None:
    """Return message and raw bytes (empty for none) of what a robot sent; None for anything else, whatever it is."""
    return _unpack(frames, _from_robot, Batch)


def from_learner(frames: Frames) -> tuple[FromLearner, bytes] | None:
    """Return message and raw bytes (empty for none) of what a learner sent; None for anything else, whatever it is."""
    return _unpack(frames, _from_learner, Part)


def _unpack(
    frames: Frames, decoder: msgspec.msgpack.Decoder[_M], with_bytes: type[msgspec.Struct]
) -> tuple[_M, bytes] | None:
    if not 1 <= len(frames) <= 2 or len(frames[0]) > MAX_HEADER_BYTES or len(frames[-1]) > MAX_FRAME_BYTES:
        return None
    try:
        message = decoder.decode(frames[0])
    except UNREADABLE:
        return None
    if isinstance(message, with_bytes) != (len(frames) == 2):
        return None
    return message, bytes(frames[1]) if len(frames) == 2 else b""
