"""No command that step() sends breaks a limit, whatever the chunks and whenever it stops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from following_arm import WIDE, FollowingArm, load_of, random_chunk, sample, wide_limits
from hypothesis import given, settings
from hypothesis import strategies as st

from poco import _core
from poco.limits import (
    ACCELERATION_MAX_RAD_S2,
    JERK_MAX_RAD_S3,
    POSITION_MAX_RAD,
    POSITION_MIN_RAD,
    ROBOT_MARGINS,
    STEP_MARGINS,
    fr3_limits,
)
from poco.records import EVENT_CODES
from poco.trouble import BY_NAME, Mode, Request

TICKS = 25_000


def wander(arm: FollowingArm, rng: np.random.Generator, ticks: int, paces: tuple[float, float], gaps: bool) -> None:
    """Feed random chunks at random moments: seams in motion and at rest, stops, recoveries and lost ticks."""
    arm.step()
    until = arm.tick + ticks
    chunks: dict[int, npt.NDArray[np.void] | None] = {0: None}
    while arm.tick < until:
        if arm.mode == Mode.BRAKING:
            arm.step(20)
            continue
        ahead, ident, active = int(rng.integers(1, 40)), len(chunks), chunks[int(arm.command["chunk_id"])]
        start = (np.array(arm.memory.q), np.zeros(7), np.zeros(7))
        if active is not None:
            start = sample(active, arm.tick + ahead - int(active["attach_tick"]))
        predecessor = 0 if active is None else int(active["chunk_id"])
        chunks[ident] = arm.chunk = random_chunk(
            rng, start, float(rng.uniform(*paces)), attach=arm.tick + ahead, ident=ident, pred=predecessor
        )
        over = int(arm.chunk["knots"][arm.chunk["segments"]]) + 50
        arm.step(ahead + int(rng.integers(1, over if rng.random() < 0.3 else min(over, 200))))
        chance = rng.random()
        if gaps and chance < 0.5:
            arm.lose_ticks(int(rng.integers(1, 8)))
            arm.step(int(rng.integers(1, 50)))
        if chance > 0.9:
            arm.request = Request.DISARMED
            arm.step(int(rng.integers(1, 400)))
            arm.request = Request.ARMED
        if arm.memory.fault:
            arm.step(900)
            assert arm.mode == Mode.FAULT
            arm.recoveries += 1
            assert arm.step()["mode"] == Mode.HOLDING


def test_random_chunks_and_stops_stay_inside_the_step_margins() -> None:
    """125,000 ticks of feasible and infeasible chunks: positions, velocity envelope, acceleration and jerk hold."""
    troubles = np.zeros(EVENT_CODES, dtype=int)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        start = rng.uniform(POSITION_MIN_RAD + 0.03, POSITION_MAX_RAD - 0.03)
        arm = FollowingArm(wide_limits(), q=start)
        wander(arm, rng, TICKS, (0.2, 1.2), gaps=False)
        load = load_of(arm.sent, STEP_MARGINS)
        assert load.inside, load
        troubles += arm.memory.event_counts
    for name in ("chunk_ended", "velocity_limit", "acceleration_limit", "no_way_to_stop"):
        assert troubles[BY_NAME[name].code] > 0, name


@pytest.mark.parametrize("seed", range(3))
def test_lost_ticks_stay_inside_the_arms_limits(seed: int) -> None:
    """With ticks lost and extrapolated by the arm, extrapolation and continuation together keep the arm's own limits."""
    rng = np.random.default_rng(100 + seed)
    arm = FollowingArm(wide_limits())
    wander(arm, rng, TICKS // 2, (0.3, 0.8), gaps=True)
    load = load_of(arm.sent, ROBOT_MARGINS)
    assert load.inside, load
    assert arm.count("gap_bridged") > 0
    assert arm.count("gap_not_bridged") > 0


rates = st.floats(-1, 1)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(rates, min_size=7, max_size=7), st.lists(rates, min_size=7, max_size=7))
def test_a_stop_from_any_motion_is_inside_the_limits(velocity: list[float], acceleration: list[float]) -> None:
    """An arm found in motion is brought to rest with bounded acceleration and jerk, and then stays."""
    arm = FollowingArm(wide_limits())
    arm.state["ddq_d"] = np.array(acceleration) * ACCELERATION_MAX_RAD_S2 * STEP_MARGINS.acceleration
    arm.state["dq_d"] = np.array(velocity)
    q, dq, ddq = (arm.state[name].copy() for name in ("q_d", "dq_d", "ddq_d"))
    history = [q - 2e-3 * dq + 1e-6 * ddq, q - 1e-3 * dq, q]  # three commands with these backward differences
    arm.step(600)
    load = load_of(history + arm.sent, STEP_MARGINS)
    assert load.acceleration <= 1 + 1e-6
    assert load.jerk <= 1 + 1e-6
    assert arm.mode == Mode.HOLDING
    assert np.all(arm.sent[-1] == arm.sent[-100])


@pytest.mark.parametrize("speed", [0.001, 0.01, 0.1, 1.0, 2.0])
def test_a_stop_takes_the_least_time(speed: float) -> None:
    """From constant speed the stop takes the analytic minimum at 98 % of acceleration and jerk limits, within a tick."""
    arm = FollowingArm(wide_limits())
    arm.state["dq_d"][0] = speed
    ticks = 0
    while arm.step()["mode"] == Mode.BRAKING or ticks == 0:
        ticks += 1
    a, j = (0.98 * 0.8 * limit[0] for limit in (ACCELERATION_MAX_RAD_S2, JERK_MAX_RAD_S3))
    least_s = speed / a + a / j if speed > a * a / j else 2 * np.sqrt(speed / j)
    assert ticks + 1 == pytest.approx(np.ceil(least_s * 1000), abs=1)


def test_the_tool_tip_keeps_its_speed() -> None:
    """In random motion the tip never exceeds its cap while it follows; what would exceed it latches."""
    arm = FollowingArm(fr3_limits(guards=replace(WIDE, speed_max_m_s=0.25)))
    wander(arm, np.random.default_rng(5), TICKS, (0.1, 0.6), gaps=False)
    tips = np.array([_core.tip(list(q), arm.limits)[0] for q in arm.sent])
    speeds = np.linalg.norm(np.diff(tips, axis=0), axis=1) * 1000.0
    following = np.array([mode == Mode.FOLLOWING for mode in arm.modes[1:]])
    assert np.max(speeds[following]) <= 0.25 + 1e-5
    assert arm.count("tip_speed") > 0
