"""Environments that act at the same time, each in a process of its own, and one learner that answers them in between."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from poco.learner import environment_frames as frames
from poco.learner.environment_process import EnvironmentLost, EnvironmentProcess
from poco.learner.rollouts import Actor, Rolled
from poco.records import Step
from poco.views import Views


@dataclass(slots=True)
class _Lane:
    process: EnvironmentProcess
    act: Actor
    episode: int | None = None
    chunk: int = 0
    steps: list[Step] = field(default_factory=list)
    views: list[Views] = field(default_factory=list)


class EnvironmentPool:
    """Plays episodes in `processes`, each with an actor of its own; episode e is reset with `seed` + e.

    What happens in an episode does not depend on how many run beside it, as long as the policy does not change meanwhile.
    """

    def __init__(self, processes: Sequence[EnvironmentProcess], make_actor: Callable[[], Actor], seed: int) -> None:
        self._lanes = [_Lane(process, make_actor()) for process in processes]
        self._seed = seed

    @property
    def idle(self) -> int:
        """How many processes have nothing to play."""
        return sum(lane.episode is None for lane in self._lanes)

    def begin(self, episode: int) -> None:
        """Start `episode` in a process that is idle."""
        lane = next(lane for lane in self._lanes if lane.episode is None)
        self._begin(lane, episode)

    def collect(self, wait: bool) -> Rolled | None:
        """Give processes that have answered their next chunk until an episode has ended, and return it.

        With `wait` it returns when at least one has answered or is late, without one at once. A worker that was lost is replaced
        and plays its episode from the start; raises PocoError if that does not help.
        """
        busy = [lane for lane in self._lanes if lane.episode is not None]
        patience_s = max(0.0, min((lane.process.left_s for lane in busy), default=0.0)) if wait else 0.0
        ready, _, _ = select.select([lane.process for lane in busy], [], [], patience_s)
        for lane in busy:
            if lane.process not in ready and not lane.process.overdue:
                continue
            try:
                rolled = self._advance(lane)
            except EnvironmentLost as lost:
                lane.process.restart(lost)
                self._begin(lane, lane.episode or 0)
                continue
            if rolled is not None:
                return rolled
        return None

    def roll(self, episodes: range) -> Iterator[Rolled]:
        """Yield one finished episode for each number in `episodes`, in the order in which they end."""
        numbers, left = iter(episodes), len(episodes)
        while left:
            for _, number in zip(range(self.idle), numbers, strict=False):
                self.begin(number)
            rolled = self.collect(wait=True)
            if rolled is not None:
                left -= 1
                yield rolled

    def close(self) -> None:
        """End the workers."""
        for lane in self._lanes:
            lane.process.close()

    def _begin(self, lane: _Lane, episode: int) -> None:
        lane.episode, lane.chunk, lane.steps, lane.views = episode, 0, [], []
        while True:
            try:
                return lane.process.ask(frames.Reset(self._seed + episode))
            except EnvironmentLost as error:
                lane.process.restart(error)

    def _advance(self, lane: _Lane) -> Rolled | None:
        answer = lane.process.answer()
        lane.steps += answer.steps
        if answer.views is not None:
            lane.views.append(answer.views)
        if answer.end is not None:
            lane.episode = None
            return Rolled(tuple(lane.steps), answer.end, Views.joined(lane.views) if lane.views else None)
        action = lane.act(answer.observation, lane.episode or 0, lane.chunk)
        lane.chunk += 1
        lane.process.ask(frames.Act(frames.layout_of(action)), action)
        return None
