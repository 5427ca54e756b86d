"""Puts the streams of many robots together to finished episodes: whole, in order, each once, or not at all and counted.

It remembers where an episode lies and how many steps of it came, never what is in them: that is read again when the episode is over
(`episode_assembly`), so what waits and what never ends takes no memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from poco.journal.records import Boot, Ended, Missing, Stepped, Viewed, Written
from poco.learner.episode_assembly import Arrival, EpisodeKey
from poco.records import EpisodeEnd, Step, StepKey

BOOTS_UNTIL_BROKEN_OFF = 2
"""When so many policy processes have begun after its own an episode will not end any more; the last words of one process may come
behind the first of the next."""

OPEN_MAX = 16
"""A robot works on one episode at a time; of more that have not ended the oldest are given up, so that they hold no room."""

BOOTS_MAX = 64
"""Of so many policy processes of a robot it is known what they had done; of those before nothing more is taken."""


class BootState(msgspec.Struct):
    """What is known of one policy process of a robot: whether it has our specification, the newest episode that ended."""

    ours: bool
    ended: int = -1


class GatheringState(msgspec.Struct):
    """What of the past matters for what follows: the boots of every robot by boot epoch, the episodes by how they came in."""

    boots: dict[str, dict[int, BootState]] = {}
    counts: dict[str, int] = {}


@dataclass
class _Open:
    position: int
    journal: str
    steps: int = 0
    whole: bool = True
    boots_since: int = 0
    """How many policy processes have begun in the same journal since the one that it belongs to."""


class Gathering:
    """Fed with the entries of an inbox in order; the same entries give the same episodes."""

    def __init__(self, specification_hash: str) -> None:
        self._specification_hash = specification_hash
        self._open: dict[EpisodeKey, _Open] = {}
        self._boots: dict[str, dict[int, BootState]] = {}
        self.counts: Counter[str] = Counter()

    def restore(self, state: GatheringState) -> None:
        """Begin where `state` was taken."""
        self._boots = state.boots
        self.counts = Counter(state.counts)

    @property
    def state(self) -> GatheringState:
        """What of the past matters for what follows."""
        return GatheringState(boots=self._boots, counts=dict(self.counts))

    @property
    def oldest_open(self) -> int | None:
        """Position of the first step of the oldest unfinished episode."""
        return min((episode.position for episode in self._open.values()), default=None)

    def give_up_oldest(self) -> None:
        """Forget the unfinished episode that began first; what still comes of it is not whole."""
        del self._open[min(self._open, key=lambda key: self._open[key].position)]
        self.counts["episodes broken off"] += 1

    def take(self, position: int, robot: str, journal: str, written: Written | None) -> Iterator[Arrival]:
        """Take the entry at `position` that `robot` sent from `journal`; None is one that no longer decodes."""
        match written and written.record:
            case None:
                self.counts["unreadable"] += 1
                self._spoil(robot, journal)
            case Missing(reason=reason) as missing:
                self.counts[f"missing: {reason}"] += 1
                self._spoil(robot, journal, missing)
            case Boot() as boot if boot.robot == robot:
                ours = boot.specification_hash == self._specification_hash
                boots = self._boots.setdefault(robot, {})
                if boot.boot_epoch in boots:  # told again
                    return
                boots[boot.boot_epoch] = BootState(ours)
                while len(boots) > BOOTS_MAX:
                    del boots[next(iter(boots))]
                self._break_off(robot, journal, boot.boot_epoch)
            case Stepped(step=step) if step.key.robot == robot:
                self._step(position, journal, step)
            case Viewed(key=key) if key.robot == robot:
                self._view(position, journal, key)
            case Ended(end=end) if end.robot == robot:
                yield from self._end(position, end)
            case Boot() | Stepped() | Viewed() | Ended():
                self.counts["of another robot"] += 1
            case _:
                self.counts["events"] += 1

    def _break_off(self, robot: str, journal: str, boot_epoch: int) -> None:
        """The policy process `boot_epoch` has begun: forget what those before it began and will not end."""
        for key, opened in list(self._open.items()):
            if key[0] != robot or key[1] == boot_epoch or opened.journal != journal:
                continue
            opened.boots_since += 1
            if opened.boots_since >= BOOTS_UNTIL_BROKEN_OFF:
                del self._open[key]
                self.counts["episodes broken off"] += 1

    def _opened(self, key: EpisodeKey, position: int, journal: str) -> _Open:
        """Return the unfinished episode `key`, which begins at `position` if it is not there yet."""
        if key not in self._open:
            others = [other for other in self._open if other[0] == key[0]]
            if len(others) >= OPEN_MAX:
                del self._open[others[0]]
                self.counts["episodes broken off"] += 1
            self._open[key] = _Open(position, journal)
        return self._open[key]

    def _known(self, robot: str, boot_epoch: int) -> BootState | None:
        state = self._boots.get(robot, {}).get(boot_epoch)
        if state is None or not state.ours:
            self.counts["of another specification"] += 1
            return None
        return state

    def _step(self, position: int, journal: str, step: Step) -> None:
        key, number = step.key, step.key.step
        boot = self._known(key.robot, key.boot_epoch)
        if boot is None:
            return
        if key.episode <= boot.ended:
            self.counts["steps again"] += 1
            return
        opened = self._opened((key.robot, key.boot_epoch, key.episode), position, journal)
        opened.journal = journal
        if number < opened.steps:
            self.counts["steps again"] += 1
        elif number > opened.steps:
            opened.whole = False
        else:
            opened.steps += 1
            self.counts["steps"] += 1

    def _view(self, position: int, journal: str, key: StepKey) -> None:
        boot = self._known(key.robot, key.boot_epoch)
        if boot is not None and key.episode > boot.ended:
            self._opened((key.robot, key.boot_epoch, key.episode), position, journal)
            self.counts["images"] += 1

    def _end(self, position: int, end: EpisodeEnd) -> Iterator[Arrival]:
        boot = self._known(end.robot, end.boot_epoch)
        if boot is None:
            return
        key = end.robot, end.boot_epoch, end.episode
        opened = self._open.pop(key, None)
        if end.episode <= boot.ended:
            self.counts["labels"] += 1
            yield Arrival(key, position, position, end.revision)
            return
        boot.ended = end.episode
        if opened is not None and opened.whole and opened.steps:
            self.counts["episodes"] += 1
            yield Arrival(key, opened.position, position, end.revision)
        else:
            self.counts["episodes not whole"] += 1

    def spoil_all(self) -> None:
        """An entry of the inbox itself no longer checks: no open episode is known to be whole."""
        self.counts["damaged in the inbox"] += 1
        for opened in self._open.values():
            opened.whole = False

    def _spoil(self, robot: str, journal: str, missing: Missing | None = None) -> None:
        """Entries of `journal` are not there: the open episodes they may belong to are not whole."""
        for (owner, boot_epoch, episode), opened in self._open.items():
            named = missing is not None and missing.episode is not None
            other = missing is not None and (missing.boot_epoch, missing.episode) != (boot_epoch, episode)
            if owner == robot and opened.journal == journal and not (named and other):
                opened.whole = False
