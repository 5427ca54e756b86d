"""The quick check of a plan answers what the check of every tick answers, and its bounds hold."""

from __future__ import annotations

import numpy as np
from every_tick import verify_every_tick
from hypothesis import given, settings
from hypothesis import strategies as st

from chains import HAND, HOME, WIDE, Floats, build
from poco.bounds import Bounds, bounds_of, velocity_bound
from poco.enclosure import enclose, ends, keeps
from poco.kinematics import chain, frames, tip_speed
from poco.limits import PLANNING_MARGINS, Guards, fr3_limits
from poco.spline import Integers, evaluate, join
from poco.verification import PIECE_TICKS, verify

NARROW = bounds_of(fr3_limits(PLANNING_MARGINS, Guards(), HAND))
FREE = bounds_of(fr3_limits(PLANNING_MARGINS, WIDE, HAND))
Spline = tuple[Integers, Floats]


def random_motion(generator: np.random.Generator, scale: float, bounds: Bounds) -> Spline:
    """Return knots [S + 1] and coefficients [S, 6, 7] of a C2 curve that moves `scale` times a random way and ends at rest."""
    segments = int(generator.integers(1, 6))
    ticks = generator.integers(1, int(generator.choice([4, 30, 200])), segments)
    knots = np.concatenate([[0], np.cumsum(ticks)])
    near = generator.random() < 0.5
    start = HOME + generator.uniform(-0.3, 0.3, 7)
    if near and bounds is FREE:
        start = np.where(generator.random(7) < 0.5, bounds.position_min + 0.02, bounds.position_max - 0.02)
    moving = generator.random(7) < generator.choice([0.2, 0.6, 1.0])
    size = moving * generator.choice([0.1, 1.0, 3.0], 3)[:, None, None] * generator.normal(size=(3, segments + 1, 7))
    states = scale * size * np.array([0.05, 0.3, 2.0])[:, None, None]
    states[1:, -1] = 0.0
    coefficients = np.zeros((segments, 6, 7))
    for k in range(segments):
        before, after = states[:, k], states[:, k + 1]
        join(start + before[0], *before[1:], start + after[0], *after[1:], int(ticks[k]), coefficients[k])
    return knots, coefficients


def both(motion: Spline, bounds: Bounds) -> tuple[tuple[int, float, bool], tuple[int, float, bool]]:
    """Return the answers of the quick check and of the check of every tick."""
    knots, coefficients = motion
    segments = len(coefficients)
    wholes = [
        enclose(rows, 0, ticks, False, bounds, ends()) for rows, ticks in zip(coefficients, np.diff(knots), strict=True)
    ]
    settled = np.array([keeps(whole, 1.0, 1.0) for whole in wholes])
    start = coefficients[0, 1].copy(), 2.0 * coefficients[0, 2]
    quick = verify(knots, coefficients, segments, settled, *start, bounds)
    return quick, verify_every_tick(knots, coefficients, segments, *start, bounds)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), wide=st.booleans())
def test_the_quick_check_answers_what_the_check_of_every_tick_answers(seed: int, wide: bool) -> None:
    """Random curves, scaled to just inside, just outside and around the point where a limit is reached: the same three answers."""
    bounds = FREE if wide else NARROW
    low, high = 0.0, 2.0
    for _ in range(14):
        middle = 0.5 * (low + high)
        quick, plain = both(random_motion(np.random.default_rng(seed), middle, bounds), bounds)
        assert quick == plain
        low, high = (middle, high) if plain[0] < 0 else (low, middle)
    for share in (0.5, 0.9, 0.97, 0.999, 1.0 - 1e-6, 1.0 + 1e-6, 1.001, 1.03):
        quick, plain = both(random_motion(np.random.default_rng(seed), low * share, bounds), bounds)
        assert quick == plain


def within(rows: Floats, begin: int, end: int, bounds: Bounds, points: int = 40) -> tuple[Floats, bool]:
    """Return the largest shares [4] at points of a piece (velocity, tip speed, acceleration, jerk), and whether all are inside."""
    q, v, a, j = np.empty((4, 7))
    frame, largest, inside = frames(), np.zeros(4), True
    for seconds in np.linspace(begin, end, points) * 1e-3:
        evaluate(rows, seconds, q, v, a, j)
        chain(q, bounds.flange_t_tip, frame)
        room = np.where(v > 0.0, bounds.position_max - q, q - bounds.position_min)
        allowed = np.array([velocity_bound(bounds, joint, room[joint]) for joint in range(7)])
        shares = (
            np.max(np.divide(np.abs(v), allowed, out=np.full(7, np.inf), where=allowed > 0.0)),
            tip_speed(frame, v) / bounds.speed_max,
            np.max(np.abs(a) / bounds.acceleration_max),
            np.max(np.abs(j) / bounds.jerk_max),
        )
        largest = np.maximum(largest, shares)
        inside = inside and bool(np.all((frame.position >= bounds.box_min) & (frame.position <= bounds.box_max)))
    return largest, inside


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from((0.01, 0.1, 0.5, 1.0, 5.0)),
    piece=st.sampled_from((1, 16, 300)),
)
def test_no_point_of_a_piece_asks_for_more_than_its_enclosure(seed: int, scale: float, piece: int) -> None:
    """Pieces of random curves, slow and far too fast: shares at 40 points stay below the bounds, tips inside where it says so."""
    for bounds in (FREE, NARROW):
        knots, coefficients = random_motion(np.random.default_rng(seed), scale, bounds)
        for rows, ticks in zip(coefficients, np.diff(knots), strict=True):
            begin = int(np.random.default_rng(seed).integers(0, ticks))
            end = min(begin + piece, int(ticks))
            enclosure = enclose(rows, begin, end, False, bounds, ends())
            largest, inside = within(rows, begin, end, bounds)
            assert np.all(largest <= [enclosure.velocity, enclosure.tip_speed, enclosure.acceleration, enclosure.jerk])
            assert inside or not enclosure.inside


def test_a_piece_that_goes_on_from_the_last_one_has_the_same_bounds() -> None:
    """Walking through a segment piece by piece, with the kinematics of the seam kept, gives the bounds of each piece alone."""
    knots, coefficients = random_motion(np.random.default_rng(3), 0.5, NARROW)
    scratch = ends()
    for begin in range(0, int(knots[1]), 5):
        end = min(begin + 5, int(knots[1]))
        onward = enclose(coefficients[0], begin, end, begin > 0, NARROW, scratch)
        assert onward == enclose(coefficients[0], begin, end, False, NARROW, ends())


def test_numbers_that_are_not_finite_settle_nothing() -> None:
    """NaN, infinite and overflowing coefficients, each in every place, give a piece that is not settled."""
    calm = np.zeros((6, 7))
    calm[0] = HOME
    assert keeps(enclose(calm, 0, 50, False, NARROW, ends()), 1.0, 1.0)
    for value in (np.nan, np.inf, -np.inf, 1e308):
        for power in range(6):
            for joint in range(7):
                rows = calm.copy()
                rows[power, joint] = value
                assert not keeps(enclose(rows, 0, 50, False, NARROW, ends()), 1.0, 1.0)


def test_few_ticks_of_random_plans_need_a_look() -> None:
    """In 300 random chunks, most of them stretched to some limit, pieces settle at least nine tenths of the ticks."""
    ticks = settled = 0
    for number in range(15):
        chain_of_chunks = build(np.random.default_rng([13, number]), 20)
        bounds = bounds_of(chain_of_chunks.limits)
        for spline in chain_of_chunks.taken:
            segments = int(spline["segments"])
            for rows, length in zip(
                spline["coefficients"][:segments], np.diff(spline["knots"][: segments + 1]), strict=True
            ):
                for begin in range(0, int(length), PIECE_TICKS):
                    end = min(begin + PIECE_TICKS, int(length))
                    ticks += end - begin
                    settled += (end - begin) * keeps(enclose(rows, begin, end, False, bounds, ends()), 1.0, 1.0)
    assert ticks > 100_000
    assert settled >= 0.9 * ticks
