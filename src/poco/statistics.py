"""What may be said about a success rate, about two groups of blocks that differ, durations and a quantity watched."""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

Z_95 = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""


def wilson_interval(successes: int, trials: int, quantile: float = Z_95) -> tuple[float, float]:
    """Return the Wilson score interval of a success rate (95 % without `quantile`), (0, 1) where nothing was tried.

    Formula: E. B. Wilson, J. Am. Stat. Assoc. 22 (1927). Any process may call it.
    """
    if trials == 0:
        return 0.0, 1.0
    rate, share = successes / trials, quantile**2 / trials
    center = (rate + share / 2.0) / (1.0 + share)
    half = quantile / (1.0 + share) * math.sqrt(rate * (1.0 - rate) / trials + share / (4.0 * trials))
    return max(0.0, center - half), min(1.0, center + half)


def likelihood_ratio_log(successes: int, trials: int, expected: float, bad: float) -> float:
    """Return how much likelier `successes` in `trials` are at the rate `bad` than at `expected` (natural logarithm).

    Both rates lie inside (0, 1). The quantity of A. Wald's sequential test, Ann. Math. Stat. 16 (1945). Any process may call it.
    """
    failures = trials - successes
    return successes * math.log(bad / expected) + failures * math.log((1.0 - bad) / (1.0 - expected))


def difference_interval(first: tuple[int, int], last: tuple[int, int]) -> tuple[float, float]:
    """Return the 95 % interval of how much larger the success rate of `last` is than that of `first`, each (successes, trials > 0).

    Formula: R. G. Newcombe, Stat. Med. 17 (1998) 873, method 10. Any process may call it.
    """
    before, after = first[0] / first[1], last[0] / last[1]
    (before_low, before_high), (after_low, after_high) = wilson_interval(*first), wilson_interval(*last)
    low = after - before - math.hypot(after - after_low, before_high - before)
    return low, after - before + math.hypot(after_high - after, before - before_low)


class Percentiles(msgspec.Struct, frozen=True, kw_only=True):
    """Distribution of `count` values in the unit of the field that holds it."""

    count: int
    p50: float
    p99: float
    p99_9: float
    maximum: float


def percentiles(values: Floats) -> Percentiles | None:
    """Describe `values` [n], None if there are none. Any process may call it."""
    if values.size == 0:
        return None
    p50, p99, p99_9 = np.percentile(values, [50.0, 99.0, 99.9])
    return Percentiles(
        count=values.size, p50=float(p50), p99=float(p99), p99_9=float(p99_9), maximum=float(values.max())
    )


@dataclass(frozen=True, slots=True)
class Slope:
    """A slope with the ends of its two-sided 95 % interval, in units of y per unit of x."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:+.0f} ({self.low:+.0f} to {self.high:+.0f})"


def robust_slope(x: Floats, y: Floats) -> Slope:
    """Return the median of the slopes between all pairs of points (`x` [n] ascending without ties, `y` [n], n >= 3).

    Theil-Sen estimator with Sen's interval: P. K. Sen, J. Am. Stat. Assoc. 63 (1968). It forgives up to 29 % of wild points; the
    interval takes the points for independent. Costs n**2 / 2 slopes. Any process may call it.
    """
    first, second = np.triu_indices(len(x), k=1)
    slopes = np.sort((y[second] - y[first]) / (x[second] - x[first]))
    _, ties = np.unique(y, return_counts=True)
    n = len(x)
    variance = (n * (n - 1) * (2 * n + 5) - np.sum(ties * (ties - 1) * (2 * ties + 5))) / 18.0
    half = Z_95 * math.sqrt(variance)
    low = max(math.floor((len(slopes) - half) / 2.0), 0)
    high = min(math.ceil((len(slopes) + half) / 2.0), len(slopes) - 1)
    return Slope(float(np.median(slopes)), float(slopes[low]), float(slopes[high]))


def permutation_p(treated: Floats, control: Floats, permutations: int) -> float:
    """Return how probable a difference of means as large as treated [n] - control [m] is if the labels mean nothing.

    One-sided: small where the treated are larger. Random permutations with the observed one among them (B. Phipson and
    G. Smyth, Stat. Appl. Genet. Mol. Biol. 9, 2010). Any process may call it.
    """
    pooled = np.concatenate([treated, control])
    generator = np.random.default_rng(0)
    shuffled = generator.permuted(np.tile(pooled, (permutations, 1)), axis=1)[:, : len(treated)].sum(axis=1)
    as_large = int((shuffled >= treated.sum() - 1e-12 * np.abs(pooled).sum()).sum())
    return (1 + as_large) / (1 + permutations)
