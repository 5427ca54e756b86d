"""Both sides of a demonstration while it goes on, read from the files that they write anyway."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from poco.runtime.demo_learn.learner_files import LearnerStatus, read_status
from poco.runtime.demo_learn.records import LEARNER, ROBOT, read_document
from poco.runtime.demo_learn.timing import TickReader
from poco.runtime.link import STATUS_FILE, LinkReport
from poco.runtime.measures import LATE_NS
from poco.runtime.run_folder import FACTS, Dilation, EpisodeEnded, EventReader, GenerationMoved, RunFolder
from poco.runtime.swap import SUPERSEDED, SlotState

WINDOW_TICKS = 20_000


class Watch:
    """What is known so far; `look` brings it up to date."""

    def __init__(self, path: Path) -> None:
        self._robot, self._learner = path / ROBOT, path / LEARNER
        self._events: EventReader | None = None
        self._ticks = TickReader(self._robot)
        self.outcomes: list[str] = []
        self.states: dict[int, str] = {}
        self.active_after: list[int] = []
        """Finished episodes when each generation became active."""
        self.refused = 0
        """Generations that the robot found something wrong with."""
        self.said: list[str] = []
        """What happened to generations, a sentence each."""
        self.turnaround_us = np.zeros(0)
        """Of the newest WINDOW_TICKS [n]."""
        self.over_1_ms = 0
        self.longest_us = 0.0
        self.dilation_s = 0.0
        self.link: LinkReport | None = None
        self.learner: LearnerStatus | None = None

    def look(self) -> None:
        """Read what is new; raises ArtifactError where a file is not readable."""
        self.learner = read_status(self._learner)
        if self._events is None:
            if not (self._robot / FACTS).is_file():
                return
            self._events = EventReader(RunFolder.open(self._robot))
        self._take_events(self._events)
        self._take_ticks()
        self.link = read_document(self._robot / STATUS_FILE, LinkReport)

    @property
    def driving(self) -> int | None:
        """The newest generation that has the arm, None before any swap."""
        with_arm = [number for number, state in self.states.items() if state in (SlotState.PROBATION, SlotState.ACTIVE)]
        return max(with_arm, default=None)

    def _take_events(self, reader: EventReader) -> None:
        for event in reader.new():
            if isinstance(event, EpisodeEnded):
                self.outcomes.append(event.outcome)
            elif isinstance(event, Dilation):
                self.dilation_s = event.total_s
            elif isinstance(event, GenerationMoved):
                self._take_move(event)

    def _take_move(self, event: GenerationMoved) -> None:
        self.states[event.generation] = event.after
        if event.after == SlotState.ACTIVE:
            self.active_after.append(len(self.outcomes))
        wrong = event.after == SlotState.REJECTED and event.reason != SUPERSEDED
        self.refused += wrong
        if wrong or event.after in (SlotState.PROBATION, SlotState.ACTIVE):
            reason = f" ({event.reason})" if event.reason else ""
            self.said.append(f"generation {event.generation}: {event.after}{reason}")

    def _take_ticks(self) -> None:
        turnaround_ns = self._ticks.new().turnaround_ns
        if not len(turnaround_ns):
            return
        self.turnaround_us = np.concatenate([self.turnaround_us, turnaround_ns / 1e3])[-WINDOW_TICKS:]
        self.over_1_ms += int((turnaround_ns > LATE_NS).sum())
        self.longest_us = max(self.longest_us, float(turnaround_ns.max()) / 1e3)
