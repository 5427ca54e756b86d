"""Room in a full journal: the oldest autonomous episode is dropped whole, and what stood there says so."""

from __future__ import annotations

from dataclasses import dataclass, field

from poco.journal.log import Log
from poco.journal.records import Ended, Missing, Stepped, Viewed, Written, decode, encode
from poco.journal.segments import Entry
from poco.surroundings import Surroundings

HUMAN_LABELS = ("demonstration", "intervention")
"""Labels of an episode that a person had a part in; those are never dropped, nor are episodes with a step in `intervened`."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """An episode that was dropped."""

    boot_epoch: int
    episode: int
    steps: int


@dataclass
class _Candidate:
    sequences: list[int] = field(default_factory=list)
    starts: set[int] = field(default_factory=set)
    steps: int = 0
    human: bool = False


class Room:
    """Finds what may be dropped; remembers before which segment there is nothing, so that human episodes are not read again."""

    def __init__(self) -> None:
        self._begin = 0

    def drop_oldest_episode(self, log: Log, surroundings: Surroundings) -> Dropped | None:
        """Drop the oldest finished episode of `log` without human steps; None if there is none. Raises OSError.

        The segment that is being written is left alone, and so is an episode whose beginning is gone: it may have been human.
        Each run of its entries becomes one Missing that stands for them.
        """
        found = self._find(log)
        if found is None:
            return None
        boot_epoch, episode, candidate = found
        doomed = frozenset(candidate.sequences)
        for start in sorted(candidate.starts):
            kept: list[Entry] = []
            for entry in log.entries(start):
                if entry.sequence not in doomed:
                    kept.append(entry)
                elif kept and kept[-1].sequence in doomed and kept[-1].following == entry.sequence:
                    kept[-1] = _missing(kept[-1].sequence, kept[-1].span + 1, boot_epoch, episode, surroundings)
                else:
                    kept.append(_missing(entry.sequence, 1, boot_epoch, episode, surroundings))
            log.rewrite(start, kept)
        return Dropped(boot_epoch, episode, candidate.steps)

    def _find(self, log: Log) -> tuple[int, int, _Candidate] | None:
        candidates: dict[tuple[int, int], _Candidate] = {}
        for start in log.starts[:-1]:
            if start < self._begin:
                continue
            for entry in log.entries(start):
                written = decode(entry.payload)
                match written and written.record:
                    case Missing(reason="dropped", boot_epoch=int(boot_epoch), episode=int(episode)):
                        candidates.setdefault((boot_epoch, episode), _Candidate())
                    case Stepped(step=step):
                        cut = _Candidate(human=step.key.step > 0)
                        candidate = candidates.setdefault((step.key.boot_epoch, step.key.episode), cut)
                        candidate.sequences.append(entry.sequence)
                        candidate.starts.add(start)
                        candidate.steps += 1
                        candidate.human |= step.intervened
                    case Viewed(key=key):
                        cut = _Candidate(human=key.step > 0)
                        candidate = candidates.setdefault((key.boot_epoch, key.episode), cut)
                        candidate.sequences.append(entry.sequence)
                        candidate.starts.add(start)
                    case Ended(end=end):
                        ended = candidates.pop((end.boot_epoch, end.episode), None)
                        if ended is None or ended.human or any(label in end.labels for label in HUMAN_LABELS):
                            continue
                        ended.sequences.append(entry.sequence)
                        ended.starts.add(start)
                        self._begin = _first_start([ended, *candidates.values()], start)
                        return end.boot_epoch, end.episode, ended
        self._begin = _first_start(list(candidates.values()), log.starts[-1])
        return None


def _first_start(candidates: list[_Candidate], newest: int) -> int:
    return min((start for candidate in candidates for start in candidate.starts), default=newest)


def _missing(sequence: int, span: int, boot_epoch: int, episode: int, surroundings: Surroundings) -> Entry:
    record = Missing(reason="dropped", count=span, boot_epoch=boot_epoch, episode=episode)
    now = surroundings.monotonic_ns(), surroundings.unix_ns()
    return Entry(sequence, span, encode(Written("link", 0, *now, record)))
