"""What may be said about a success rate that was counted."""

from __future__ import annotations

import math

Z_95 = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a success rate, (0, 1) where nothing was tried.

    Formula: E. B. Wilson, J. Am. Stat. Assoc. 22 (1927). Any process may call it.
    """
    if trials == 0:
        return 0.0, 1.0
    rate, share = successes / trials, Z_95**2 / trials
    center = (rate + share / 2.0) / (1.0 + share)
    half = Z_95 / (1.0 + share) * math.sqrt(rate * (1.0 - rate) / trials + share / (4.0 * trials))
    return max(0.0, center - half), min(1.0, center + half)
