"""What a new generation has to show in shadow beside the live policy, without authority."""

from __future__ import annotations

import math

import numpy as np

from poco.runtime.chunk_session import Floats
from poco.settings import SwapSettings

FROZEN_RATIO = 0.05
"""Chunks that vary over observations by less than this fraction of the live ones are frozen."""

FROZEN_CHUNKS = 8
"""So many chunks are needed before calling anything frozen."""


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
    def whole(self) -> bool:
        """Whether the candidate has been looked at for long enough."""
        return self.chunks >= self._settings.shadow_chunks

    @property
    def distance(self) -> float:
        """Root mean square difference between the candidate's actions and the live ones, in action units [-1, 1]."""
        return math.sqrt(self._square_distance / max(1, self.chunks))

    def objection(self) -> str:
        """Return what speaks against the candidate so far, with value and limit, or nothing."""
        settings, whole = self._settings, self.whole
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


def _spread(chunks: list[Floats]) -> float:
    return float(np.mean(np.std(np.stack(chunks), axis=0))) if chunks else 0.0
