"""The generations of one demonstration: published by the learner, tried and taken by the robot, one story each."""

from __future__ import annotations

from collections import Counter

import msgspec

from poco.runtime.demo_learn.records import Records
from poco.runtime.measures import SUCCESS
from poco.runtime.run_folder import EpisodeEnded, GenerationMoved
from poco.runtime.swap import SUPERSEDED, SlotState

BEGINNING = "began with"
WAITING = "published"


class GenerationStory(msgspec.Struct, frozen=True, kw_only=True):
    """One generation: where it came from, how far it came on the robot and how its episodes went.

    `learned_from` are the episodes that the learner had when it published it (None for the one the run began with),
    `first_chunk_ms` is the time from the publication to its first chunk, `driven_after` and `active_after` are the finished
    episodes when it got the arm and when its probation was over; `episodes` ended under it, `successes` of them well.
    """

    generation: int
    parent: int | None
    cause: str
    learned_from: int | None
    state: str
    reason: str
    first_chunk_ms: float | None
    driven_after: int | None
    active_after: int | None
    episodes: int
    successes: int

    @property
    def refused(self) -> bool:
        """Whether the robot found something wrong with it."""
        return self.state == SlotState.REJECTED and self.reason != SUPERSEDED


def tell(records: Records) -> list[GenerationStory]:
    """Return the story of every generation, the one that the run began with first, then in order of number."""
    beginning = records.run.generation
    published = {one.generation: one for one in records.publications}
    states, reasons = {beginning: str(SlotState.ACTIVE)}, {beginning: ""}
    driven, active = {beginning: 0}, {beginning: 0}
    finished = 0
    for event in records.events:
        if isinstance(event, EpisodeEnded):
            finished += 1
        elif isinstance(event, GenerationMoved):
            states[event.generation] = event.after
            reasons[event.generation] = event.reason
            if event.after == SlotState.PROBATION:
                driven.setdefault(event.generation, finished)
            elif event.after == SlotState.ACTIVE:
                active.setdefault(event.generation, finished)
    episodes, successes = _episodes(records)
    return [
        GenerationStory(
            generation=number,
            parent=published[number].parent if number in published else None,
            cause=published[number].cause if number in published else BEGINNING,
            learned_from=published[number].episodes if number in published else None,
            state=states.get(number, WAITING),
            reason=reasons.get(number, ""),
            first_chunk_ms=_first_chunk_ms(records, number),
            driven_after=driven.get(number),
            active_after=active.get(number),
            episodes=episodes[number],
            successes=successes[number],
        )
        for number in sorted({beginning} | set(published) | set(states), key=lambda one: (one != beginning, one))
    ]


def drivers(records: Records) -> list[int]:
    """Return the generation at the end of every finished episode, in order of ending; 0 for one without a chunk."""
    last = {chunk.episode: chunk.generation for chunk in records.chunks}
    return [last.get(event.episode, 0) for event in records.of_kind(EpisodeEnded)]


def _episodes(records: Records) -> tuple[Counter[int], Counter[int]]:
    """Count the episodes that ended under each generation, and those of them that succeeded."""
    episodes: Counter[int] = Counter()
    successes: Counter[int] = Counter()
    for generation, event in zip(drivers(records), records.of_kind(EpisodeEnded), strict=True):
        episodes[generation] += 1
        successes[generation] += event.outcome == SUCCESS
    return episodes, successes


def _first_chunk_ms(records: Records, generation: int) -> float | None:
    """Return the time from the publication of `generation` to its first chunk in the servo's hands (ms), None if not known."""
    published = next((one for one in records.publications if one.generation == generation), None)
    chunk = next((one for one in records.chunks if one.generation == generation), None)
    if published is None or chunk is None:
        return None
    observed_ns = records.timing.when_ns(chunk.observation_tick)
    return None if observed_ns is None else (observed_ns + chunk.total_ns) / 1e6 - published.monotonic_s * 1e3
