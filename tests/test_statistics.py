"""The Wilson interval agrees with values worked out by hand and behaves at its ends."""

from __future__ import annotations

import pytest

from poco.statistics import wilson_interval


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (81, 100, 0.7222, 0.8749)],
)
def test_known_intervals(successes: int, trials: int, low: float, high: float) -> None:
    """Interval of published examples to four digits."""
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=1e-4)


def test_nothing_tried() -> None:
    """Without a trial nothing is known."""
    assert wilson_interval(0, 0) == (0.0, 1.0)
