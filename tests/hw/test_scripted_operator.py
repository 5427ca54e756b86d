"""The scripted operator inserts the peg, fails as often as it should and repeats itself."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from poco.errors import UsageError
from poco.hw.emulator.tasks.peg_in_hole import Variant
from poco.hw.emulator.tasks.peg_in_hole_environment import PegInHoleEnvironment


def outcomes(variant: Variant, noise: float, bias: float, episodes: int) -> Counter[str]:
    """Count the outcomes of `episodes` operated episodes."""
    environment = PegInHoleEnvironment(variant)
    operator = environment.operator(noise, bias, seed=0)
    counts: Counter[str] = Counter()
    for seed in range(episodes):
        observation, _ = environment.reset(seed=seed)
        over = False
        while not over:
            observation, _, terminated, truncated, info = environment.step(operator(observation))
            over = terminated or truncated
        counts[info["outcome"]] += 1
    return counts


@pytest.mark.parametrize("variant", ["easy", "hard"])
def test_clean_operator_always_succeeds(variant: Variant) -> None:
    """Without noise and bias ten of ten episodes succeed on both variants."""
    assert outcomes(variant, 0.0, 0.0, 10) == {"success": 10}


def test_demonstrator_of_the_easy_variant_succeeds() -> None:
    """With noise .2 and no bias at least 9 of 10 easy episodes succeed: what demonstrations are made with."""
    assert outcomes("easy", 0.2, 0.0, 10)["success"] >= 9


def test_biased_operator_finds_the_hole_sometimes() -> None:
    """With noise .5 and 2 mm of bias some hard episodes succeed by search and some fail."""
    counts = outcomes("hard", 0.5, 0.002, 10)
    assert 3 <= counts["success"] <= 9


def test_same_seed_same_chunk() -> None:
    """Chunks depend on the operator's seed and the scene, lie in [-1, 1] and are float32."""
    chunks: dict[int, bytes] = {}
    for seed in (0, 0, 1):
        environment = PegInHoleEnvironment("hard")
        operator = environment.operator(noise=0.3, seed=seed)
        observation, _ = environment.reset(seed=4)
        chunk = operator(observation)
        assert chunk.dtype == np.float32
        assert np.abs(chunk).max() <= 1.0
        assert chunks.setdefault(seed, chunk.tobytes()) == chunk.tobytes()
    assert chunks[0] != chunks[1]


@pytest.mark.parametrize(("noise", "bias"), [(2.0, 0.0), (-0.1, 0.0), (0.0, 1.0)])
def test_wild_operator_is_refused(noise: float, bias: float) -> None:
    """Noise beyond the action bound and a bias beyond 20 mm are refused."""
    with pytest.raises(UsageError):
        PegInHoleEnvironment("easy").operator(noise, bias)
