"""The learner's inbox: what robots sent, in one durable log, with the watermark of every robot's journal in the same entries.

An entry and the watermark it moves are one frame of one segment, so no crash can part them. Episodes come out in the order in which
they ended here; the position of that end is what replay and checkpoint remember. Whatever nobody has asked for yet lies on the disk
alone, be it a day of images.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Literal, TypeAlias

import msgspec

from poco.errors import ArtifactError
from poco.journal.disk import Disk
from poco.journal.log import SEGMENT_BYTES, Log, LogReader
from poco.journal.records import UNREADABLE, Written, decode, encode
from poco.journal.segments import Entry
from poco.learner.episode_assembly import Arrival, Finished, assembled
from poco.learner.gathering import Gathering, GatheringState

OPEN_BYTES = 16 << 30
"""So much that nobody else needs may lie here behind the beginning of an unfinished episode: its robot may never come back."""

JOURNALS_MAX = 16
"""Of so many journals of a robot, the newest, it is known how much of them is here: one begins where another was lost."""


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
    """The inbox on one disk; the thread that serves the robots uses it, and one other may call `next_finished`."""

    def __init__(
        self,
        disk: Disk,
        specification_hash: str,
        segment_bytes: int = SEGMENT_BYTES,
        once_a_chunk: bool = False,
        open_bytes: int = OPEN_BYTES,
    ) -> None:
        """Open or begin the inbox; raises OSError. Episodes that are still kept come out again, in the same order.

        `once_a_chunk` says how often robots send images, see `assembled`. An unfinished episode that holds more than `open_bytes`
        is given up.
        """
        self._open_bytes = open_bytes
        self._disk, self._once_a_chunk = disk, once_a_chunk
        self._taken: dict[tuple[str, str], int] = {}
        self._durable: dict[tuple[str, str], int] = {}
        self.generations: dict[str, int] = {}
        self._arrivals: deque[Arrival] = deque()
        self._untrimmed: deque[Arrival] = deque()
        self._reader: tuple[int, LogReader] | None = None
        self.gathering = Gathering(specification_hash)
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
            self._follow(kept)
            for arrival in self.gathering.take(entry.sequence, kept.robot, kept.journal, decode(kept.payload)):
                self._untrimmed.append(arrival)
                self._arrivals.append(arrival)

    def _follow(self, received: Received) -> None:
        """Move the watermark that `received` stands for; of the robot's journals the oldest are forgotten."""
        name = received.robot, received.journal
        if name not in self._durable:
            others = [other for other in self._durable if other[0] == received.robot]
            for other in others[: len(others) - JOURNALS_MAX + 1]:
                del self._durable[other]
                self._taken.pop(other, None)
        self._durable[name] = received.sequence + received.span - 1

    def next_finished(self, after: int = 0) -> Finished | None:
        """Return the next episode that has ended behind position `after`, None if there is none; those before are passed over.

        Raises OSError, and ArtifactError if what was whole when it came no longer is.
        """
        while self._arrivals:
            arrival = self._arrivals[0]
            finished = (
                None if arrival.position <= after else assembled(arrival, self._read(arrival), self._once_a_chunk)
            )
            if finished is None and arrival.position > after:
                raise ArtifactError(
                    f"episode {arrival.key[2]} of {arrival.key[0]} can no longer be read from the inbox: its disk loses what it "
                    "held, replace it; started again the learner goes on without the episode"
                )
            self._arrivals.popleft()
            if finished is not None:
                return finished
        return None

    def _read(self, arrival: Arrival) -> Iterator[tuple[int, Written | None]]:
        """Yield positions and entries of the robot from the first of `arrival` to the last."""
        if self._reader is None or self._reader[0] < arrival.position:
            self._reader = self.position, LogReader(self._disk)
        for entry in self._reader[1].between(arrival.first_position, arrival.position):
            kept = read_kept(entry.payload)
            if isinstance(kept, Received) and kept.robot == arrival.key[0]:
                yield entry.sequence, decode(kept.payload)

    def trim(self, position: int, most: int = sys.maxsize) -> bool:
        """Give up segments of which nothing after `position` is needed: the replay and its checkpoint are durable up to there.

        At `most` so many; tells whether there may be more. Raises OSError.
        """
        while self._untrimmed and self._untrimmed[0].position <= position:
            self._untrimmed.popleft()
        needed = min([position + 1, *(arrival.first_position for arrival in self._untrimmed)])
        while (oldest := self.gathering.oldest_open) is not None and oldest < needed:
            if self._log.bytes_between(oldest, needed) <= self._open_bytes:
                needed = oldest
                break
            self.gathering.give_up_oldest()
        return all(self._log.remove_oldest(needed) for _ in range(most))
