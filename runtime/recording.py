"""Between two demonstrations: the arm is held until the person begins the next one, labels, throws away or ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from poco.rollout import Plant, State
from poco.runtime.episode_book import EpisodeBook
from poco.runtime.person import Person

LOOK_TICKS = 50


class HeldPlant(Plant, Protocol):
    """The arm with its task, and the robot tick that was waited for last."""

    @property
    def tick(self) -> int:
        """Robot time."""
        ...


class Recording:
    """One run of demonstrations; policy process only."""

    def __init__(self, person: Person, book: EpisodeBook, plant: HeldPlant, episodes: int, renew_ticks: int) -> None:
        self.person = person
        self._book, self._plant = book, plant
        self._episodes, self._renew_ticks = episodes, renew_ticks

    def begins(self, moves: Callable[[State], bool], renew: Callable[[], object] = lambda: None) -> bool:
        """Wait until the person has started and `moves`; False where the run is to end or has all that it is to keep.

        `renew` moves the arm nowhere, so that a servo that has followed chunks goes on holding it.
        """
        self._book.obey(self.person.said())  # a start that was meant for a moment ago does not count
        started, renewed_tick = False, self._plant.tick
        while not self.person.quits:
            state = self._plant.wait(self._plant.tick + LOOK_TICKS)
            moving = moves(state)
            started = self._book.obey(self.person.said()) or started
            if started and self._book.kept >= self._episodes:
                return False
            if started and moving:
                return True
            if self._plant.tick - renewed_tick > self._renew_ticks:
                renew()
                renewed_tick = self._plant.tick
        return False
