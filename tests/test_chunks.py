"""The order of chunks: control periods tile time, every action is accounted once, chunks attach where they were observed for."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from poco.chunks import STOP_DELAY_TICKS, ChunkSequence, Period
from poco.limits import PLANNING_MARGINS, fr3_limits
from poco.motion import Plan, sample
from poco.specification import Specification, read_specification

CONFIG = Path(__file__).parent.parent / "configs" / "peg_in_hole_specification.yaml"
BEGIN_TICK = 1234
CHUNKS = 6

Floats = npt.NDArray[np.float64]


def sequence(delay_steps: int = 1, speed: float = 1.0) -> ChunkSequence:
    """A sequence of tip deltas that has begun at rest in the start pose."""
    specification = msgspec.structs.replace(read_specification(CONFIG), delay_steps=delay_steps)
    made = ChunkSequence(
        specification,
        fr3_limits(PLANNING_MARGINS, None, specification.tip),
        speed=speed,
        generation=3,
        last_chunk_id=40,
    )
    made.begin(BEGIN_TICK, np.array(specification.rest_q))
    return made


def random_actions(generator: np.random.Generator, specification: Specification) -> Floats:
    """A chunk [T, 4] that drifts, or one that demands more than the limits give."""
    shape = (specification.chunk_steps, specification.action_size)
    drift = 0.2 * generator.normal(size=4) + 0.05 * generator.normal(size=shape)
    return np.asarray(np.clip(drift if generator.random() < 0.5 else generator.uniform(-1, 1, shape), -1, 1))


def plan_all(planned: ChunkSequence, seed: int) -> tuple[list[Plan], list[list[Period]], list[Floats]]:
    """Plan CHUNKS random chunks one after the other."""
    generator = np.random.default_rng(seed)
    actions = [random_actions(generator, planned.specification) for _ in range(CHUNKS)]
    results = [planned.plan(chunk) for chunk in actions]
    return [plan for plan, _ in results], [periods for _, periods in results], actions


@pytest.mark.parametrize("delay_steps", [1, 2, 3])
@pytest.mark.parametrize("speed", [1.0, 0.37])
def test_periods_tile_time(delay_steps: int, speed: float) -> None:
    """Over random plans, a third of them stretched, periods follow without gap or overlap and end at the observation ticks."""
    stretched = 0
    for seed in range(20):
        planned = sequence(delay_steps, speed)
        period_ticks = round(planned.specification.period_ticks / speed)
        assert planned.attach_tick == BEGIN_TICK + delay_steps * period_ticks
        tick = BEGIN_TICK
        generator = np.random.default_rng(seed)
        for _ in range(CHUNKS):
            assert planned.observation_tick == tick
            plan, periods = planned.plan(random_actions(generator, planned.specification))
            assert plan.usable
            stretched += plan.stretched
            for period in periods:
                assert period.start_tick == tick
                assert period.end_tick - period.start_tick >= period_ticks or plan.stopped_first
                tick = period.end_tick
        assert planned.attach_tick > planned.observation_tick
    if speed == 1.0:
        assert stretched >= 0.3 * 20 * CHUNKS


@pytest.mark.parametrize("delay_steps", [1, 2, 3])
def test_every_executed_action_has_one_period(delay_steps: int) -> None:
    """After the holds of the start come the first execute_steps actions of every chunk, in order, once, under its id."""
    planned = sequence(delay_steps)
    plans, parts, actions = plan_all(planned, seed=delay_steps)
    execute = planned.specification.execute_steps
    periods = [period for part in parts for period in part]
    assert [(period.action, period.chunk_id) for period in periods[:delay_steps]] == [(None, 0)] * delay_steps
    expected = [(41 + number, row) for number, chunk in enumerate(actions) for row in chunk[:execute].tolist()]
    executed = [
        (period.chunk_id, period.action.tolist()) for period in periods[delay_steps:] if period.action is not None
    ]
    assert executed == expected[: len(expected) - delay_steps]
    assert [int(plan.spline["chunk_id"]) for plan in plans] == list(range(41, 41 + CHUNKS))
    assert {int(plan.spline["generation"]) for plan in plans} == {3}


@pytest.mark.parametrize("delay_steps", [1, 3])
def test_chunks_attach_to_their_predecessor(delay_steps: int) -> None:
    """The first chunk attaches to the hold; each later one names its predecessor and starts in its planned state."""
    plans, parts, _ = plan_all(sequence(delay_steps), seed=11)
    assert int(plans[0].spline["predecessor_id"]) == 0
    for (before, after), part in zip(pairwise(plans), parts[1:], strict=True):
        assert int(after.spline["predecessor_id"]) == int(before.spline["chunk_id"])
        attach_tick = int(after.spline["attach_tick"])
        assert attach_tick == part[delay_steps - 1].end_tick
        reached = sample(before.spline, attach_tick - int(before.spline["attach_tick"]))
        for wanted, begun, tolerance in zip(reached, sample(after.spline, 0), (1e-9, 1e-7, 1e-4), strict=True):
            np.testing.assert_allclose(begun, wanted, rtol=0, atol=tolerance)


def test_a_refused_chunk_changes_nothing() -> None:
    """A chunk that is not finite takes an id and no time: the next one attaches where it would have."""
    planned, other = sequence(), sequence()
    good = random_actions(np.random.default_rng(1), planned.specification)
    for item in (planned, other):
        item.plan(good)
    before = planned.observation_tick, planned.attach_tick
    plan, periods = planned.plan(np.full_like(good, np.nan))
    assert not plan.usable
    assert periods == []
    assert (planned.observation_tick, planned.attach_tick) == before
    again, expected = planned.plan(good)[0].spline, other.plan(good)[0].spline
    assert int(again["chunk_id"]) == int(expected["chunk_id"]) + 1
    for name in ("attach_tick", "predecessor_id", "segments", "knots", "coefficients"):
        np.testing.assert_array_equal(again[name], expected[name])


def test_beginning_anew() -> None:
    """After `begin` the next chunk attaches to the hold, later by the delay, from exactly the posture given."""
    planned = sequence(delay_steps=2)
    plan_all(planned, seed=5)
    q = np.array(planned.specification.rest_q) + 0.01
    planned.begin(90_000, q)
    plan, periods = planned.plan(np.zeros((planned.specification.chunk_steps, 4)))
    assert int(plan.spline["predecessor_id"]) == 0
    assert int(plan.spline["attach_tick"]) == 90_000 + 2 * planned.period_ticks
    assert [period.action is None for period in periods[:3]] == [True, True, False]
    np.testing.assert_allclose(sample(plan.spline, 0)[0], q, rtol=0, atol=1e-12)


def test_stop() -> None:
    """A hold needs no stop; a moving arm gets a chunk that leaves the last one soon and ends at rest nearby."""
    planned = sequence()
    assert planned.stop(BEGIN_TICK) is None
    plans, _, _ = plan_all(planned, seed=2)
    last = plans[-1].spline
    tick = int(last["attach_tick"]) + 60
    plan = planned.stop(tick)
    assert plan is not None
    assert plan.usable
    assert int(plan.spline["attach_tick"]) == tick + STOP_DELAY_TICKS
    assert int(plan.spline["predecessor_id"]) == int(last["chunk_id"])
    end = int(plan.spline["knots"][int(plan.spline["segments"])])
    assert end < int(last["knots"][int(last["segments"])])
    reached, velocity, acceleration = sample(plan.spline, end)
    begun = sample(plan.spline, 0)[0]
    assert np.abs(velocity).max() < 1e-6
    assert np.abs(acceleration).max() < 1e-3
    assert np.abs(reached - begun).max() < 0.05
