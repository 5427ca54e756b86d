"""Noise depends on seed, episode and chunk, and on nothing else."""

from __future__ import annotations

import numpy as np

from poco.noise import NoiseSource


def test_noise_is_a_function_of_seed_episode_and_chunk() -> None:
    """Order and earlier draws do not matter; another seed, episode or chunk gives other noise."""
    first = NoiseSource(5).sample(2, 3, (8, 4))
    source = NoiseSource(5)
    source.sample(0, 0, (8, 4))
    np.testing.assert_array_equal(source.sample(2, 3, (8, 4)), first)
    for seed, episode, chunk in ((6, 2, 3), (5, 3, 3), (5, 2, 4), (5, 3, 2)):
        assert not np.array_equal(NoiseSource(seed).sample(episode, chunk, (8, 4)), first)


def test_noise_is_standard_normal() -> None:
    """Over 2,000 chunks mean and standard deviation are those of a standard normal, in float32."""
    source = NoiseSource(0)
    drawn = np.stack([source.sample(episode, chunk, (8, 4)) for episode in range(40) for chunk in range(50)])
    assert drawn.dtype == np.float32
    assert abs(float(drawn.mean())) < 0.01
    assert abs(float(drawn.std()) - 1.0) < 0.01
