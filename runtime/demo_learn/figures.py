"""What one demonstration says in numbers: the content of demo_learn.json."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from poco.records import SCHEMA_VERSION
from poco.runtime.demo_learn.learner_files import LEARNING, LearnedEpisode, LearnerStatus
from poco.runtime.demo_learn.records import Audit, DemoFacts, Records
from poco.runtime.demo_learn.story import GenerationStory, tell
from poco.runtime.link import LinkReport
from poco.runtime.measures import LATE_NS, SUCCESS, latency_ms
from poco.runtime.run_folder import Dilation, EpisodeEnded, RunFacts
from poco.runtime.swap import SUPERSEDED
from poco.statistics import Percentiles, difference_interval, percentiles, wilson_interval

COMPARED = 40
"""So many first and last episodes are compared, or half of a run that has fewer than twice as many."""

AVERAGED = 20
"""Episodes in one average of the success curve."""

NAMED = 5
GAIN_GOAL = 0.30
SWAPS_GOAL = 10


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """Successes among episodes, with the 95 % Wilson interval of the rate."""

    successes: int
    episodes: int
    rate: float
    low: float
    high: float

    @classmethod
    def of(cls, outcomes: Sequence[str]) -> Rate:
        """Return the rate of `outcomes`, at least one."""
        successes, episodes = sum(outcome == SUCCESS for outcome in outcomes), len(outcomes)
        low, high = wilson_interval(successes, episodes)
        return cls(successes=successes, episodes=episodes, rate=successes / episodes, low=low, high=high)


class Gain(msgspec.Struct, frozen=True, kw_only=True):
    """The first episodes against the last; `points` of success rate (fraction) with the 95 % interval of the difference."""

    first: Rate
    last: Rate
    points: float
    low: float
    high: float

    @classmethod
    def of(cls, outcomes: Sequence[str]) -> Gain | None:
        """Compare the first and last COMPARED of `outcomes`; None for fewer than two."""
        count = min(COMPARED, len(outcomes) // 2)
        if not count:
            return None
        first, last = Rate.of(outcomes[:count]), Rate.of(outcomes[-count:])
        low, high = difference_interval((first.successes, count), (last.successes, count))
        return cls(first=first, last=last, points=last.rate - first.rate, low=low, high=high)


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """Something that the demonstration is to show, and whether it did."""

    said: str
    reached: bool


class DemoReport(msgspec.Struct, frozen=True, kw_only=True):
    """Content of demo_learn.json; what could not be measured is null.

    `curve` is the success of the last AVERAGED episodes after each one, from the AVERAGED-th on. While the first `before_learning`
    arrived the actor stood still. Episodes `missed` by the learner ended on the arm and are not in its replay. Turnaround is of
    the `ticks` that are kept, `moved_s` their time on the wall.
    """

    facts: DemoFacts
    run: RunFacts
    outcomes: list[str]
    curve: list[float]
    before_learning: int
    gain: Gain | None
    generations: list[GenerationStory]
    swapped_in: int
    refused: int
    superseded: int
    learner: LearnerStatus | None
    missed: list[int]
    ticks: int
    moved_s: float
    turnaround_us: Percentiles | None
    turnaround_over_1_ms: int
    chunk_ms: Percentiles | None
    first_chunk_ms: Percentiles | None
    dilation_s: float
    link: LinkReport | None
    audit: Audit | None
    goals: list[Goal]
    version: int = SCHEMA_VERSION


def measure(records: Records) -> DemoReport:
    """Measure everything that a report says about `records`; a demonstration that was cut short is fine."""
    ended = records.of_kind(EpisodeEnded)
    outcomes = [event.outcome for event in ended]
    generations = tell(records)
    swapped_in = sum(one.active_after is not None for one in generations[1:])
    gain = Gain.of(outcomes)
    timing = records.timing
    learned = {one.origin.episode for one in records.learned if one.origin is not None}
    dilations = records.of_kind(Dilation)
    return DemoReport(
        facts=records.facts,
        run=records.run,
        outcomes=outcomes,
        curve=moving_average(outcomes),
        before_learning=before_learning(records.learned),
        gain=gain,
        generations=generations,
        swapped_in=swapped_in,
        refused=sum(one.refused for one in generations),
        superseded=sum(one.reason == SUPERSEDED for one in generations),
        learner=records.status,
        missed=[event.episode for event in ended if event.episode not in learned],
        ticks=len(timing.tick),
        moved_s=float(timing.received_ns[-1] - timing.received_ns[0]) / 1e9 if len(timing.tick) else 0.0,
        turnaround_us=percentiles(timing.turnaround_ns / 1e3),
        turnaround_over_1_ms=int((timing.turnaround_ns > LATE_NS).sum()),
        chunk_ms=percentiles(latency_ms(records.chunks, "total")),
        first_chunk_ms=percentiles(first_chunks_ms(generations)),
        dilation_s=dilations[-1].total_s if dilations else 0.0,
        link=records.link,
        audit=records.audit,
        goals=goals(gain, swapped_in, records.audit),
    )


def before_learning(learned: Sequence[LearnedEpisode]) -> int:
    """Return how many of `learned` came, from the first on, before updates changed the actor."""
    return sum(1 for _ in takewhile(lambda one: one.phase != LEARNING, learned))


def moving_average(outcomes: Sequence[str]) -> list[float]:
    """Return the success rate of the last AVERAGED of `outcomes` after each of them, from the AVERAGED-th on."""
    return rates_so_far(outcomes)[AVERAGED - 1 :]


def rates_so_far(outcomes: Sequence[str]) -> list[float]:
    """Return the success rate of the last AVERAGED of `outcomes` after each of them, of fewer at the beginning."""
    hits = [outcome == SUCCESS for outcome in outcomes]
    windows = (hits[max(0, end - AVERAGED) : end] for end in range(1, len(hits) + 1))
    return [sum(window) / len(window) for window in windows]


def first_chunks_ms(generations: Sequence[GenerationStory]) -> npt.NDArray[np.float64]:
    """Return the times from publication to first chunk that are known [n] (ms)."""
    return np.array([one.first_chunk_ms for one in generations if one.first_chunk_ms is not None])


def goals(gain: Gain | None, swapped_in: int, audit: Audit | None) -> list[Goal]:
    """Return what the demonstration is to show."""
    points = "nothing to compare" if gain is None else f"{gain.points * 100:+.0f} points"
    if gain is not None and gain.first.episodes < COMPARED:
        points += f" ({gain.last.episodes} against {gain.first.episodes})"
    return [
        Goal(
            said=f"last {COMPARED} episodes at least {GAIN_GOAL * 100:.0f} points over the first {COMPARED}: {points}",
            reached=gain is not None and gain.first.episodes == COMPARED and gain.points >= GAIN_GOAL - 1e-9,
        ),
        Goal(said=f"at least {SWAPS_GOAL} generations swapped in: {swapped_in}", reached=swapped_in >= SWAPS_GOAL),
        Goal(
            said=f"audit of the journal: {'not made' if audit is None else 'clean' if audit.clean else audit.said[-1]}",
            reached=audit is not None and audit.clean,
        ),
    ]


def headline(report: DemoReport) -> str:
    """Return in one line whether the arm got better."""
    if report.gain is None:
        return f"{len(report.outcomes)} episodes: too few to compare"
    first, last = report.gain.first, report.gain.last
    return (
        f"Success {first.rate:.0%} in the first {first.episodes} episodes, {last.rate:.0%} in the last {last.episodes} "
        f"of {len(report.outcomes)}; {report.swapped_in} generations swapped in"
    )


def subtitle(report: DemoReport) -> str:
    """Return in one line what ran on what."""
    run = report.run
    return (
        f"{run.robot} arm, {run.pacing} pacing, {report.facts.elapsed_s / 60:.1f} min in all ({report.facts.ended}); recipe "
        f"{Path(report.facts.recipe).name}; {report.facts.started_utc}; {run.computer.cores} x {run.computer.cpu}"
    )


def account(report: DemoReport) -> list[str]:
    """Return in a few sentences what became of the episodes on their way, and how the arm was driven."""
    said = []
    if report.learner is not None:
        said.append(
            f"learner: {report.learner.episodes} episodes, {report.learner.steps} steps, {report.learner.updates} updates, "
            f"{report.learner.published} generations published, {report.learner.withheld} withheld"
        )
    if report.before_learning:
        said.append(f"learner: the actor stood still for {report.before_learning} episodes while the critic learned")
    said.append(
        f"robot: {report.swapped_in} generations swapped in, {report.refused} refused, {report.superseded} superseded by "
        "a newer one"
    )
    if report.link is not None:
        said.append(
            f"journal: {report.link.journal.durable} entries durable, "
            f"{report.link.link.acknowledged if report.link.link else 0} with the learner; "
            f"not in its replay: {_numbers(report.missed)}"
        )
    said.append(
        f"servo: {report.turnaround_over_1_ms} of {report.ticks} ticks over 1 ms; the arm waited {report.dilation_s:.1f} s"
    )
    return said


def _numbers(episodes: Sequence[int]) -> str:
    """Name a few episodes, count many."""
    if len(episodes) > NAMED:
        return f"{len(episodes)} episodes"
    return f"episode {', '.join(map(str, episodes))}" if episodes else "no episode"
