"""What a new generation has to show: in shadow beside the live policy, then on probation with the arm in its hands."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection

import numpy as np

from poco.runtime.session import Floats
from poco.settings import SwapSettings

FROZEN_RATIO = 0.05
"""Chunks that vary over observations by less than this fraction of the live ones are frozen."""

FROZEN_CHUNKS = 8
"""So many chunks are needed before calling anything frozen."""

BASELINE_CHUNKS = 500
BASELINE_EPISODES = 50
NEVER_EPISODES = 20
"""An active generation that had no fault in so many episodes has none: then the first one is one too many."""

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
        self._chunks = self._slow = self._late = self._holds = 0
        self._in_episode = False
        self._outcomes: list[bool] = []
        self._holding: list[bool] = []
        self._faults: list[bool] = []

    def promoted(self) -> None:
        """Make the candidate's episodes the measure for the next one."""
        self._successes.extend(self._outcomes)
        self._held.extend(self._holding)
        self._faulted.extend(self._faults)

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
        self._faults.append(fault)
        self._holding.append(self._holds > self._settings.holds_max)
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
        faults, usual = sum(self._faults), self._bearable(self._faulted)
        if len(self._faulted) >= NEVER_EPISODES and not any(self._faulted):
            usual = 0.0
        if faults and at_least(faults, begun, usual) < DOUBT:
            return f"fault: the arm latched a fault in {faults} of {begun} episodes, where at most {usual:.0%} were due"
        if self._late > settings.late_max:
            return f"late: {self._late} chunks came after their attach tick, the limit is {settings.late_max}"
        held = sum(self._holding) + (self._holds > settings.holds_max)
        usual = self._bearable(self._held)
        if held and at_least(held, begun, usual) < DOUBT:
            return (
                f"holds: the arm was brought to more than {settings.holds_max} holds in {held} of {begun} episodes, "
                f"where at most {usual:.0%} were due"
            )
        allowed = min(1.0, float(np.mean(self._slowed or [0.0])) + settings.clip_margin)
        if self._chunks and at_least(self._slow, self._chunks, allowed) < DOUBT:
            return f"limits: {self._slow} of {self._chunks} chunks had to be slowed down, the limit is {allowed:.0%}"
        count, succeeded = len(self._outcomes), sum(self._outcomes)
        expected = expected_share(self._successes) - settings.success_margin
        if count and self._successes and expected > 0.0 and at_least(count - succeeded, count, 1.0 - expected) < DOUBT:
            return f"success: {succeeded} of {count} episodes, where more than {expected:.0%} were due"
        return ""

    def _bearable(self, seen: Collection[bool]) -> float:
        """Return the share of episodes that may be in trouble where the active generation's were as `seen`."""
        return min(1.0, expected_share(seen) + self._settings.trouble_margin)


def expected_share(seen: Collection[bool]) -> float:
    """Return the share of the next ones that is to be expected to be true after `seen`: near 1/2 while little was seen.

    Laplace's rule of succession, so that a few lucky episodes are no promise.
    """
    return (sum(seen) + 1) / (len(seen) + 2)


def at_least(hits: int, trials: int, rate: float) -> float:
    """Return the probability of `hits` or more in `trials` at `rate` each (binomial upper tail)."""
    return sum(math.comb(trials, k) * rate**k * (1.0 - rate) ** (trials - k) for k in range(hits, trials + 1))


def _spread(chunks: list[Floats]) -> float:
    return float(np.mean(np.std(np.stack(chunks), axis=0))) if chunks else 0.0
