"""What a new generation has to show: in shadow beside the live policy, then on probation with the arm in its hands."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection

import numpy as np

from poco.runtime.chunk_session import Floats
from poco.settings import SwapSettings

FROZEN_RATIO = 0.05
"""Chunks that vary over observations by less than this fraction of the live ones are frozen."""

FROZEN_CHUNKS = 8
"""So many chunks are needed before calling anything frozen."""

BASELINE_CHUNKS = 500
BASELINE_EPISODES = 50
DOUBT = 0.05
"""A result that a generation as good as allowed would give more rarely than this counts against it."""


class Shadow:
    """Compares a candidate's chunks with the live ones on the same observation and noise."""

    def __init__(self, settings: SwapSettings) -> None:
        self._settings = settings
        self.chunks = 0
        self._stretched = self._live_stretched = 0
        self._finite = True
        self._square_distance = 0.0
        self._seconds: list[float] = []
        self._candidate: list[Floats] = []
        self._live: list[Floats] = []

    def add(self, candidate: Floats, live: Floats, seconds: float, stretched: bool, live_stretched: bool) -> None:
        """Take in the chunks [T, A] of both, the candidate's inference time, and whether the planner had to slow them down."""
        self.chunks += 1
        self._finite = self._finite and bool(np.isfinite(candidate).all())
        self._stretched += stretched
        self._live_stretched += live_stretched
        self._seconds.append(seconds)
        if self._finite:
            self._square_distance += float(np.mean((candidate.astype(np.float64) - live) ** 2))
            self._candidate.append(candidate)
            self._live.append(live)

    @property
    def distance(self) -> float:
        """Root mean square difference between the candidate's actions and the live ones, in action units [-1, 1]."""
        return math.sqrt(self._square_distance / max(1, self.chunks))

    def objection(self) -> str:
        """Return what speaks against the candidate so far, with value and limit, or nothing."""
        settings, whole = self._settings, self.chunks >= self._settings.shadow_chunks
        if not self._finite:
            return "not finite: its chunk holds a number that is not finite"
        if whole and (median_s := float(np.median(self._seconds))) > settings.inference_max_s:
            return f"slow: inference took {median_s * 1e3:.1f} ms, the limit is {settings.inference_max_s * 1e3:.1f} ms"
        if whole and self._stretched > self._live_stretched + settings.clip_margin * self.chunks + 1:
            broken, live_broken = self._stretched, self._live_stretched
            return f"limits: {broken} of {self.chunks} chunks break the arm's limits, {live_broken} of the live ones do"
        if whole and self.distance > settings.distance_max:
            return f"distance: its actions are {self.distance:.2f} off the live ones, the limit is {settings.distance_max:.2f}"
        spread, live = _spread(self._candidate), _spread(self._live)
        if self.chunks >= FROZEN_CHUNKS and spread < FROZEN_RATIO * live:
            return f"frozen: its chunks vary by {spread:.1e} over observations, the live ones by {live:.1e}"
        return ""


class Probation:
    """Counts how a candidate does with the arm in its hands, against how the active generation did."""

    def __init__(self, settings: SwapSettings) -> None:
        self._settings = settings
        self._slowed: deque[bool] = deque(maxlen=BASELINE_CHUNKS)
        self._successes: deque[bool] = deque(maxlen=BASELINE_EPISODES)
        self._held: deque[bool] = deque(maxlen=BASELINE_EPISODES)
        self._faulted: deque[bool] = deque(maxlen=BASELINE_EPISODES)
        self._baseline_holds = 0
        self.begin()

    def begin(self) -> None:
        """Start counting anew for another candidate."""
        self._chunks = self._slow = self._late = 0
        self._holds = self._held_episodes = self._faults = 0
        self._in_episode = False
        self._outcomes: list[bool] = []

    def promoted(self) -> None:
        """Make the candidate's episodes the measure for the next one."""
        self._successes.extend(self._outcomes)

    @property
    def served(self) -> bool:
        """Whether the candidate has run as many episodes as probation lasts."""
        return len(self._outcomes) >= self._settings.probation_episodes

    def chunk(self, stretched: bool, stopped_first: bool, late: bool, interrupted: bool) -> None:
        """Take in one chunk of the candidate."""
        self._chunks += 1
        self._slow += stretched or stopped_first
        self._late += late
        self._holds += interrupted
        self._in_episode = True

    def episode(self, success: bool, fault: bool) -> None:
        """Take in one episode of the candidate."""
        self._outcomes.append(success)
        self._faults += fault
        self._held_episodes += self._holds > self._settings.holds_max
        self._holds, self._in_episode = 0, False

    def baseline_chunk(self, stretched: bool, stopped_first: bool, interrupted: bool) -> None:
        """Take in one chunk of the active generation."""
        self._slowed.append(stretched or stopped_first)
        self._baseline_holds += interrupted

    def baseline_episode(self, success: bool, fault: bool) -> None:
        """Take in one episode of the active generation."""
        self._successes.append(success)
        self._faulted.append(fault)
        self._held.append(self._baseline_holds > self._settings.holds_max)
        self._baseline_holds = 0

    def objection(self) -> str:
        """Return what speaks against the candidate so far, with value and limit, or nothing."""
        settings = self._settings
        begun = len(self._outcomes) + self._in_episode
        if self._faults and too_many(self._faults, begun, self._faulted):
            return f"fault: the arm latched a fault in {self._faults} of {begun} episodes, usual are {share(self._faulted):.0%}"
        if self._late > settings.late_max:
            return f"late: {self._late} chunks came after their attach tick, the limit is {settings.late_max}"
        held = self._held_episodes + (self._holds > settings.holds_max)
        if held and too_many(held, begun, self._held):
            return (
                f"holds: the arm was brought to more than {settings.holds_max} holds in {held} of {begun} episodes, "
                f"usual are {share(self._held):.0%}"
            )
        allowed = min(1.0, float(np.mean(self._slowed or [0.0])) + settings.clip_margin)
        if self._chunks and at_least(self._slow, self._chunks, allowed) < DOUBT:
            return f"limits: {self._slow} of {self._chunks} chunks had to be slowed down, the limit is {allowed:.0%}"
        count, succeeded = len(self._outcomes), sum(self._outcomes)
        expected = float(np.mean(self._successes or [0.0])) - settings.success_margin
        if count and expected > 0.0 and at_least(count - succeeded, count, 1.0 - expected) < DOUBT:
            return f"success: {succeeded} of {count} episodes, where more than {expected:.0%} were due"
        return ""


def share(seen: Collection[bool]) -> float:
    """Return the share of `seen` that is true, 0 where nothing was seen."""
    return sum(seen) / max(1, len(seen))


def too_many(hits: int, trials: int, usual: Collection[bool]) -> bool:
    """Tell whether `hits` in `trials` are more than chance where the active generation has the share of `usual`."""
    return at_least(hits, trials, share(usual)) < DOUBT


def at_least(hits: int, trials: int, rate: float) -> float:
    """Return the probability of `hits` or more in `trials` at `rate` each (binomial upper tail)."""
    return sum(math.comb(trials, k) * rate**k * (1.0 - rate) ** (trials - k) for k in range(hits, trials + 1))


def _spread(chunks: list[Floats]) -> float:
    return float(np.mean(np.std(np.stack(chunks), axis=0))) if chunks else 0.0
