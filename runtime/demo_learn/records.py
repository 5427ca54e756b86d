"""Everything that one demonstration leaves behind, read into memory.

```
demo.json       DemoFacts, written when both sides have ended
audit.json      what poco-journal audit said
robot/          the run folder of poco-runtime (`poco.runtime.run_folder`)
learner/        the run folder of poco-learner serve (`learner_files`)
keys/ trust/    keys of the link and of the publisher, made for this demonstration
journal-NAME/   the robot's journal
```
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from poco.errors import ArtifactError
from poco.runtime.demo_learn.learner_files import (
    LearnedEpisode,
    LearnerStatus,
    Publication,
    read_learned,
    read_publications,
    read_status,
)
from poco.runtime.demo_learn.timing import Timing, read_timing
from poco.runtime.link import STATUS_FILE, LinkReport
from poco.runtime.run_folder import ChunkRecord, Event, RunFacts, RunFolder

ROBOT, LEARNER = "robot", "learner"
FACTS, AUDIT = "demo.json", "audit.json"

_Document = TypeVar("_Document", bound=msgspec.Struct)
_Kind = TypeVar("_Kind")


class DemoFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the demonstration knows itself: its command, how it ended, and after how long (s of this computer)."""

    command: list[str]
    recipe: str
    started_utc: str
    ended: str
    elapsed_s: float


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """What `poco-journal audit` said of the robot's journal and the learner's inbox."""

    clean: bool
    said: list[str]


@dataclass(frozen=True, slots=True)
class Records:
    """One demonstration; `status`, `link` and `audit` are None where it did not get that far."""

    facts: DemoFacts
    run: RunFacts
    events: list[Event]
    chunks: list[ChunkRecord]
    timing: Timing
    publications: list[Publication]
    learned: list[LearnedEpisode]
    status: LearnerStatus | None
    link: LinkReport | None
    audit: Audit | None

    @classmethod
    def read(cls, path: Path) -> Records:
        """Read the demonstration in `path`; raises ArtifactError where a file is not readable, UsageError if the arm never ran."""
        folder, learner = RunFolder.open(path / ROBOT), path / LEARNER
        facts = read_document(path / FACTS, DemoFacts)
        if facts is None:
            raise ArtifactError(f"{path} holds no demonstration ({FACTS} is missing): name a folder of make demo-learn")
        return cls(
            facts=facts,
            run=folder.facts(),
            events=folder.events(),
            chunks=folder.chunks(),
            timing=read_timing(folder.path),
            publications=read_publications(learner),
            learned=read_learned(learner),
            status=read_status(learner),
            link=read_document(path / ROBOT / STATUS_FILE, LinkReport),
            audit=read_document(path / AUDIT, Audit),
        )

    def of_kind(self, kind: type[_Kind]) -> list[_Kind]:
        """Return the events of one kind in order."""
        return [event for event in self.events if isinstance(event, kind)]


def read_document(file: Path, kind: type[_Document]) -> _Document | None:
    """Read the JSON document in `file`, None if there is none; raises ArtifactError if it is not one of that kind."""
    if not file.is_file():
        return None
    try:
        return msgspec.json.decode(file.read_bytes(), type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, OSError) as error:
        raise ArtifactError(f"{file} is not readable ({error}): run the demonstration again") from error
