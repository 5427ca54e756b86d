"""The learner's inbox: what robots sent, in one durable log, with the watermark of every robot's journal in the same entries.

An entry and the watermark it moves are one frame of one segment, so no crash can part them. Episodes come out in the order in which
they ended here; the position of that end is what replay and checkpoint remember.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Literal, TypeAlias

import msgspec

from poco.journal.disk import Disk
from poco.journal.log import SEGMENT_BYTES, Log
from poco.journal.records import UNREADABLE, decode, encode
from poco.journal.segments import Entry
from poco.learner.gathering import Finished, Gathering, GatheringState


class Received(msgspec.Struct, frozen=True, array_like=True, tag="received"):
    """An entry of a robot's journal as it was sent; it stands for `span` of that journal's sequence numbers."""

    robot: str
    journal: str
    sequence: int
    span: int
    payload: bytes


class Met(msgspec.Struct, frozen=True, array_like=True, tag="met"):
    """A robot came that has seen policies up to `generation`."""

    robot: str
    generation: int


Kept: TypeAlias = Received | Met


class InboxHead(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Head of a segment: what the entries before it come to."""

    watermarks: dict[str, dict[str, int]]
    generations: dict[str, int]
    gathering: GatheringState
    version: Literal[1] = 1


_kept: msgspec.msgpack.Decoder[Kept] = msgspec.msgpack.Decoder(Kept)


def read_kept(payload: bytes) -> Kept | None:
    """Return the entry of an inbox in `payload`; None for bytes that are none."""
    try:
        return _kept.decode(payload)
    except UNREADABLE:
        return None


class LogInbox:
    """The inbox on one disk; only the thread that serves the robots uses it."""

    def __init__(
        self, disk: Disk, specification_hash: str, segment_bytes: int = SEGMENT_BYTES, once_a_chunk: bool = False
    ) -> None:
        """Open or begin the inbox; raises OSError. Episodes that are still kept come out again, in the same order.

        `once_a_chunk` says how often robots send images, see `Gathering`.
        """
        self._taken: dict[tuple[str, str], int] = {}
        self._durable: dict[tuple[str, str], int] = {}
        self.generations: dict[str, int] = {}
        self.finished: deque[Finished] = deque()
        self._spans: deque[tuple[int, int]] = deque()
        self.gathering = Gathering(specification_hash, once_a_chunk)
        self._log = Log(disk, self._head, segment_bytes)
        self._recover()

    def _recover(self) -> None:
        with suppress(msgspec.MsgspecError, IndexError):
            head = msgspec.msgpack.decode(self._log.head(self._log.starts[0]), type=InboxHead)
            self._durable = {
                (robot, journal): sequence
                for robot, journals in head.watermarks.items()
                for journal, sequence in journals.items()
            }
            self.generations = dict(head.generations)
            self.gathering.restore(head.gathering)
        self._apply(self._log.all())
        self._taken = dict(self._durable)

    def _head(self) -> bytes:
        watermarks: dict[str, dict[str, int]] = {}
        for (robot, journal), sequence in self._durable.items():
            watermarks.setdefault(robot, {})[journal] = sequence
        return encode(InboxHead(watermarks=watermarks, generations=self.generations, gathering=self.gathering.state))

    @property
    def pending_bytes(self) -> int:
        """Bytes taken and not yet durable."""
        return self._log.pending_bytes

    @property
    def position(self) -> int:
        """The newest position that would survive a power cut."""
        return self._log.durable_sequence

    @property
    def used_bytes(self) -> int:
        """Bytes on the disk."""
        return self._log.used_bytes

    def meet(self, robot: str, generation: int) -> None:
        """Remember that `robot` has seen policies up to `generation`."""
        if generation > self.generations.get(robot, -1):
            self.generations[robot] = generation
            self._log.append(encode(Met(robot, generation)))

    def taken(self, robot: str, journal: str) -> int:
        """Return the newest sequence number taken of `journal`, durable or not."""
        return self._taken.get((robot, journal), 0)

    def durable(self, robot: str, journal: str) -> int:
        """Return the newest sequence number of `journal` that would survive a power cut."""
        return self._durable.get((robot, journal), 0)

    def take(self, robot: str, journal: str, entries: Sequence[Entry]) -> None:
        """Take entries that follow what was taken before."""
        for entry in entries:
            self._log.append(encode(Received(robot, journal, entry.sequence, entry.span, entry.payload)))
        self._taken[robot, journal] = entries[-1].following - 1

    def commit(self) -> bool:
        """Make everything taken durable and put finished episodes out; return whether there was anything. Raises OSError."""
        committed = self._log.commit()
        self._apply(committed)
        return bool(committed)

    def _apply(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            kept = read_kept(entry.payload)
            if kept is None:
                self.gathering.spoil_all()
                continue
            if isinstance(kept, Met):
                self.generations[kept.robot] = max(kept.generation, self.generations.get(kept.robot, -1))
                continue
            self._durable[kept.robot, kept.journal] = kept.sequence + kept.span - 1
            for finished in self.gathering.take(entry.sequence, kept.robot, kept.journal, decode(kept.payload)):
                self.finished.append(finished)
                self._spans.append((finished.first_position, finished.position))

    def trim(self, position: int) -> None:
        """Give up segments of which nothing after `position` is needed: the replay and its checkpoint are durable up to there."""
        while self._spans and self._spans[0][1] <= position:
            self._spans.popleft()
        needed = [position + 1, *(first for first, _ in self._spans)]
        if self.gathering.oldest_open is not None:
            needed.append(self.gathering.oldest_open)
        while self._log.remove_oldest(min(needed)):
            pass
