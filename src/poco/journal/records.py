"""The records of a journal: typed, in msgpack, with the boundaries that a stranger's bytes have to respect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from poco.errors import PocoError
from poco.journal.segments import DAMAGED
from poco.records import EpisodeEnd, Step, StepKey
from poco.specification import Specification

EventKind = Literal["gap", "clip", "hold", "fault", "stop", "recovery", "swap", "drop", "note"]
Reason = Literal["dropped", "overflow", "damaged"]
Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Text = Annotated[str, msgspec.Meta(max_length=1000)]
VIEWED_SIDE_MAX = 1024
STRIP_BYTES = 120_000
"""More of an image does not fit into a packet on its way into the journal: larger ones are cut into strips."""

EVERY_STEP_SIDE_MAX = 200
"""Images of every step are journaled up to this size; larger ones would be more than a disk takes beside a robot."""


class _Record(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", forbid_unknown_fields=True):
    pass


class Boot(_Record, frozen=True, kw_only=True, tag="boot"):
    """A policy process began: everything with its `boot_epoch` was recorded under `specification`."""

    robot: Name
    boot_epoch: Count
    generation: Count
    specification: Specification
    specification_hash: str


class Stepped(_Record, frozen=True, kw_only=True, tag="step"):
    """One control period ended."""

    step: Step


class Viewed(_Record, frozen=True, kw_only=True, tag="view"):
    """What one camera showed, as the model saw it: `pixels` are levels [3, rows, side] of red, green and blue.

    They are the rows from `first_row` on, all of them where they fit into a packet; the strips of an image follow each other. Those
    of a step's observation come before it; those of the final one, numbered by the steps there were, before the end.
    """

    key: StepKey
    camera: Name
    side: Annotated[int, msgspec.Meta(ge=1, le=VIEWED_SIDE_MAX)]
    pixels: Annotated[bytes, msgspec.Meta(min_length=3, max_length=STRIP_BYTES)]
    first_row: Annotated[int, msgspec.Meta(ge=0, lt=VIEWED_SIDE_MAX)] = 0


def viewed(key: StepKey, camera: str, image: npt.NDArray[np.uint8]) -> Iterator[Viewed]:
    """Return the records of one `image` [3, side, side], in order."""
    side = image.shape[-1]
    rows = STRIP_BYTES // (3 * side)
    for first in range(0, side, rows):
        strip = np.ascontiguousarray(image[:, first : first + rows])
        yield Viewed(key=key, camera=camera, side=side, pixels=strip.tobytes(), first_row=first)


class Ended(_Record, frozen=True, kw_only=True, tag="end"):
    """An episode ended, or is labelled anew by a higher revision."""

    end: EpisodeEnd


class Noted(_Record, frozen=True, kw_only=True, tag="event"):
    """Something that explains the steps around it, at robot tick `tick` under policy `generation`."""

    event: EventKind
    tick: int
    generation: Count
    text: Text
    episode: Count | None = None


class Missing(_Record, frozen=True, kw_only=True, tag="missing"):
    """Entries that are not there: dropped for room, lost at the entrance (`count` of them), or damaged on the disk.

    `boot_epoch` and `episode` name the episode they belong to where it is known.
    """

    reason: Reason
    count: Count
    boot_epoch: Count | None = None
    episode: Count | None = None


Record: TypeAlias = Boot | Stepped | Viewed | Ended | Noted | Missing


class Written(msgspec.Struct, frozen=True, array_like=True):
    """One entry of a journal: who wrote it and as which of its records, when, and what; `number` counts each writer from 1."""

    writer: Name
    number: Count
    monotonic_ns: int
    unix_ns: int
    record: Record


class JournalHead(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Head of a segment: identity of the journal and what it held before: the highest record number of each writer."""

    journal: Name
    robot: Name
    writers: dict[str, int]
    version: Literal[1] = 1


_encoder = msgspec.msgpack.Encoder()
_written = msgspec.msgpack.Decoder(Written)


def encode(value: msgspec.Struct) -> bytes:
    """Return `value` as msgpack."""
    return _encoder.encode(value)


UNREADABLE = (msgspec.MsgspecError, PocoError, RecursionError, ValueError, ArithmeticError)
"""What decoding a stranger's bytes may raise."""


def decode(payload: bytes) -> Written | None:
    """Return the entry in `payload`; None for bytes that are none, whatever they are. An entry that no longer checks is Missing."""
    if payload == DAMAGED:
        return Written("disk", 0, 0, 0, Missing(reason="damaged", count=0))
    try:
        return _written.decode(payload)
    except UNREADABLE:
        return None
