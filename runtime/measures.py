"""What one run folder says in numbers: the content of report.json. Called after motion has ended."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from poco.clock import TICKS_PER_SECOND
from poco.limits import ROBOT_MARGINS, VelocityEnvelope, fr3_limits
from poco.records import SCHEMA_VERSION
from poco.runtime.run_events import CameraCounted, CameraOpened, CameraStale
from poco.runtime.run_folder import (
    ChunkRecord,
    Dilation,
    EpisodeEnded,
    EpisodeLabelled,
    EpisodeStarted,
    Event,
    Fault,
    Hold,
    Minute,
    PolicyRestart,
    PolicyStall,
    Recovery,
    Reflex,
    RunFacts,
    RunFolder,
    SupervisorStall,
)
from poco.statistics import Percentiles, percentiles, wilson_interval
from poco.trouble import TROUBLES, Mode

Floats = npt.NDArray[np.float64]
Kind = TypeVar("Kind")

MOVING = 2
"""robot_mode of the Franka Control Interface while a motion runs."""

VELOCITY_FLOOR_RAD_S = 1e-3
"""Stands in for a velocity bound of zero, at a joint limit, so that its use stays a number."""

SUCCESS = "success"
LATE_NS = 1_000_000
LIMIT_KINDS = ("position", "velocity", "acceleration", "jerk")
STAGES = ("sense", "inference", "planning", "total")


@dataclass(frozen=True, slots=True)
class Recording:
    """Everything of one run in memory: facts, TICK records [n] as kept, chunks, events and minutes in order of writing."""

    facts: RunFacts
    ticks: npt.NDArray[np.void]
    chunks: list[ChunkRecord]
    events: list[Event]
    minutes: list[Minute]

    @classmethod
    def read(cls, folder: RunFolder) -> Recording:
        """Read `folder`; raises ArtifactError where a file is not readable."""
        return cls(folder.facts(), folder.ticks(), folder.chunks(), folder.events(), folder.minutes())

    def of_kind(self, kind: type[Kind]) -> list[Kind]:
        """Return the events of one kind in order."""
        return [event for event in self.events if isinstance(event, kind)]

    def motions(self) -> list[slice]:
        """Return the stretches of consecutive ticks in which commands moved the arm, and no hand; continuous inside each."""
        led = self.ticks["command"]["mode"] == Mode.LED
        moving = (self.ticks["state"]["robot_mode"] == MOVING) & ~led
        follows = moving[1:] & moving[:-1] & (np.diff(self.ticks["state"]["tick"]) == 1)
        edges = np.flatnonzero(np.diff(np.concatenate([[False], follows, [False]]).astype(np.int8)))
        return [slice(int(start), int(end) + 1) for start, end in zip(edges[::2], edges[1::2], strict=True)]

    def turnaround_ns(self) -> npt.NDArray[np.int64]:
        """Return the time from receiving a state to having sent its command, of every tick that was answered [m] (ns)."""
        answered = self.ticks["sent_ns"] > 0
        spent: npt.NDArray[np.int64] = (self.ticks["sent_ns"] - self.ticks["state"]["received_ns"])[answered]
        return spent

    def periods_ns(self) -> npt.NDArray[np.int64]:
        """Return the time between the states of consecutive ticks of a motion as the host received them [m] (ns)."""
        received = self.ticks["state"]["received_ns"]
        return np.concatenate([np.zeros(0, np.int64), *(np.diff(received[motion]) for motion in self.motions())])

    def chunk_ages(self) -> npt.NDArray[np.int64]:
        """Return for every tick that followed a logged chunk how old the observation behind it was [m] (ticks)."""
        observed = {chunk.chunk_id: chunk.observation_tick for chunk in self.chunks}
        ids, inverse = np.unique(self.ticks["command"]["chunk_id"], return_inverse=True)
        known = np.array([int(chunk_id) in observed for chunk_id in ids], dtype=bool)
        origin = np.array([observed.get(int(chunk_id), 0) for chunk_id in ids], dtype=np.int64)
        ages: npt.NDArray[np.int64] = (self.ticks["state"]["tick"] - origin[inverse])[known[inverse]]
        return ages

    def deadline_ms(self) -> float:
        """Return how long sensing, inference and planning may take together: delay_steps control periods (ms)."""
        specification = self.facts.specification
        return specification.delay_steps * specification.period_ticks / self.facts.speed


class EpisodeReport(msgspec.Struct, frozen=True, kw_only=True):
    """One episode; outcome "unfinished" if the run ended before it did, "discarded" if a person threw it away."""

    episode: int
    seed: int
    outcome: str
    steps: int
    ticks: int


class LimitUse(msgspec.Struct, frozen=True, kw_only=True):
    """Largest share of the arm's own limit that the commands used: per joint, and the tick of the largest."""

    largest: float
    per_joint: list[float]
    tick: int


class CameraReport(msgspec.Struct, frozen=True, kw_only=True):
    """One camera: frames that came, were lost before or repeated the one before; why what it showed might not be acted on."""

    frames: int
    lost: int
    repeated: int
    stale: list[str]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Content of report.json; a part that could not be measured is null.

    `ticks_missing` ticks of the arm in `tick_gaps` gaps are not in the recording: the arm was not in a motion, a packet was
    lost or the recorder was too slow.
    """

    facts: RunFacts
    episodes: list[EpisodeReport]
    finished: int
    successes: int
    success_interval_95: tuple[float, float]
    ticks: int
    ticks_let_go: int
    tick_gaps: int
    ticks_missing: int
    turnaround_us: Percentiles | None
    turnaround_over_1_ms: int
    period_us: Percentiles | None
    chunks: int
    chunks_late: int
    chunks_stretched: int
    chunks_stopped_first: int
    deadline_ms: float
    over_deadline: int
    latency_ms: dict[str, Percentiles | None]
    chunk_age_ms: Percentiles | None
    troubles: dict[str, int]
    holds: list[str]
    faults: list[str]
    reflexes: list[list[str]]
    recoveries: int
    policy_restarts: list[str]
    policy_stalls_s: list[float]
    supervisor_stalls_s: list[float]
    dilation_total_s: float
    dilation_longest_s: float
    tracking_error_max_rad: float | None
    limits: dict[str, LimitUse | None]
    cameras: dict[str, CameraReport] = {}
    image_age_ms: Percentiles | None = None
    version: int = SCHEMA_VERSION


def measure(recording: Recording) -> Report:
    """Measure everything a report says about `recording`; a run without ticks, chunks or episodes is fine."""
    ticks, chunks = recording.ticks, recording.chunks
    episodes = episode_reports(recording)
    finished = sum(episode.outcome not in ("unfinished", "discarded") for episode in episodes)
    successes = sum(episode.outcome == SUCCESS for episode in episodes)
    turnaround = recording.turnaround_ns()
    dilations = recording.of_kind(Dilation)
    deadline_ms = recording.deadline_ms()
    gaps = np.maximum(np.diff(ticks["state"]["tick"]) - 1, 0)
    return Report(
        facts=recording.facts,
        episodes=episodes,
        finished=finished,
        successes=successes,
        success_interval_95=wilson_interval(successes, finished),
        ticks=len(ticks),
        ticks_let_go=max(0, sum(minute.ticks for minute in recording.minutes) - len(ticks)),
        tick_gaps=int((gaps > 0).sum()),
        ticks_missing=int(gaps.sum()),
        turnaround_us=percentiles(turnaround / 1e3),
        turnaround_over_1_ms=int((turnaround > LATE_NS).sum()),
        period_us=percentiles(recording.periods_ns() / 1e3),
        chunks=len(chunks),
        chunks_late=sum(chunk.late for chunk in chunks),
        chunks_stretched=sum(chunk.stretched for chunk in chunks),
        chunks_stopped_first=sum(chunk.stopped_first for chunk in chunks),
        deadline_ms=deadline_ms,
        over_deadline=int((latency_ms(chunks, "total") > deadline_ms).sum()),
        latency_ms={stage: percentiles(latency_ms(chunks, stage)) for stage in STAGES},
        chunk_age_ms=percentiles(recording.chunk_ages().astype(np.float64)),
        troubles=count_troubles(ticks),
        holds=[event.text for event in recording.of_kind(Hold)],
        faults=[event.text for event in recording.of_kind(Fault)],
        reflexes=[event.errors for event in recording.of_kind(Reflex)],
        recoveries=len(recording.of_kind(Recovery)),
        policy_restarts=[event.reason for event in recording.of_kind(PolicyRestart)],
        policy_stalls_s=[event.silent_s for event in recording.of_kind(PolicyStall)],
        supervisor_stalls_s=[event.silent_s for event in recording.of_kind(SupervisorStall)],
        dilation_total_s=dilations[-1].total_s if dilations else 0.0,
        dilation_longest_s=dilations[-1].longest_s if dilations else 0.0,
        tracking_error_max_rad=_tracking_error(recording),
        limits=limit_uses(recording),
        cameras=camera_reports(recording),
        image_age_ms=percentiles(latency_ms([chunk for chunk in chunks if chunk.image_ns], "image_age")),
    )


def headline(report: Report) -> str:
    """Return the success rate of the run in one line."""
    if report.finished == 0:
        return "No episode was finished"
    low, high = report.success_interval_95
    rate = report.successes / report.finished
    return (
        f"{report.successes} of {report.finished} episodes succeeded: {rate:.0%} "
        f"(95 % interval {low:.0%} to {high:.0%})"
    )


def episode_reports(recording: Recording) -> list[EpisodeReport]:
    """Pair the start and end of every episode in order of starting, with the outcome that a person gave it last."""
    labels = {event.episode: event.outcome for event in recording.of_kind(EpisodeLabelled)}
    ends = {event.episode: event for event in recording.of_kind(EpisodeEnded)}
    return [
        EpisodeReport(
            episode=start.episode,
            seed=start.seed,
            outcome=labels.get(start.episode, ends[start.episode].outcome if start.episode in ends else "unfinished"),
            steps=ends[start.episode].steps if start.episode in ends else 0,
            ticks=ends[start.episode].ticks if start.episode in ends else 0,
        )
        for start in {event.episode: event for event in recording.of_kind(EpisodeStarted)}.values()
    ]


def camera_reports(recording: Recording) -> dict[str, CameraReport]:
    """Return what is recorded of every camera; one whose process was started again counts anew."""
    counted = recording.of_kind(CameraCounted)
    stale = recording.of_kind(CameraStale)
    reports = {}
    for name in dict.fromkeys(event.camera for event in recording.of_kind(CameraOpened)):
        last = [event for event in counted if event.camera == name][-1:]
        frames, lost, repeated = (
            sum(getattr(event, part) for event in last) for part in ("frames", "lost", "repeated")
        )
        reasons = [event.reason for event in stale if event.camera == name]
        reports[name] = CameraReport(frames=frames, lost=lost, repeated=repeated, stale=reasons)
    return reports


def latency_ms(chunks: list[ChunkRecord], stage: str) -> Floats:
    """Return how long `stage` of every chunk took [n] (ms)."""
    return np.array([getattr(chunk, f"{stage}_ns") for chunk in chunks], dtype=np.float64) / 1e6


def count_troubles(ticks: npt.NDArray[np.void]) -> dict[str, int]:
    """Count the ticks that reported each trouble of the table; a tick reports its gravest."""
    counts = Counter(ticks["command"]["event"][ticks["command"]["event"] > 0].tolist())
    return {TROUBLES[code].name: count for code, count in sorted(counts.items())}


def limit_shares(q: Floats) -> dict[str, Floats]:
    """Return the share of the arm's own limits used by the consecutive commands `q` [n, 7] (rad, 1 ms apart), kind -> [n, 7].

    Backward differences at 1 ms as the arm takes them; the first rows, whose past is not in `q`, are 0. The velocity limit
    is the one at the position before, as the vendor's limiter has it.
    """
    limits = fr3_limits(ROBOT_MARGINS)
    low, high = limits["position_min"], limits["position_max"]
    shares = {kind: np.zeros_like(q) for kind in LIMIT_KINDS}
    shares["position"] = np.abs(q - (low + high) / 2.0) / ((high - low) / 2.0)
    velocity, acceleration, jerk = (np.diff(q, n=order, axis=0) * TICKS_PER_SECOND**order for order in (1, 2, 3))
    lower, upper = VelocityEnvelope(limits)(q[:-1])
    bound = np.maximum(np.where(velocity > 0.0, upper, -lower), VELOCITY_FLOOR_RAD_S)
    shares["velocity"][1:] = np.abs(velocity) / bound
    shares["acceleration"][2:] = np.abs(acceleration) / limits["acceleration_max"]
    shares["jerk"][3:] = np.abs(jerk) / limits["jerk_max"]
    return shares


def limit_uses(recording: Recording) -> dict[str, LimitUse | None]:
    """Return the largest use of every kind of limit over all motions of the run."""
    uses: dict[str, LimitUse | None] = dict.fromkeys(LIMIT_KINDS)
    motions = [(motion, limit_shares(recording.ticks["command"]["q"][motion])) for motion in recording.motions()]
    if not motions:
        return uses
    numbers = np.concatenate([recording.ticks["state"]["tick"][motion] for motion, _ in motions])
    for kind in LIMIT_KINDS:
        shares = np.concatenate([share[kind] for _, share in motions])
        row = int(shares.max(axis=1).argmax())
        uses[kind] = LimitUse(
            largest=float(shares.max()), per_joint=shares.max(axis=0).tolist(), tick=int(numbers[row])
        )
    return uses


def _tracking_error(recording: Recording) -> float | None:
    errors = [
        np.abs(recording.ticks["command"]["q"][motion] - recording.ticks["state"]["q"][motion]).max()
        for motion in recording.motions()
    ]
    return float(max(errors)) if errors else None
