"""Lost states and lost commands: continuing or braking stays inside the arm's own limits, as the arm itself sees it."""

from __future__ import annotations

import numpy as np
import pytest
from following_arm import (
    RAMP_TICKS,
    READY_RAD,
    REST,
    WIDE,
    Floats,
    bang_bang,
    chunk_from,
    joint_shift,
    load_of,
    make_chunk,
    random_chunk,
    sample,
    start_following,
    wide_limits,
)
from lossy_arm import LOST_IN_ROW_MAX, LossyArm

from poco.limits import POSITION_MAX_RAD, POSITION_MIN_RAD, ROBOT_MARGINS, STEP_MARGINS, fr3_limits
from poco.records import EVENT_CODES
from poco.trouble import BY_NAME, Mode

LOSSES = ("states", "commands")


def lose(arm: LossyArm, what: str, ticks: int) -> None:
    """Lose `ticks` states or commands."""
    arm.lose_ticks(ticks) if what == "states" else arm.lose_commands(ticks)


def assert_kept_limits(arm: LossyArm) -> None:
    """Assert that neither the arm's own check nor the differences of its whole motion show a breach."""
    assert not arm.breaches
    load = load_of(arm.sent, ROBOT_MARGINS)
    assert load.inside, load


def _armed(q: Floats | None = None) -> LossyArm:
    arm = LossyArm(wide_limits()) if q is None else LossyArm(wide_limits(), q)
    arm.step(3)
    return arm


def wander(arm: LossyArm, rng: np.random.Generator, ticks: int, what: str) -> int:
    """Follow random chunks and lose 1 to 19 ticks in motion, while braking and at rest; return the number of losses."""
    until, losses, ident = arm.tick + ticks, 0, 0
    active = None
    while arm.tick < until:
        ahead, ident = int(rng.integers(1, 30)), ident + 1
        following = active is not None and arm.command["chunk_id"] == active["chunk_id"]
        start = (np.array(arm.memory.q), REST, REST)
        if following and active is not None:
            start = sample(active, arm.tick + ahead - int(active["attach_tick"]))
        predecessor = int(arm.command["chunk_id"])
        arm.chunk = random_chunk(
            rng, start, float(rng.uniform(0.3, 1.0)), attach=arm.tick + ahead, ident=ident, pred=predecessor
        )
        arm.step(ahead + 1)
        if arm.command["chunk_id"] == ident:
            active = arm.chunk
        arm.step(int(rng.integers(1, 120)))
        for _ in range(int(rng.integers(0, 3))):
            lose(arm, what, int(rng.integers(1, LOST_IN_ROW_MAX + 1)))
            arm.step(int(rng.integers(1, 30)))
            losses += 1
        while arm.mode == Mode.BRAKING:
            arm.step(10)
        if arm.memory.fault:
            arm.recoveries += 1
            arm.step(2)
    return losses


@pytest.mark.parametrize("what", LOSSES)
def test_random_losses_stay_inside_the_arms_limits(what: str) -> None:
    """40,000 ticks with 1 to 19 lost in a row, at any moment: no breach, by the emulator's check and by the differences."""
    losses, events = 0, np.zeros(EVENT_CODES, int)
    for seed in range(4):
        rng = np.random.default_rng([11, seed])
        arm = _armed(rng.uniform(POSITION_MIN_RAD + 0.1, POSITION_MAX_RAD - 0.1))
        losses += wander(arm, rng, 10_000, what)
        events += arm.memory.event_counts
        assert_kept_limits(arm)
    print(f"{losses} losses, {events[BY_NAME['gap_bridged'].code]} bridged")
    assert losses >= 200
    assert events[BY_NAME["gap_bridged"].code] >= 20
    assert events[BY_NAME["gap_not_bridged"].code] >= 50


def towards_limit(rng: np.random.Generator) -> tuple[LossyArm, int]:
    """Return an arm of which one joint speeds up towards its limit as hard and long as `step()` admits, and for how long.

    The joint starts at a random distance, accelerates at the step's limit and then stops with it; what `step()` refuses is
    tried again with a shorter run-up (ticks).
    """
    q, joint, side = READY_RAD.copy(), int(rng.integers(7)), float(rng.choice([-1.0, 1.0]))
    limit = POSITION_MAX_RAD[joint] if side > 0 else POSITION_MIN_RAD[joint]
    q[joint] = limit - side * (STEP_MARGINS.position_rad + rng.uniform(0.05, 0.6))
    direction = side * (np.arange(7) == joint)
    run_up = 350
    while True:
        arm = _armed(q)
        arm.chunk = bang_bang(np.array(arm.memory.q), direction, run_up, attach=arm.tick + 1)
        arm.step(2)
        if arm.mode == Mode.FOLLOWING:
            return arm, run_up + 2 * RAMP_TICKS
        run_up = int(run_up * 0.95)


@pytest.mark.parametrize("what", LOSSES)
def test_the_longest_losses_towards_a_joint_limit_stay_inside(what: str) -> None:
    """Losses of 15 to 19 ticks at full acceleration towards joint limits, as near as step() admits it: no breach."""
    hard = 0
    for seed in range(60):
        rng = np.random.default_rng([12, seed])
        arm, ticks = towards_limit(rng)
        arm.step(ticks - int(rng.integers(8)))
        lose(arm, what, int(rng.integers(15, LOST_IN_ROW_MAX + 1)))
        arm.step(500)
        assert_kept_limits(arm)
        hard += load_of(arm.sent, STEP_MARGINS).velocity > 1.0
    assert hard >= 15, "extrapolation must reach beyond what step() itself would send"


@pytest.mark.parametrize("what", LOSSES)
@pytest.mark.parametrize("ticks", range(1, LOST_IN_ROW_MAX + 1))
def test_every_loss_is_noticed(what: str, ticks: int) -> None:
    """In fast motion every loss counts as bridged or not, and the arm comes to rest without a fault.

    Only a single lost command may stay below single precision, in which the arm reports; limits are kept all the same.
    """
    arm = _armed()
    start_following(arm, 0.3, 500)
    lose(arm, what, ticks)
    arm.step()
    seen = arm.count("gap_bridged") + arm.count("gap_not_bridged")
    assert seen >= 1 or (what, ticks) == ("commands", 1)
    arm.step(1000)
    assert (arm.mode, arm.memory.fault) == (Mode.HOLDING, 0)
    assert_kept_limits(arm)


@pytest.mark.parametrize("what", LOSSES)
@pytest.mark.parametrize("field", ["q", "dq", "q_d", "dq_d", "ddq_d"])
@pytest.mark.parametrize("before", range(0, LOST_IN_ROW_MAX - 3, 3))
def test_a_report_that_is_no_number_amid_a_loss_does_not_hide_it(what: str, field: str, before: int) -> None:
    """Three states with a joint that is NaN, at the end of a loss and just after it: the servo stops inside the limits."""
    arm = _armed()
    start_following(arm, 0.3, 500)
    lose(arm, what, before)
    for joint in (0, 3, 6):
        arm.state[field][joint] = np.nan
        arm.lose_commands(1) if joint < 6 else arm.step()
    arm.step(1000)
    assert (arm.mode, arm.memory.fault) == (Mode.FAULT, BY_NAME["state_not_finite"].code)
    assert_kept_limits(arm)


@pytest.mark.parametrize("what", LOSSES)
def test_a_loss_in_slow_motion_does_not_interrupt_it(what: str) -> None:
    """One state or command lost in slow motion is bridged and the chunk ends where it was planned to."""
    arm = _armed()
    chunk = start_following(arm, 0.05, 2000)
    lose(arm, what, 1)
    arm.step(int(chunk["knots"][1]) + 10)
    assert arm.count("gap_not_bridged") == 0
    assert arm.count("chunk_ended") == 1
    assert_kept_limits(arm)


def test_a_loss_is_bridged_across_the_knots_of_a_chunk() -> None:
    """A loss just before and just after a knot is bridged with the segment that was planned for each tick."""
    for before in range(4):
        arm = _armed()
        hold = np.array(arm.memory.q)
        waypoints = np.array([hold + 0.01, hold + 0.02, hold])
        arm.chunk = make_chunk((hold, REST, REST), waypoints, [500, 600, 900], attach=arm.tick + 1, ident=1)
        arm.step(1 + 500 - before)
        arm.lose_ticks(2)
        arm.step()
        assert (arm.mode, arm.count("gap_bridged")) == (Mode.FOLLOWING, 1)
        arm.step(2000)
        np.testing.assert_allclose(arm.sent[-1], hold, atol=1e-9)
        assert_kept_limits(arm)


def test_an_arm_that_takes_every_command_is_never_taken_for_lossy() -> None:
    """In 20,000 ticks of motion at every joint, reported in single precision, no loss is seen."""
    arm = LossyArm(fr3_limits(guards=WIDE), POSITION_MAX_RAD - 0.2)
    arm.step(3)
    for ident in range(1, 11):
        arm.chunk = chunk_from(arm, joint_shift(ident % 7, -0.3 if ident < 8 else 0.1), 1500, ident=ident)
        arm.step(2000)
    assert arm.count("chunk_ended") == 10
    assert arm.count("gap_bridged") + arm.count("gap_not_bridged") == 0
    assert_kept_limits(arm)
