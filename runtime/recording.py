"""Between two demonstrations: the arm holds the start pose until the person begins the next one, labels, throws away or ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from poco.observation import observe
from poco.rollout import Plant
from poco.runtime.actors import Moment
from poco.runtime.episode_book import EpisodeBook
from poco.runtime.hands import HandsActor, moves
from poco.runtime.person import Person

LOOK_TICKS = 50


class HeldPlant(Plant, Protocol):
    """The arm with its task, and the robot tick that was waited for last."""

    @property
    def tick(self) -> int:
        """Robot time."""
        ...


class Recording:
    """One run of demonstrations; policy process only. `renew` moves the arm nowhere, so that the servo goes on holding it."""

    def __init__(
        self,
        person: Person,
        hands: HandsActor,
        book: EpisodeBook,
        plant: HeldPlant,
        episodes: int,
        renew: Callable[[], object],
        renew_ticks: int,
    ) -> None:
        self.person = person
        self._hands, self._book, self._plant = hands, book, plant
        self._episodes, self._renew, self._renew_ticks = episodes, renew, renew_ticks

    def begins(self, episode: int) -> bool:
        """Wait until the person has started `episode` and moves; False where the run is to end or has all that it is to keep."""
        self._book.obey(self.person.said())  # a start that was meant for a moment ago does not count
        started, renewed_tick = False, self._plant.tick
        while not self.person.quits:
            state = self._plant.wait(self._plant.tick + LOOK_TICKS)
            signal = self._plant.signal()
            seen = observe(state, signal, self._hands.specification)
            reading = self._hands.look(Moment(episode, 0, seen, state, signal))
            started = self._book.obey(self.person.said()) or started
            if started and self._book.kept >= self._episodes:
                return False
            if started and moves(reading):
                return True
            if self._plant.tick - renewed_tick > self._renew_ticks:
                self._renew()
                renewed_tick = self._plant.tick
        return False
