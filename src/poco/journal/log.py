"""A durable log: entries appended to checked segments, committed in groups, read back by sequence number.

`append` only remembers; an entry counts once `commit` has returned, which is when it would survive a power cut. After an error of
the disk nothing that was under way is trusted: it goes to a new segment, which supersedes whatever the old one holds of it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from poco.journal.disk import Disk, Files
from poco.journal.segments import DAMAGED, FRAME, Entry, encode, scan, segment, segment_name, segment_starts

SEGMENT_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Recovered:
    """What the newest segment held when the log was opened: its head (empty if damaged) and its entries."""

    head: bytes
    entries: tuple[Entry, ...]


class LogReader:
    """Reads a log that another process may be writing."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._starts = segment_starts(files.names())
        self._loaded: tuple[int, list[Entry]] = (0, [])

    @property
    def first_sequence(self) -> int:
        """Sequence number of the oldest entry that is kept; 1 for an empty log."""
        return self._starts[0] if self._starts else 1

    @property
    def starts(self) -> tuple[int, ...]:
        """The first sequence number of every segment, oldest first."""
        return tuple(self._starts)

    def head(self, start: int) -> bytes:
        """Return the head of the segment that begins at `start`; empty if it is damaged."""
        return scan(self._files.read(segment_name(start)), start).head

    def entries(self, start: int) -> list[Entry]:
        """Return the entries of the segment that begins at `start`, damaged ones as one with the payload DAMAGED."""
        if self._loaded[0] != start:
            number = self._starts.index(start)
            end = self._starts[number + 1] if number + 1 < len(self._starts) else None
            content = self._files.read(segment_name(start))
            found = scan(content, start, end) if end is not None else scan(content, start)
            self._loaded = (start, _whole(start, found.entries, end))
        return self._loaded[1]

    def read(self, sequence: int, max_bytes: int) -> list[Entry]:
        """Return durable entries of one segment from the one that covers `sequence` on, at least one and no more than fit."""
        if sequence < self.first_sequence:
            return [Entry(sequence, self.first_sequence - sequence, DAMAGED)]
        number = bisect_right(self._starts, sequence) - 1
        chosen: list[Entry] = []
        if number < 0:
            return chosen
        entries = self.entries(self._starts[number])
        size = 0
        for index in range(max(bisect_right(entries, sequence, key=_sequence) - 1, 0), len(entries)):
            entry = entries[index]
            size += FRAME.size + len(entry.payload)
            if chosen and size > max_bytes:
                break
            if entry.following > sequence:
                chosen.append(entry)
        return chosen

    def all(self) -> Iterator[Entry]:
        """Yield every entry from the oldest segment on."""
        for start in self.starts:
            yield from self.entries(start)

    def between(self, first: int, last: int) -> Iterator[Entry]:
        """Yield the entries from the one that covers sequence number `first` on, up to the one that begins at `last`."""
        number = max(bisect_right(self._starts, first) - 1, 0)
        for start in self.starts[number:]:
            for entry in self.entries(start):
                if entry.sequence > last:
                    return
                if entry.following > first:
                    yield entry


class Log(LogReader):
    """The one writer of a log."""

    def __init__(self, disk: Disk, head: Callable[[], bytes], segment_bytes: int = SEGMENT_BYTES) -> None:
        """Open the log on `disk`; `head` gives the head of every new segment. Raises OSError.

        A torn end is cut off. What is left of the newest segment is written anew, since nobody knows whether the process that
        wrote it had come to sync it, and a sync that failed once says nothing when it is repeated.
        """
        super().__init__(disk)
        self._disk, self._new_head, self._segment_bytes = disk, head, segment_bytes
        self._pending: list[Entry] = []
        self._pending_bytes = 0
        self._broken = False
        self.recovered = self._recover()

    def _recover(self) -> Recovered:
        self._sizes = {start: self._disk.size(segment_name(start)) for start in self._starts}
        self._tail: list[Entry] = []
        self._durable = 0
        if not self._starts:
            return Recovered(b"", ())
        last = self._starts[-1]
        content = self._disk.read(segment_name(last))
        found = scan(content, last)
        self._tail = _whole(last, found.entries, None)
        whole = segment(last, found.head, self._tail)
        self._disk.replace(segment_name(last), whole)
        self._sizes[last] = len(whole)
        self._durable = self._tail[-1].following - 1 if self._tail else last - 1
        return Recovered(found.head, tuple(self._tail))

    @property
    def durable_sequence(self) -> int:
        """The newest sequence number that would survive a power cut; 0 for none."""
        return self._durable

    @property
    def next_sequence(self) -> int:
        """The sequence number of the next entry."""
        return self._pending[-1].following if self._pending else self._durable + 1

    @property
    def pending_bytes(self) -> int:
        """Bytes appended and not yet durable."""
        return self._pending_bytes

    @property
    def used_bytes(self) -> int:
        """Bytes on the disk."""
        return sum(self._sizes.values())

    def bytes_between(self, first: int, last: int) -> int:
        """Bytes of the segments that begin from sequence number `first` on and before `last`."""
        return sum(size for start, size in self._sizes.items() if first <= start < last)

    def append(self, payload: bytes, span: int = 1) -> int:
        """Remember `payload` as the next entry, return its sequence number; raises ValueError if it is too large."""
        entry = Entry(self.next_sequence, span, payload)
        self._pending_bytes += len(encode(entry))
        self._pending.append(entry)
        return entry.sequence

    def commit(self) -> list[Entry]:
        """Make everything appended so far durable and return it.

        Raises OSError; then nothing of it counts, and the next `commit` writes it to a new segment.
        """
        if not self._pending:
            return []
        if self._broken or not self._starts or self._sizes[self._starts[-1]] >= self._segment_bytes:
            self._begin_segment()
        name = segment_name(self._starts[-1])
        content = b"".join(encode(entry, entry.sequence - self._durable) for entry in self._pending)
        try:
            self._disk.append(name, content)
            self._disk.sync(name)
        except OSError:
            self._broken = True
            with suppress(OSError):
                self._disk.truncate(name, self._sizes[self._starts[-1]])
            raise
        self._sizes[self._starts[-1]] += len(content)
        committed, self._pending, self._pending_bytes = self._pending, [], 0
        self._tail += committed
        self._durable = committed[-1].following - 1
        return committed

    def rotate(self) -> None:
        """Begin a new segment with the next commit."""
        self._broken = True

    def close_segment(self) -> bool:
        """Begin a new segment now if the newest is full, so that it may be removed; return whether it was. Raises OSError."""
        if not self._tail or self._sizes[self._starts[-1]] < self._segment_bytes:
            return False
        self._begin_segment()
        return True

    def _begin_segment(self) -> None:
        start = self._durable + 1
        content = segment(start, self._new_head())
        self._disk.replace(segment_name(start), content)
        if start not in self._sizes:
            self._starts.append(start)
        self._sizes[start] = len(content)
        self._tail, self._broken = [], False

    def entries(self, start: int) -> list[Entry]:
        """Return the durable entries of the segment that begins at `start`."""
        return self._tail if start == self._starts[-1] else super().entries(start)

    def remove_oldest(self, before: int) -> bool:
        """Remove the oldest segment, but never the newest, if it holds nothing from `before` on; return whether it did."""
        if len(self._starts) < 2 or self._starts[1] > before:
            return False
        self._disk.remove(segment_name(self._starts[0]))
        del self._sizes[self._starts.pop(0)]
        return True

    def rewrite(self, start: int, entries: list[Entry]) -> None:
        """Put `entries`, which stand for the same sequence numbers, in place of those of an older segment."""
        content = segment(start, self.head(start), entries)
        self._disk.replace(segment_name(start), content)
        self._sizes[start] = len(content)
        self._loaded = (0, [])


def _sequence(entry: Entry) -> int:
    return entry.sequence


def _whole(start: int, found: tuple[Entry, ...], end: int | None) -> list[Entry]:
    """Return the entries of a segment with one DAMAGED entry for every run of numbers that none of them stands for."""
    whole: list[Entry] = []
    following = start
    for entry in found:
        if entry.sequence > following:
            whole.append(Entry(following, entry.sequence - following, DAMAGED))
        whole.append(entry)
        following = entry.following
    if end is not None and end > following:
        whole.append(Entry(following, end - following, DAMAGED))
    return whole
