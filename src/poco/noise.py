"""The noise input of a policy: a pure function of seed, episode and chunk, so that a run can be repeated exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class NoiseSource:
    """Standard normal noise for the chunks of one run; any process may draw from it."""

    seed: int

    def sample(self, episode: int, chunk: int, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Return the noise of `shape` [T, A] (float32) for chunk number `chunk` (from 0) of `episode` (from 0)."""
        return np.random.default_rng((self.seed, episode, chunk)).standard_normal(shape, dtype=np.float32)
