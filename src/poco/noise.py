"""The noise input of a policy: a pure function of seed, episode and chunk, so that a run can be repeated exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class NoiseSource:
    """Standard normal noise for chunks of `shape` [T, A]; any process may draw from it."""

    seed: int
    shape: tuple[int, ...]

    def draw(self, episode: int, chunk: int) -> npt.NDArray[np.float32]:
        """Return the noise [T, A] (float32) of chunk number `chunk` (from 0) of `episode`."""
        return np.random.default_rng((self.seed, episode, chunk)).standard_normal(self.shape, dtype=np.float32)
