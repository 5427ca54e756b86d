"""What a soak says in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import msgspec
import numpy as np
import numpy.typing as npt

from poco.runtime.recorder import MINUTE_TICKS
from poco.runtime.run_folder import (
    ChunkRecord,
    Dilation,
    EpisodeEnded,
    EpisodeStarted,
    Event,
    Fault,
    Hold,
    Minute,
    Recovery,
    Reflex,
)
from poco.runtime.soak.watch import ProcessSample, Sample
from poco.statistics import Percentiles, Slope, percentiles, robust_slope, wilson_interval

POINTS_MAX = 720
MEMORY = ("rss_kib", "pss_kib", "anonymous_kib")

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Watched:
    """Everything that was seen of a run: samples of its processes, and its minutes, chunks and events, in order."""

    samples: Sequence[Sample]
    minutes: Sequence[Minute]
    chunks: Sequence[ChunkRecord]
    events: Sequence[Event]


class Growth(msgspec.Struct, frozen=True, kw_only=True):
    """A quantity in the second half of a soak: its first and last value (KiB), its slope (KiB/h), null for two samples.

    `rise` is how far (KiB) its highest value lies above that of the first half: what is filled and emptied in turns has none.
    """

    first: float
    last: float
    slope: Slope | None
    rise: float


class ProcessFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One process: growth of its memory by kind, the most handles and threads in both halves, how often it was started."""

    memory: dict[str, Growth]
    handles: tuple[int, int]
    threads: tuple[int, int]
    starts: int


class ReflexFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One reflex: when (robot tick), in which episode and with which seed of the task, by which errors."""

    tick: int
    episode: int | None
    seed: int | None
    errors: list[str]


class SoakFigures(msgspec.Struct, frozen=True, kw_only=True):
    """All figures; `watched_min` counts the wall clock, `robot_min` the arm's time. Pairs are first and second half."""

    watched_min: float
    robot_min: float
    samples: int
    episodes: int
    successes: int
    success_interval_95: tuple[float, float]
    outcomes: dict[str, int]
    reflexes: list[ReflexFigures]
    faults: list[str]
    holds: dict[str, int]
    recoveries: int
    chunks: int
    chunks_late: int
    chunk_latency_ms: Percentiles | None
    turnaround_p99_us: tuple[float, float]
    turnaround_max_us: float
    turnaround_over_1_ms: int
    dilation_total_s: float
    dilation_longest_s: float
    shared_files: tuple[int, int]
    shared_kib: tuple[int, int]
    processes: dict[str, ProcessFigures]


def measure(watched: Watched) -> SoakFigures:
    """Return every figure of a soak of at least one sample."""
    events, minutes, chunks, samples = watched.events, watched.minutes, watched.chunks, watched.samples
    ended = [event for event in events if isinstance(event, EpisodeEnded)]
    outcomes = Counter(event.outcome for event in ended)
    dilations = [event for event in events if isinstance(event, Dilation)]
    timed = [minute.turnaround_us for minute in minutes if minute.turnaround_us]
    middle = len(timed) // 2
    early, late = halves(samples)
    return SoakFigures(
        watched_min=samples[-1].elapsed_s / 60.0,
        robot_min=sum(minute.ticks for minute in minutes) / MINUTE_TICKS,
        samples=len(samples),
        episodes=len(ended),
        successes=outcomes["success"],
        success_interval_95=wilson_interval(outcomes["success"], len(ended)),
        outcomes=dict(outcomes),
        reflexes=reflexes(events),
        faults=[event.text for event in events if isinstance(event, Fault)],
        holds=dict(Counter(event.text for event in events if isinstance(event, Hold))),
        recoveries=sum(isinstance(event, Recovery) for event in events),
        chunks=len(chunks),
        chunks_late=sum(chunk.late for chunk in chunks),
        chunk_latency_ms=percentiles(np.array([chunk.total_ns / 1e6 for chunk in chunks])),
        turnaround_p99_us=(_median_p99(timed[:middle]), _median_p99(timed[middle:])),
        turnaround_max_us=max((item.maximum for item in timed), default=0.0),
        turnaround_over_1_ms=sum(minute.turnaround_over_1_ms for minute in minutes),
        dilation_total_s=dilations[-1].total_s if dilations else 0.0,
        dilation_longest_s=dilations[-1].longest_s if dilations else 0.0,
        shared_files=(_most(early, "shared_files"), _most(late, "shared_files")),
        shared_kib=(_most(early, "shared_kib"), _most(late, "shared_kib")),
        processes={name: process(samples, name) for name in samples[-1].processes},
    )


def halves(samples: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    """Return the samples of the first and of the second half of the time."""
    middle_s = samples[-1].elapsed_s / 2.0
    return [item for item in samples if item.elapsed_s < middle_s], [
        item for item in samples if item.elapsed_s >= middle_s
    ]


def process(samples: Sequence[Sample], name: str) -> ProcessFigures:
    """Return the figures of the process `name`, which the last of the samples holds."""
    early, late = ([item.processes[name] for item in half if name in item.processes] for half in halves(samples))
    hours = np.array([item.elapsed_s for item in halves(samples)[1] if name in item.processes]) / 3600.0
    return ProcessFigures(
        memory={kind: growth(hours, _values(early, kind), _values(late, kind)) for kind in MEMORY},
        handles=(_most(early, "handles"), _most(late, "handles")),
        threads=(_most(early, "threads"), _most(late, "threads")),
        starts=len({item.pid for item in (*early, *late)}),
    )


def growth(hours: Floats, before: Floats, kib: Floats) -> Growth:
    """Return how `kib` [n] grew over `hours` [n], thinned evenly to POINTS_MAX points, after the values `before`."""
    step = -(-len(hours) // POINTS_MAX)
    slope = robust_slope(hours[::step], kib[::step]) if len(hours) > 2 else None
    rise = float(kib.max() - before.max()) if len(before) else 0.0
    return Growth(first=float(kib[0]), last=float(kib[-1]), slope=slope, rise=rise)


def _values(samples: Sequence[ProcessSample], kind: str) -> Floats:
    return np.array([float(getattr(item, kind)) for item in samples])


def reflexes(events: Sequence[Event]) -> list[ReflexFigures]:
    """Return every reflex of the `events` (in order) with the episode it fell into, None for one between two."""
    found = []
    running: EpisodeStarted | None = None
    for event in events:
        if isinstance(event, EpisodeStarted):
            running = event
        elif isinstance(event, EpisodeEnded):
            running = None
        elif isinstance(event, Reflex):
            episode, seed = (running.episode, running.seed) if running else (None, None)
            found.append(ReflexFigures(tick=event.tick, episode=episode, seed=seed, errors=event.errors))
    return found


def _most(samples: Sequence[Sample] | Sequence[ProcessSample], name: str) -> int:
    """Return the most of `name` that two samples in a row have seen: a file that is just being written is no leak."""
    seen = [int(getattr(item, name)) for item in samples]
    return max((min(pair) for pair in pairwise(seen)), default=max(seen, default=0))


def _median_p99(minutes: Sequence[Percentiles]) -> float:
    return float(np.median([item.p99 for item in minutes])) if minutes else 0.0
