"""How a log lies on disk: segments, files of checked frames back to back.

```
frame    "pcj1"  u32 bytes of payload  u32 CRC-32 of all that follows  u64 sequence  u32 span  u32 behind  payload
segment  <first sequence, 20 digits>.seg: a frame with span 0 whose payload is the segment's head, then entries in order
```
An entry stands for `span` sequence numbers from `sequence` on: 1, or more where it tells of entries that are lost. When it was
written, everything up to `sequence` - `behind` was durable. So a bad frame that later ones know to have been durable is damage,
and what follows it counts; any other bad frame is where a power cut struck, and nothing after it counts.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MARK = b"pcj1"
FRAME = struct.Struct("<4sIIQII")
MAX_PAYLOAD_BYTES = 1 << 20
SUFFIX = ".seg"

_NAME = re.compile(r"([0-9]{20})\.seg")
_CHECKED = struct.Struct("<QII")
SEQUENCE_END = 1 << 62

DAMAGED = b""
"""Payload of the entry that takes the place of entries that no longer check."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a log: its first sequence number, how many numbers it stands for, its payload."""

    sequence: int
    span: int
    payload: bytes

    @property
    def following(self) -> int:
        """The sequence number after this entry."""
        return self.sequence + self.span


@dataclass(frozen=True, slots=True)
class Scan:
    """What a segment holds: its head (empty if damaged), the entries that count, how many bytes up to the last of them."""

    head: bytes
    entries: tuple[Entry, ...]
    good_bytes: int


def encode(entry: Entry, behind: int = 1) -> bytes:
    """Return `entry` as a frame; raises ValueError if its payload is larger than MAX_PAYLOAD_BYTES."""
    if len(entry.payload) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"payload has {len(entry.payload)} bytes, the limit is {MAX_PAYLOAD_BYTES}")
    check = zlib.crc32(entry.payload, zlib.crc32(_CHECKED.pack(entry.sequence, entry.span, behind)))
    return FRAME.pack(MARK, len(entry.payload), check, entry.sequence, entry.span, behind) + entry.payload


def segment_name(first_sequence: int) -> str:
    """Return the name of the segment whose first entry has `first_sequence`."""
    return f"{first_sequence:020d}{SUFFIX}"


def segment_starts(names: Iterable[str]) -> list[int]:
    """Return the first sequence numbers of the segments among file `names`, in order."""
    return sorted(int(match[1]) for name in names if (match := _NAME.fullmatch(name)))


def segment(first_sequence: int, head: bytes, entries: Sequence[Entry] = ()) -> bytes:
    """Return a whole segment."""
    return b"".join(map(encode, (Entry(first_sequence, 0, head), *entries)))


def scan(content: bytes, first_sequence: int, end_sequence: int | None = None) -> Scan:
    """Return what counts in the `content` of a segment; `end_sequence` is where the next one begins, None for the newest one.

    Takes any bytes, never raises, needs memory of the order of `content`.
    """
    head = b""
    entries: list[Entry] = []
    ends = [0]
    durable = first_sequence - 1 if end_sequence is None else end_sequence
    position, following = 0, first_sequence
    while (start := content.find(MARK, position)) >= 0:
        found = _frame_at(content, start)
        if found is None:
            position = start + 1
            continue
        entry, behind = found
        position = start + FRAME.size + len(entry.payload)
        if entry.span == 0:
            if start == 0 and entry.sequence == first_sequence:
                head, ends[0] = entry.payload, position
        elif following <= entry.sequence and (end_sequence is None or entry.following <= end_sequence):
            entries.append(entry)
            ends.append(position)
            following = entry.following
            durable = max(durable, entry.sequence - behind)
    if end_sequence is None:
        count = _before_the_cut(entries, first_sequence, durable)
        del entries[count:], ends[count + 1 :]
        following = entries[-1].following if entries else first_sequence
        if following <= durable:
            entries.append(Entry(following, durable + 1 - following, DAMAGED))
    return Scan(head, tuple(entries), ends[-1])


def _before_the_cut(entries: list[Entry], first_sequence: int, durable: int) -> int:
    """Return how many entries there are before the first hole that reaches into what nobody knows to have been durable."""
    following = first_sequence
    for count, entry in enumerate(entries):
        if entry.sequence > max(following, durable + 1):
            return count
        following = entry.following
    return len(entries)


def decode(content: bytes) -> tuple[Entry, ...] | None:
    """Return the entries of frames back to back, as a batch on the wire is; None if anything in `content` does not check.

    Takes any bytes, never raises.
    """
    entries: list[Entry] = []
    position = 0
    while position < len(content):
        found = _frame_at(content, position)
        if found is None:
            return None
        entry, _ = found
        if entry.span == 0 or (entries and entry.sequence != entries[-1].following):
            return None
        entries.append(entry)
        position += FRAME.size + len(entry.payload)
    return tuple(entries)


def _frame_at(content: bytes, start: int) -> tuple[Entry, int] | None:
    if len(content) - start < FRAME.size:
        return None
    mark, size, check, sequence, span, behind = FRAME.unpack_from(content, start)
    if mark != MARK or size > MAX_PAYLOAD_BYTES or len(content) - start - FRAME.size < size:
        return None
    if sequence + span > SEQUENCE_END:
        return None
    payload = content[start + FRAME.size : start + FRAME.size + size]
    actual = zlib.crc32(payload, zlib.crc32(_CHECKED.pack(sequence, span, behind)))
    return (Entry(sequence, span, payload), behind) if actual == check else None
