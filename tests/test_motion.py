"""Every planned motion keeps the arm's limits, follows its predecessor without a jump and is executed exactly by `step()`."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

import oracle
from chains import HAND, HOME, WIDE, Chain, Floats, Record, build
from poco import _core
from poco.errors import MotionError
from poco.kinematics import forward
from poco.limits import PLANNING_MARGINS, STEP_MARGINS, Guards, fr3_limits
from poco.motion import Outcome, Plan, executed_action, plan_chunk, plan_path, plan_stop, sample, tip_delta_targets
from poco.records import ARM_STATE, COMMAND
from poco.trouble import BY_NAME, Mode, Request

LIMITS = fr3_limits(PLANNING_MARGINS, Guards(), HAND)
PLANNED = oracle.Share(**asdict(PLANNING_MARGINS))
STILL = np.zeros(7)
CHUNKS_PER_CHAIN = 20


def gentle_actions(count: int, step_m: float = 0.001) -> Floats:
    angle = np.arange(count) / 4.0
    return step_m * np.stack([np.sin(angle), 1.0 - np.cos(angle), np.zeros(count), np.sin(angle)], axis=1)


def plan_from_rest(targets: Floats, period_ticks: int = 50, limits: Record = LIMITS) -> Plan:
    return plan_chunk(targets, HOME, STILL, STILL, period_ticks, 0, 1, 0, 1, limits)


def commands_of(plan: Plan) -> Floats:
    segments = int(plan.spline["segments"])
    knots = plan.spline["knots"][: segments + 1]
    return oracle.positions(knots, plan.spline["coefficients"][:segments], np.arange(knots[-1] + 6))


def test_gentle_actions_keep_their_natural_time_and_pass_through_their_targets() -> None:
    """Eight small tip deltas at 20 Hz end every 50 ticks, exactly in their joint targets, and the chunk ends at rest."""
    targets = tip_delta_targets(gentle_actions(8), HOME, HAND, HOME, LIMITS)
    plan = plan_from_rest(targets)
    assert plan.outcome == Outcome.NATURAL
    assert not plan.stretched
    assert list(plan.action_ticks) == list(range(0, 401, 50))
    for tick, target in zip(plan.action_ticks[1:], targets, strict=True):
        np.testing.assert_allclose(sample(plan.spline, int(tick))[0], target, atol=1e-12)
    end = int(plan.spline["knots"][plan.spline["segments"]])
    _, velocity, acceleration = sample(plan.spline, end - 1)
    assert np.max(np.abs(velocity)) < 0.01
    assert np.all(sample(plan.spline, end)[1] == 0.0)
    assert np.max(np.abs(acceleration)) < 2.0
    assert oracle.judge(commands_of(plan), PLANNED, HAND, 0.25).clean


def test_fast_actions_are_stretched_until_the_tip_keeps_its_speed_cap() -> None:
    """Deltas of 1 m/s take at least four times their time; the tip comes within 10 % of its cap and never above."""
    targets = tip_delta_targets(np.tile([0.0, 0.05, 0.0, 0.0], (6, 1)), HOME, HAND, HOME, LIMITS)
    plan = plan_from_rest(targets)
    assert plan.outcome == Outcome.STRETCHED
    assert plan.action_ticks[-1] >= 4 * 300
    verdict = oracle.judge(commands_of(plan), PLANNED, HAND, 0.25)
    assert verdict.clean
    assert 0.9 < verdict.largest["tip_speed"] <= 1.0


def test_tip_deltas_round_trip_through_executed_action() -> None:
    """The action read back from consecutive targets is the action asked for, to 1e-5 m and 1e-5 rad, yaw included."""
    actions = gentle_actions(12, step_m=0.004)
    targets = tip_delta_targets(actions, HOME, HAND, HOME, LIMITS)
    postures = np.vstack([HOME, targets])
    executed = [executed_action(before, after, HAND) for before, after in zip(postures, targets, strict=False)]
    np.testing.assert_allclose(executed, actions, atol=1e-5)


def test_tip_deltas_stop_inside_the_guards() -> None:
    """Deltas that push 0.5 m down end on the table plane, never below, and do not wind up beyond it."""
    down = np.tile([0.0, 0.0, -0.05, 0.0], (20, 1))
    up = np.array([[0.0, 0.0, 0.02, 0.0]])
    limits = fr3_limits(PLANNING_MARGINS, Guards(table_z_m=0.1), HAND)
    targets = tip_delta_targets(np.vstack([down, up]), HOME, HAND, HOME, limits)
    heights = np.array([forward(target, HAND)[0][2] for target in targets])
    assert np.min(heights) == pytest.approx(0.101, abs=1e-5)
    assert heights[-1] - heights[-2] == pytest.approx(0.02, abs=1e-5)
    plan = plan_from_rest(targets, limits=limits)
    assert plan.outcome == Outcome.STRETCHED
    assert np.min(oracle.tip_positions(commands_of(plan), HAND)[:, 2]) >= 0.1


def test_joint_targets_beyond_the_limits_are_moved_inside() -> None:
    """Targets 1 rad beyond every limit still give a plan that keeps the limits."""
    limits = fr3_limits(PLANNING_MARGINS, WIDE, HAND)
    for side in ("position_min", "position_max"):
        beyond = limits[side] + (1.0 if side == "position_max" else -1.0)
        plan = plan_from_rest(beyond[None], limits=limits)
        assert plan.usable
        assert oracle.judge(commands_of(plan), PLANNED, HAND, 0.25).clean


def test_a_reversal_at_speed_attaches_without_a_jump() -> None:
    """A chunk that turns back continues from the predecessor's planned state and never leaves the limits."""
    ahead = tip_delta_targets(np.tile([0.0, 0.01, 0.0, 0.0], (8, 1)), HOME, HAND, HOME, LIMITS)
    first = plan_from_rest(ahead)
    seam = int(first.action_ticks[5])
    state = sample(first.spline, seam)
    assert np.max(np.abs(state[1])) > 0.1
    back = tip_delta_targets(np.tile([0.0, -0.01, 0.0, 0.0], (8, 1)), state[0], HAND, HOME, LIMITS)
    second = plan_chunk(back, *state, 50, seam, 2, 1, 1, LIMITS)
    assert second.usable
    for planned, begun in zip(state, sample(second.spline, 0), strict=True):
        np.testing.assert_allclose(begun, planned, atol=1e-12)
    whole = np.vstack([commands_of(first)[:seam], commands_of(second)])
    assert oracle.judge(whole, PLANNED, HAND, 0.25).clean


def test_a_stop_from_speed_is_clean_and_short() -> None:
    """From any tick of a fast chunk a stop keeps every limit and takes at most twice the time of constant deceleration."""
    targets = tip_delta_targets(np.tile([0.0, 0.012, 0.0, 0.0], (8, 1)), HOME, HAND, HOME, LIMITS)
    plan = plan_from_rest(targets)
    moving = commands_of(plan)
    for seam in range(10, int(plan.action_ticks[-1]), 7):
        state = sample(plan.spline, seam)
        stop = plan_stop(*state, seam, 2, 1, 1, LIMITS)
        assert stop.outcome == Outcome.STOP_ONLY
        assert oracle.judge(np.vstack([moving[:seam], commands_of(stop)]), PLANNED, HAND, 0.25).clean
        shortest_s = float(np.max(np.abs(state[1]) / LIMITS["acceleration_max"]))
        assert stop.action_ticks[-1] <= 2 * 1000 * shortest_s + 10
    assert plan_stop(HOME, STILL + np.nan, STILL, 0, 1, 0, 1, LIMITS).outcome == Outcome.REFUSED


def test_input_that_is_not_finite_or_does_not_fit_is_refused() -> None:
    """NaN targets, infinite or absurd start velocities, no or too many actions give REFUSED with an empty spline."""
    targets = np.tile(HOME, (4, 1))
    broken = targets.copy()
    broken[2, 3] = np.nan
    infinite = np.array([np.inf, *STILL[1:]])
    plans = [
        plan_from_rest(broken),
        plan_from_rest(tip_delta_targets(np.full((4, 4), np.nan), HOME, HAND, HOME, LIMITS)),
        plan_chunk(targets, HOME, infinite, STILL, 50, 0, 1, 0, 1, LIMITS),
        plan_chunk(targets, HOME, STILL + 1e300, STILL, 50, 0, 1, 0, 1, LIMITS),
        plan_from_rest(targets[:0]),
        plan_from_rest(np.tile(HOME, (600, 1))),
        plan_from_rest(targets, period_ticks=0),
    ]
    assert [plan.outcome for plan in plans] == [Outcome.REFUSED] * len(plans)
    assert all(plan.spline["segments"] == 0 and not plan.usable for plan in plans)


def test_a_start_state_beyond_the_limits_is_refused() -> None:
    """From a velocity, acceleration or tip speed above the limits nothing is planned that would exceed them later."""
    fast, hard = 3.0 * np.eye(7)[0], 12.0 * np.eye(7)[3]
    targets = np.tile(HOME, (3, 1))
    states = ((fast, STILL), (-fast, STILL), (STILL, hard), (0.5 * fast, -hard))
    plans = [plan_chunk(targets, HOME, dq, ddq, 50, 0, 1, 0, 1, LIMITS) for dq, ddq in states]
    assert [plan.outcome for plan in plans] == [Outcome.REFUSED] * len(plans)
    assert all(np.all(plan.action_ticks == 0) for plan in plans)


def test_a_target_behind_a_guard_gives_a_stop_and_says_so() -> None:
    """Where no curve to the target stays inside the guards, the plan is a stop with every action ending at its end."""
    tip, _ = forward(HOME, HAND)
    slot = replace(Guards(), box_min_m=(tip[0] - 0.012, -0.4, 0.0), box_max_m=(tip[0] + 0.012, 0.4, 0.8))
    across = HOME + np.array([[0.8], [-0.8]]) * np.eye(7)[0]
    plan = plan_from_rest(across, limits=fr3_limits(PLANNING_MARGINS, slot, HAND))
    assert plan.outcome == Outcome.STOP_ONLY
    assert plan.usable
    assert plan.stopped_first
    assert np.all(plan.action_ticks[1:] == plan.spline["knots"][1])
    np.testing.assert_array_equal(commands_of(plan), np.tile(HOME, (len(commands_of(plan)), 1)))


def test_the_same_input_gives_the_same_bytes() -> None:
    """Planning is deterministic to the last bit."""
    targets = tip_delta_targets(gentle_actions(8, 0.01), HOME, HAND, HOME, LIMITS)
    assert plan_from_rest(targets).spline.tobytes() == plan_from_rest(targets).spline.tobytes()


def test_a_path_comes_to_rest_in_its_last_waypoint_at_every_speed() -> None:
    """A path of three waypoints ends there, inside the limits, and half the speed takes at least 1.4 times as long."""
    waypoints = HOME + np.array([0.3, -0.2, 0.4])[:, None] * np.array([1.0, 0.2, -0.5, 0.3, 0.4, 0.2, 1.0])
    plans = [plan_path(HOME, waypoints, 0, 1, 0, 1, LIMITS, speed) for speed in (1.0, 0.5)]
    for plan in plans:
        commands = commands_of(plan)
        np.testing.assert_allclose(commands[-1], waypoints[-1], atol=1e-12)
        assert oracle.judge(commands, PLANNED, HAND, 0.25).clean
        assert len(plan.action_ticks) == 4
    assert plans[1].action_ticks[-1] >= 1.4 * plans[0].action_ticks[-1]


def test_an_impossible_path_says_why() -> None:
    """Waypoints beyond limits or guards, malformed paths and speeds raise MotionError with value, limit and unit."""
    beyond = HOME + np.array([0.0, 0.0, 0.0, 3.0, 0.0, 0.0, 0.0])
    high = fr3_limits(PLANNING_MARGINS, Guards(table_z_m=0.5), HAND)
    with pytest.raises(MotionError, match=r"joint 4 at 0\.\d+ rad, the limits are"):
        plan_path(HOME, beyond[None], 0, 1, 0, 1, LIMITS)
    with pytest.raises(MotionError, match=r"tip at .* m, the guards are"):
        plan_path(HOME, HOME[None], 0, 1, 0, 1, high)
    with pytest.raises(MotionError, match="shape"):
        plan_path(HOME, np.zeros((0, 7)), 0, 1, 0, 1, LIMITS)
    with pytest.raises(MotionError, match="finite"):
        plan_path(HOME, np.full((1, 7), np.nan), 0, 1, 0, 1, LIMITS)
    with pytest.raises(MotionError, match="speed"):
        plan_path(HOME, HOME[None], 0, 1, 0, 1, LIMITS, speed=0.0)


NOTHING_COMPILES = """
import numpy as np, numba
from chains import HAND, HOME, PLANNING_MARGINS, build, fr3_limits
from poco import bounds, kinematics, motion, profile, spline, targets

def compiled():
    kernels = {k for m in (bounds, kinematics, profile, spline, targets) for k in vars(m).values() if hasattr(k, "signatures")}
    return {(k.__name__, str(s)) for k in kernels for s in k.signatures}

limits = fr3_limits(PLANNING_MARGINS)
motion.warm_up(limits)
before = compiled()
build(np.random.default_rng(1), 40)
limits.flags.writeable = False
frozen = HOME.copy()
frozen.flags.writeable = False
motion.plan_path(frozen, frozen[None] + 0.1, 0, 1, 0, 1, limits)
motion.plan_chunk([[0] * 7], frozen, np.ones(7), np.ones(7), np.int64(50), 0, 1, 0, 1, limits[()])
motion.tip_delta_targets(np.zeros((3, 4), np.float32), frozen, HAND, list(HOME), limits)
motion.executed_action(frozen, frozen, HAND)
assert len(before) > 8 and compiled() == before, compiled() - before
"""


def test_nothing_is_compiled_after_the_warm_up() -> None:
    """A fresh process that has warmed up meets every kind of chunk and input without compiling another signature."""
    subprocess.run([sys.executable, "-c", NOTHING_COMPILES], check=True, cwd=Path(__file__).parent)


def run_through_step(chain: Chain) -> tuple[Floats, _core.Memory, set[int]]:
    """Return the commands [N, 7] of `step()` on an arm that follows perfectly, its memory and the modes it was in."""
    limits = fr3_limits(STEP_MARGINS, chain.guards, HAND)
    memory, command, state = _core.Memory(), np.zeros((), COMMAND), np.zeros((), ARM_STATE)
    expected = chain.commands()
    result = np.empty_like(expected)
    newest: Record | None = None
    waiting = iter([*chain.presented, (len(expected) + 1, None)])
    due, upcoming = next(waiting)
    q, modes = chain.start_q, set()
    for tick in range(len(expected)):
        if tick == due:
            newest = upcoming
            due, upcoming = next(waiting)
        state["tick"], state["q"], state["q_d"] = tick, q, q
        _core.step(state, newest, int(Request.ARMED), limits, memory, command)
        q = result[tick] = command["q"]
        if tick > 0:
            modes.add(int(command["mode"]))
    return result, memory, modes


def prove(chunks: int, through_step: int) -> None:
    """Plan `chunks` random chunks in chains, judge every command sent, and run `through_step` of them through `step()`."""
    outcomes: Counter[Outcome] = Counter()
    seams: list[tuple[float, float, float]] = []
    late = reordered = near_limits = 0
    for number in range(chunks // CHUNKS_PER_CHAIN):
        chain = build(np.random.default_rng([7, number]), CHUNKS_PER_CHAIN)
        outcomes.update(chain.outcomes)
        seams += chain.seams
        late, reordered = late + chain.late, reordered + chain.reordered
        near_limits += chain.near_limits()
        commands = chain.commands()
        if number * CHUNKS_PER_CHAIN < through_step:
            sent, memory, modes = run_through_step(chain)
            np.testing.assert_allclose(sent, commands, atol=1e-12)
            assert modes <= {Mode.HOLDING, Mode.FOLLOWING}
            assert memory.event_counts[BY_NAME["chunk_late"].code] == chain.late
            assert memory.event_counts[BY_NAME["chunk_reordered"].code] == chain.reordered
            commands = sent
        for share in (oracle.Share(), PLANNED):
            verdict = oracle.judge(commands, share, HAND, 0.25)
            assert verdict.clean, (number, share, verdict)
    planned, total = len(seams), outcomes.total()
    largest = np.max(seams, axis=0)
    print(f"{total} chunks, {planned} attached, {late} late, {reordered} reordered, {near_limits} near a joint limit")
    print({outcome.name: count for outcome, count in sorted(outcomes.items())})
    print(f"largest seam jump: {largest[0]:.1e} rad, {largest[1]:.1e} rad/s, {largest[2]:.1e} rad/s^2")
    assert np.all(largest <= [1e-12, 1e-10, 1e-8])
    assert near_limits >= 0.2 * planned
    assert outcomes[Outcome.STRETCHED] >= 0.3 * total
    assert outcomes[Outcome.NATURAL] >= 0.1 * total
    assert outcomes[Outcome.STOPPED_FIRST] + outcomes[Outcome.STOP_ONLY] > 0
    assert outcomes[Outcome.STOP_ONLY] + outcomes[Outcome.REFUSED] <= 0.01 * total
    assert late >= 0.03 * total
    assert reordered >= 0.03 * total


def test_random_chunks_and_seams_keep_every_limit() -> None:
    """2,000 random chunks in chains: no violation of the arm's or the planning limits, no jump, `step()` never brakes."""
    prove(chunks=2_000, through_step=300)


@pytest.mark.proof
@pytest.mark.timeout(7200)
def test_a_hundred_thousand_random_chunks_and_seams_keep_every_limit() -> None:
    """The same for 100,000 chunks, every one of them also through `step()`."""
    prove(chunks=100_000, through_step=100_000)
