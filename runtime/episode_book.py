"""The episodes of a run as they end: into journal, file and event; labelled anew or thrown away when a person says so.

A label is a higher revision of the end, in the journal and in the file. What is thrown away stays in the journal with the outcome
"discarded", and its file moves to `discarded/` of the run folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from poco.episodes import write_episode
from poco.hw.devices.device import Command
from poco.records import DISCARDED, EpisodeEnd, Step
from poco.runtime.journal_recorder import JournalRecorder
from poco.runtime.run_folder import EpisodeEnded, EpisodeLabelled, RunFolder
from poco.specification import Specification
from poco.views import Views

SUFFIX = ".safetensors"


@dataclass(frozen=True, slots=True)
class _Last:
    steps: Sequence[Step]
    end: EpisodeEnd
    views: Views | None


class EpisodeBook:
    """Writes the ends of episodes; policy process only. Raises OSError where the disk refuses."""

    def __init__(self, folder: RunFolder, journal: JournalRecorder, specification: Specification) -> None:
        self._folder, self._journal, self._specification = folder, journal, specification
        self._last: _Last | None = None

    @property
    def kept(self) -> int:
        """Number of episodes of the run that were not thrown away."""
        return sum(1 for _ in self._folder.episodes.glob(f"*{SUFFIX}"))

    def close(
        self, steps: Sequence[Step], end: EpisodeEnd, reason: str, ticks: int, views: Views | None = None
    ) -> None:
        """Record the end of an episode that took `ticks` and ended for `reason`; `views` go into its file."""
        self._journal.end(end)
        self._write(_Last(steps, end, views))
        ended = EpisodeEnded(tick=end.tick, episode=end.episode, outcome=reason, steps=len(steps), ticks=ticks)
        self._folder.append_event(ended)

    def obey(self, said: Iterable[Command]) -> bool:
        """Do what was said of the last episode; tell whether the next one is to start."""
        starts = False
        for command in said:
            match command:
                case "start":
                    starts = True
                case "success" | "failure":
                    self.label(command)
                case "relabel":
                    self.relabel()
                case "discard":
                    self.discard()
        return starts

    def label(self, outcome: Literal["success", "failure"]) -> bool:
        """Label the last episode anew; False if there is none or it has that outcome."""
        last = self._last
        if last is None or last.end.outcome == outcome:
            return False
        end = self._revise(last, outcome)
        steps = list(last.steps)
        if steps:
            steps[-1] = msgspec.structs.replace(steps[-1], reward=1.0 if outcome == "success" else 0.0)
        self._write(_Last(steps, end, last.views))
        return True

    def relabel(self) -> bool:
        """Give the last episode the other outcome; False if there is none."""
        if self._last is None:
            return False
        return self.label("failure" if self._last.end.outcome == "success" else "success")

    def discard(self) -> bool:
        """Throw the last episode away; False if there is none."""
        last, self._last = self._last, None
        if last is None:
            return False
        self._revise(last, DISCARDED)
        aside = self._folder.path / DISCARDED
        aside.mkdir(exist_ok=True)
        name = f"{last.end.episode:06d}{SUFFIX}"
        (self._folder.episodes / name).rename(aside / name)
        return True

    def _revise(self, last: _Last, outcome: str) -> EpisodeEnd:
        end = msgspec.structs.replace(
            last.end,
            outcome=outcome,
            labels=last.end.labels | {"reason": "person"},
            revision=last.end.revision + 1,
            terminated=True,
            truncated=False,
        )
        self._journal.end(end)
        self._folder.append_event(EpisodeLabelled(tick=end.tick, episode=end.episode, outcome=outcome))
        return end

    def _write(self, last: _Last) -> None:
        self._last, path = last, self._folder.episodes / f"{last.end.episode:06d}{SUFFIX}"
        write_episode(path, self._specification, last.steps, last.end, last.views)
