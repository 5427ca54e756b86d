"""Whether a journal tells the whole story: every step once and in order, every gap said, and the learner has the same bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from poco.errors import ArtifactError
from poco.journal.disk import FolderFiles
from poco.journal.log import LogReader
from poco.journal.records import Boot, Ended, Missing, Noted, Stepped, Viewed, Written
from poco.journal.segments import Entry
from poco.learner.inbox import Received, read_kept
from poco.learner.journal_files import EpisodeName, JournalFiles


class Audit:
    """Goes through one journal once; `counts` says what there is, `violations` what must not be, each in a sentence."""

    def __init__(self, journal: JournalFiles) -> None:
        self.counts: Counter[str] = Counter()
        self.violations: list[str] = []
        self._robot = journal.head.robot
        self._cut = journal.log.first_sequence > 1
        self._numbers = dict(journal.first_head.writers)
        self._said_gap: set[str] = set()
        self._boots: set[int] = set()
        self._open: dict[EpisodeName, int] = {}
        self._ended: set[EpisodeName] = set()
        for entry, written in journal.all():
            self._take(entry, written)

    def _take(self, entry: Entry, written: Written | None) -> None:
        if written is None:
            self.violations.append(f"entry {entry.sequence} is not readable")
            return
        if isinstance(written.record, Missing):
            self._gap(written.record, entry)
        elif written.number:
            self._count_number(entry, written)
        match written.record:
            case Boot(boot_epoch=boot_epoch):
                self.counts["boots"] += boot_epoch not in self._boots
                self._boots.add(boot_epoch)
            case Stepped():
                self._step(entry, written.record)
            case Viewed():
                self.counts["images"] += 1
            case Ended():
                self._end(entry, written.record)
            case Noted(event=event):
                self.counts[f"events: {event}"] += 1

    def _gap(self, missing: Missing, entry: Entry) -> None:
        self.counts[f"missing: {missing.reason}"] += missing.count or entry.span
        self._said_gap = set(self._numbers) | {"*"}
        if missing.episode is not None and missing.boot_epoch is not None:
            self._open.pop((missing.boot_epoch, missing.episode), None)
        else:
            self._open.clear()

    def _count_number(self, entry: Entry, written: Written) -> None:
        before = self._numbers.get(written.writer, 0)
        self._numbers[written.writer] = written.number
        said = written.writer in self._said_gap or (before == 0 and "*" in self._said_gap)
        self._said_gap.discard(written.writer)
        if written.number <= before:
            self.violations.append(
                f"entry {entry.sequence}: record {written.number} of {written.writer} is there twice"
            )
        elif written.number > before + 1 and not said:
            self.violations.append(
                f"entry {entry.sequence}: {written.writer} jumps from record {before} to {written.number}"
            )

    def _step(self, entry: Entry, record: Stepped) -> None:
        key = record.step.key
        name = (key.boot_epoch, key.episode)
        self.counts["steps"] += 1
        if key.robot != self._robot:
            self.violations.append(f"entry {entry.sequence}: a step of robot {key.robot}")
        if key.boot_epoch not in self._boots and not self._cut and "*" not in self._said_gap:
            self.violations.append(f"entry {entry.sequence}: a step of boot {key.boot_epoch}, which has not begun")
        expected = self._open.get(name, 0)
        if name in self._ended or key.step < expected:
            self.violations.append(f"entry {entry.sequence}: step {key.step} of episode {name} is there twice")
        elif key.step > expected and not self._cut and "*" not in self._said_gap:
            self.violations.append(f"entry {entry.sequence}: step {expected} of episode {name} is not there")
        self._open[name] = max(key.step + 1, expected)

    def _end(self, entry: Entry, record: Ended) -> None:
        name = (record.end.boot_epoch, record.end.episode)
        if name in self._ended:
            self.counts["labels"] += 1
            return
        self._ended.add(name)
        self._open.pop(name, None)
        self.counts["episodes"] += 1
        self.counts[f"outcome: {record.end.outcome}"] += 1


def compare_with_inbox(journal: JournalFiles, inbox: Path) -> tuple[Counter[str], list[str]]:
    """Compare with what a learner's inbox still holds of this journal, byte by byte; return counts and violations.

    An entry that the robot dropped for room after it had been sent is there on one side only.

    Raises ArtifactError without an inbox.
    """
    counts: Counter[str] = Counter()
    violations: list[str] = []
    held = {entry.sequence: entry.payload for entry, written in journal.all() if not _dropped(written)}
    following = 0
    for received in _received(inbox, journal.head.robot, journal.head.journal):
        if following and received.sequence != following:
            violations.append(f"inbox: entry {received.sequence} follows {following - 1}")
        following = received.sequence + received.span
        counts["entries in the inbox"] += 1
        if (payload := held.get(received.sequence)) is not None:
            counts["entries compared"] += 1
            if payload != received.payload:
                violations.append(f"inbox: entry {received.sequence} differs from the journal")
    newest = max(held, default=0)
    counts["entries under way"] = max(newest + 1 - following, 0) if following else len(held)
    return counts, violations


def _dropped(written: Written | None) -> bool:
    return written is not None and isinstance(written.record, Missing)


def _received(inbox: Path, robot: str, identity: str) -> Iterator[Received]:
    log = LogReader(FolderFiles(inbox))
    if not log.starts:
        raise ArtifactError(
            f"no inbox of a learner in {inbox}: name the folder inbox of a served run, such as runs/served/inbox"
        )
    for entry in log.all():
        kept = read_kept(entry.payload)
        if isinstance(kept, Received) and (kept.robot, kept.journal) == (robot, identity):
            yield kept
