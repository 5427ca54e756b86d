"""Reads the journal of a robot from its folder, also while a run writes it: entries, the specification, whole episodes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from poco.episodes import Episode
from poco.errors import ArtifactError
from poco.journal.disk import FolderFiles
from poco.journal.log import LogReader
from poco.journal.records import Boot, JournalHead, Written, decode
from poco.journal.segments import Entry
from poco.learner.episode_assembly import Arrival, EpisodeKey, Finished, assembled
from poco.learner.gathering import Gathering
from poco.specification import Specification

EpisodeName = tuple[int, int]
"""Boot epoch and number of an episode."""


class JournalFiles:
    """The journal in one folder."""

    def __init__(self, folder: Path) -> None:
        """Look at `folder`; raises ArtifactError if no journal is there."""
        self.folder = folder
        self.log = LogReader(FolderFiles(folder))
        heads = [head for start in self.log.starts if (head := self._head(start)) is not None]
        if not heads:
            raise ArtifactError(f"no journal of a robot in {folder}: name a folder such as runs/journal-fr3")
        self.first_head, self.head = heads[0], heads[-1]

    def _head(self, start: int) -> JournalHead | None:
        try:
            return msgspec.msgpack.decode(self.log.head(start), type=JournalHead)
        except msgspec.MsgspecError:
            return None

    def all(self) -> Iterator[tuple[Entry, Written | None]]:
        """Yield every entry with what it says, None where that is not readable."""
        for entry in self.log.all():
            yield entry, decode(entry.payload)

    def specification(self) -> Specification:
        """Return what the newest policy process recorded under; raises ArtifactError if the journal knows of none."""
        return self.specifications()[-1]

    def specifications(self) -> list[Specification]:
        """Return each that policy processes recorded under once, that of the newest last; raises ArtifactError if there is none."""
        found: dict[str, Specification] = {}
        for _, written in self.all():
            if written is not None and isinstance(written.record, Boot):
                digest = written.record.specification_hash
                found[digest] = found.pop(digest, written.record.specification)
        if not found:
            raise ArtifactError(f"no policy has begun in the journal {self.folder}: it holds no episodes")
        return list(found.values())

    def episodes(self, specification: Specification) -> Iterator[Episode]:
        """Yield the whole episodes of `specification` in the order in which they ended, with their newest labels."""
        gathering = Gathering(specification.digest())
        arrivals = [
            arrival
            for entry, written in self.all()
            for arrival in gathering.take(entry.sequence, self.head.robot, self.head.journal, written)
        ]
        labels: dict[EpisodeKey, Arrival] = {}
        for arrival in arrivals:
            if arrival.revision > labels.setdefault(arrival.key, arrival).revision:
                labels[arrival.key] = arrival
        for arrival in arrivals:
            finished, label = self._assembled(arrival), labels[arrival.key]
            if finished is not None and finished.steps:
                labelled = finished if label is arrival else self._assembled(label)
                yield Episode(specification, finished.steps, (labelled or finished).end, finished.views)

    def _assembled(self, arrival: Arrival) -> Finished | None:
        entries = self.log.between(arrival.first_position, arrival.position)
        return assembled(arrival, ((entry.sequence, decode(entry.payload)) for entry in entries))
