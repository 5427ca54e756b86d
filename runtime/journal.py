"""The robot's journal: every step, end of an episode and event of every run in one durable order, kept within a quota.

An entry counts as acknowledged to its writer once `commit` has returned, after fdatasync of the segment that holds it. What the
learner has acknowledged makes room when half of the quota is used. Only the link process writes a journal.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Literal

import msgspec

from poco.journal.disk import Disk
from poco.journal.log import SEGMENT_BYTES, Log
from poco.journal.records import Boot, JournalHead, Missing, Noted, Record, Written, decode, encode
from poco.journal.segments import Entry
from poco.runtime.journal_room import Room
from poco.surroundings import Surroundings

State = Literal["recording", "nearly full", "full", "failing"]

WARN_SHARE = 0.8
RECLAIM_SHARE = 0.5
SEGMENT_SHARE = 0.125
"""The newest segment is never given up, so it must be small against the quota."""

DROP_SHARE = 0.95
"""From here on an episode is dropped at every look, which is faster than a robot makes them, so that it never waits for room."""

RETRY_NS = 1_000_000_000
WRITERS_KEPT = 32


class JournalStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How the journal stands; `trouble` says in words what keeps it from recording."""

    state: State
    used_bytes: int
    quota_bytes: int
    durable: int
    acknowledged: int
    trouble: str = ""


class Journal:
    """The journal of one robot on one disk."""

    def __init__(
        self,
        disk: Disk,
        robot: str,
        surroundings: Surroundings,
        *,
        quota_bytes: int,
        drop_autonomous: bool = False,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        """Open or begin the journal of `robot`; raises OSError. `drop_autonomous` makes room at the quota by dropping."""
        self.robot = robot
        self._surroundings = surroundings
        self._quota_bytes, self.drops = quota_bytes, drop_autonomous
        self._room = Room()
        self._writers: dict[str, int] = {}
        self._appended: dict[str, int] = {}
        self._acknowledged = 0
        self._boot: Boot | None = None
        self._told_boot = 0
        self._trouble = self._room_trouble = ""
        self._retry_ns = 0
        self._disk = disk
        self._log = Log(disk, self._head, min(segment_bytes, int(SEGMENT_SHARE * quota_bytes)))
        self._identity = self._remember()
        self._appended = dict(self._writers)
        self._segment = self._log.starts[-1] if self._log.starts else 0

    def _remember(self) -> str:
        """Read identity and writers from the newest segment; from all of them, for a new identity, if its head is damaged."""
        recovered = self._log.recovered
        with suppress(msgspec.MsgspecError):
            head = msgspec.msgpack.decode(recovered.head, type=JournalHead)
            with suppress(OSError, IndexError):
                self._count(self._log.entries(self._log.starts[-2]))
            self._writers = dict(head.writers)
            self._count(recovered.entries)
            return head.journal
        self._count(self._log.all())
        self._log.rotate()
        return self._surroundings.random_bytes(8).hex()

    def _head(self) -> bytes:
        writers = dict(list(self._writers.items())[-WRITERS_KEPT:])
        return encode(JournalHead(journal=self._identity, robot=self.robot, writers=writers))

    @property
    def identity(self) -> str:
        """What tells this journal from every other one of the same robot."""
        return self._identity

    @property
    def first_sequence(self) -> int:
        """Sequence number of the oldest entry that is kept."""
        return self._log.first_sequence

    @property
    def durable_sequence(self) -> int:
        """The newest sequence number that would survive a power cut."""
        return self._log.durable_sequence

    @property
    def pending_bytes(self) -> int:
        """Bytes that wait for the next commit."""
        return self._log.pending_bytes

    @property
    def receipts(self) -> dict[str, int]:
        """Highest durable record number of each writer."""
        return self._writers

    def read(self, sequence: int, max_bytes: int) -> list[Entry]:
        """Return durable entries from `sequence` on; raises OSError."""
        return self._log.read(sequence, max_bytes)

    def append(self, writer: str, number: int, record: Record) -> bool:
        """Take the record `number` of `writer`; False if it is there already. A number that was skipped becomes Missing."""
        expected = self._appended.get(writer, 0) + 1
        if number < expected:
            return False
        if number > expected:
            self._put(writer, number - 1, Missing(reason="overflow", count=number - expected))
        self._put(writer, number, record)
        return True

    def note(self, event: Noted) -> None:
        """Take an event of the link process itself."""
        self._put("link", self._appended.get("link", 0) + 1, event)

    def _write(self, writer: str, number: int, record: Record) -> int:
        now = self._surroundings.monotonic_ns(), self._surroundings.unix_ns()
        return self._log.append(encode(Written(writer, number, *now, record)))

    def _put(self, writer: str, number: int, record: Record) -> None:
        self._write(writer, number, record)
        self._appended.pop(writer, None)
        self._appended[writer] = number

    def commit(self) -> bool:
        """Make everything appended durable; False, with `status` saying why, if the disk does not take it (tried again later)."""
        now_ns = self._surroundings.monotonic_ns()
        if not self._log.pending_bytes or (self._trouble and now_ns < self._retry_ns):
            return not self._trouble
        try:
            committed = self._log.commit()
        except OSError as error:
            self._trouble = f"the journal cannot be written ({error.strerror or error}): free space or repair the disk"
            self._retry_ns = now_ns + RETRY_NS
            return False
        self._trouble = ""
        self._count(committed)
        self._tell_boot_again()
        return True

    def _tell_boot_again(self) -> None:
        """Say in every new segment which policy process is at work: a learner that comes anew may get no older one."""
        before, self._segment = self._segment, self._log.starts[-1]
        if self._boot is not None and before not in (0, self._segment) and self._told_boot < self._segment:
            self._told_boot = self._write("link", 0, self._boot)

    def _count(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            written = decode(entry.payload)
            if written is not None and written.number:
                self._writers.pop(written.writer, None)
                self._writers[written.writer] = written.number
            if written is not None and isinstance(written.record, Boot):
                self._boot = written.record

    def acknowledge(self, sequence: int) -> None:
        """The learner has everything up to `sequence` on its disk."""
        self._acknowledged = max(self._acknowledged, min(sequence, self.durable_sequence))

    def make_room(self) -> None:
        """Keep within the quota: acknowledged segments go first, then, if that was asked for, whole autonomous episodes."""
        try:
            while self._log.used_bytes > RECLAIM_SHARE * self._quota_bytes:
                if not self._log.remove_oldest(self._acknowledged + 1) and not self._log.close_segment():
                    break
            if self.drops and self._log.used_bytes >= DROP_SHARE * self._quota_bytes:
                self._drop()
            self._room_trouble = ""
        except OSError as error:
            self._room_trouble = (
                f"the journal cannot make room ({error.strerror or error}): free space or repair the disk"
            )

    def _drop(self) -> None:
        dropped = self._room.drop_oldest_episode(self._log, self._surroundings)
        if dropped is not None:
            text = f"episode {dropped.episode} of boot {dropped.boot_epoch} was dropped for room: {dropped.steps} steps"
            self.note(Noted(event="drop", tick=0, generation=0, text=text, episode=dropped.episode))

    def take_new_identity(self) -> None:
        """Go on as another journal: a learner knows more of this one than there is, so its disk was set back."""
        self._identity = self._surroundings.random_bytes(8).hex()
        self._acknowledged = 0
        self._log.rotate()
        text = "the learner knew more of this journal than the disk holds: the disk was set back; a new journal begins here"
        self.note(Noted(event="gap", tick=0, generation=0, text=text))

    def close(self) -> None:
        """Give the disk back; what was not committed is lost."""
        self._disk.close()

    @property
    def status(self) -> JournalStatus:
        """How the journal stands."""
        used = self._log.used_bytes + self._log.pending_bytes
        state: State = "recording"
        trouble = self._trouble or self._room_trouble
        if trouble:
            state = "failing"
        elif used >= self._quota_bytes:
            state = "full"
        elif used >= WARN_SHARE * self._quota_bytes:
            state = "nearly full"
        return JournalStatus(
            state=state,
            used_bytes=used,
            quota_bytes=self._quota_bytes,
            durable=self.durable_sequence,
            acknowledged=self._acknowledged,
            trouble=trouble,
        )
