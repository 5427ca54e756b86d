"""Intervals, percentiles and slopes agree with values worked out by hand and behave at their ends."""

from __future__ import annotations

import numpy as np
import pytest

from poco.statistics import difference_interval, percentiles, permutation_p, robust_slope, wilson_interval


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (81, 100, 0.7222, 0.8749)],
)
def test_known_intervals(successes: int, trials: int, low: float, high: float) -> None:
    """Interval of published examples to four digits."""
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize(
    ("first", "last", "low", "high"),
    [((48, 80), (56, 70), 0.0524, 0.3339), ((3, 10), (9, 10), 0.1705, 0.8090), ((0, 10), (10, 10), 0.6075, 1.0)],
)
def test_known_intervals_of_differences(first: tuple[int, int], last: tuple[int, int], low: float, high: float) -> None:
    """Intervals of the examples that were published with the method, to four digits."""
    assert difference_interval(first, last) == pytest.approx((low, high), abs=1e-4)


def test_nothing_tried() -> None:
    """Without a trial nothing is known."""
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_percentiles() -> None:
    """Percentiles interpolate between neighbours; of nothing there are none."""
    found = percentiles(np.arange(101.0))
    assert found is not None
    assert (found.count, found.p50, found.p99, found.maximum) == (101, 50.0, 99.0, 100.0)
    assert found.p99_9 == pytest.approx(99.9)
    assert percentiles(np.zeros(0)) is None


def test_a_slope_forgives_wild_points() -> None:
    """A quarter of wild points does not move the slope; its interval holds the true one."""
    generator = np.random.default_rng(0)
    x = np.arange(80.0)
    y = 2.0 * x + generator.normal(size=80)
    y[::4] += 1000.0 * generator.random(20)
    slope = robust_slope(x, y)
    assert slope.low < 2.0 < slope.high
    assert slope.value == pytest.approx(2.0, abs=0.3)


def test_a_slope_of_published_data() -> None:
    """Sen's own example (1968): slope 4, 3.71 to 4.38 at 93 %, so that the 95 % interval holds that one."""
    x = np.array([1.0, 2.0, 3.0, 4.0, 10.0, 12.0, 18.0])
    y = np.array([9.0, 15.0, 19.0, 20.0, 45.0, 55.0, 78.0])
    slope = robust_slope(x, y)
    assert slope.value == pytest.approx(4.0)
    assert slope.low <= 3.715
    assert slope.high >= 4.38


def test_a_constant_has_no_slope() -> None:
    """A quantity that never changes has slope 0 with an interval of no width."""
    slope = robust_slope(np.arange(10.0), np.full(10, 3.0))
    assert (slope.value, slope.low, slope.high) == (0.0, 0.0, 0.0)


def test_intervals_cover() -> None:
    """Of 200 noisy lines about 95 % have their true slope inside the interval."""
    generator = np.random.default_rng(1)
    x = np.arange(40.0)
    slopes = [robust_slope(x, 0.5 * x + generator.standard_t(3, 40)) for _ in range(200)]
    assert 180 <= sum(slope.low <= 0.5 <= slope.high for slope in slopes) <= 198


def test_a_permutation_test_finds_what_is_there() -> None:
    """Ten blocks that are all worse are significant, ten that are all better are not, and one block among equals is no proof."""
    quiet, worse = np.zeros(10), np.ones(10)
    assert permutation_p(worse, quiet, 20_000) < 1e-3
    assert permutation_p(quiet, worse, 20_000) == 1.0
    assert permutation_p(quiet, quiet, 20_000) == 1.0
    assert permutation_p(np.eye(10)[0], quiet, 20_000) == pytest.approx(0.5, abs=0.02)


def test_a_permutation_test_cries_wolf_as_rarely_as_it_says() -> None:
    """Of groups that do not differ a p below 0.05 comes in about 5 of 100, whatever their distribution."""
    generator = np.random.default_rng(1)
    groups = generator.exponential(size=(400, 2, 10))
    alarms = sum(permutation_p(treated, control, 400) < 0.05 for treated, control in groups)
    assert 5 <= alarms <= 40
