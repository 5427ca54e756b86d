"""Every row of the table of troubles is reached and has the grade it states; every rule of a chunk is enforced."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from following_arm import (
    READY_RAD,
    Floats,
    FollowingArm,
    Record,
    chunk_from,
    joint_shift,
    ready_arm,
    start_following,
    wide_limits,
)

from poco.limits import POSITION_MAX_RAD, Guards, fr3_limits
from poco.trouble import BY_NAME, TROUBLES, Grade, Mode, Request

Scenario = Callable[[], FollowingArm]
SCENARIOS: dict[str, Scenario] = {}


def scenario(function: Scenario) -> Scenario:
    """Register the scenario that reaches the trouble of the same name."""
    SCENARIOS[function.__name__] = function
    return function


def _offered(change: Callable[[Record, FollowingArm], None], ident: int = 2) -> FollowingArm:
    """Follow chunk 1, then offer a changed copy of it."""
    arm = ready_arm()
    chunk = start_following(arm).copy()
    chunk["chunk_id"], chunk["predecessor_id"], chunk["attach_tick"] = ident, 1, arm.tick + 5
    change(chunk, arm)
    arm.chunk = chunk
    arm.step(6)
    return arm


def _pushed(shift: Floats, ticks: int, limits: Record | None = None, q: Floats = READY_RAD) -> FollowingArm:
    arm = ready_arm(limits, q)
    arm.chunk = chunk_from(arm, shift, ticks)
    arm.step(ticks + 10)
    return arm


@scenario
def chunk_late() -> FollowingArm:
    """Reach it: attach tick in the past."""
    return _offered(lambda chunk, arm: chunk.__setitem__("attach_tick", arm.tick - 1))


@scenario
def chunk_stale() -> FollowingArm:
    """Reach it: the whole chunk in the past."""
    return _offered(lambda chunk, arm: chunk.__setitem__("attach_tick", arm.tick - 401))


@scenario
def chunk_reordered() -> FollowingArm:
    """Reach it: an older chunk after a newer one."""
    arm = ready_arm()
    arm.chunk = chunk_from(arm, 0.05, ident=5)
    arm.step(20)
    arm.chunk = chunk_from(arm, 0.05, ident=4)
    arm.step(20)
    assert arm.command["chunk_id"] == 5
    return arm


@scenario
def chunk_wrong_predecessor() -> FollowingArm:
    """Reach it: attaches to a hold while another chunk runs."""
    return _offered(lambda chunk, arm: chunk.__setitem__("predecessor_id", 0))


@scenario
def chunk_discontinuous() -> FollowingArm:
    """Reach it: starts where the active chunk started."""
    return _offered(lambda chunk, arm: None)


@scenario
def chunk_ignored() -> FollowingArm:
    """Reach it: offered while disarmed."""
    arm = ready_arm()
    arm.request = Request.DISARMED
    arm.chunk = chunk_from(arm, 0.05)
    arm.step(20)
    return arm


@scenario
def gap_bridged() -> FollowingArm:
    """Reach it: one tick lost in slow motion, reported in single precision as the arm's datagrams are."""
    arm = ready_arm()
    start_following(arm, 0.01, 1000)
    arm.lose_ticks(1)
    for name in ("q_d", "dq_d", "ddq_d"):
        arm.state[name] = arm.state[name].astype(np.float32)
    assert arm.step()["mode"] == Mode.FOLLOWING
    return arm


@scenario
def gap_not_bridged() -> FollowingArm:
    """Reach it: many ticks lost in fast motion."""
    arm = ready_arm()
    start_following(arm, 0.3, 700)
    arm.lose_ticks(15)
    assert arm.step()["mode"] == Mode.BRAKING
    arm.step(300)
    return arm


@scenario
def chunk_ended() -> FollowingArm:
    """Reach it: no successor."""
    return _pushed(joint_shift(0, 0.05), 400)


@scenario
def lead_exceeded() -> FollowingArm:
    """Reach it: the arm is turned away from the command."""
    limits = wide_limits()
    limits["lead_max_rad"] = 0.05
    arm = ready_arm(limits)
    arm.chunk = chunk_from(arm, joint_shift(6, 0.3), 800)
    arm.step(700, follow=False)
    return arm


@scenario
def supervisor_lost() -> FollowingArm:
    """Reach it: the servo concluded that it is alone."""
    arm = ready_arm()
    start_following(arm)
    arm.request = Request.ORPHANED
    arm.step(300)
    assert arm.mode == Mode.DISARMED
    return arm


@scenario
def chunk_not_finite() -> FollowingArm:
    """Reach it: one coefficient is infinite."""
    return _offered(lambda chunk, arm: chunk["coefficients"].__setitem__((0, 5, 3), np.inf))


@scenario
def chunk_malformed() -> FollowingArm:
    """Reach it: knots that do not start at 0."""
    return _offered(lambda chunk, arm: chunk["knots"].__setitem__(0, 1))


@scenario
def position_limit() -> FollowingArm:
    """Reach it: a chunk that starts inside the arm's limits but outside the margin."""
    q = READY_RAD.copy()
    q[0] = POSITION_MAX_RAD[0] - 0.01
    return _pushed(joint_shift(0, -0.02), 800, q=q)


@scenario
def velocity_limit() -> FollowingArm:
    """Reach it: joint 1 above 2.36 rad/s with moderate acceleration."""
    q = READY_RAD.copy()
    q[0] = -2.3
    return _pushed(joint_shift(0, 4.6), 3000, q=q)


@scenario
def acceleration_limit() -> FollowingArm:
    """Reach it: half a radian in 300 ms."""
    return _pushed(joint_shift(0, 0.5), 500)


@scenario
def jerk_limit() -> FollowingArm:
    """Reach it: 0.03 rad in 30 ms."""
    return _pushed(joint_shift(0, 0.03), 30)


@scenario
def no_way_to_stop() -> FollowingArm:
    """Reach it: towards joint 1's end and beyond, where the velocity envelope allows it until the end."""
    limits, q = wide_limits(), READY_RAD.copy()
    limits["velocity_offset"] = -1.0
    q[0] = POSITION_MAX_RAD[0] - 0.1
    return _pushed(joint_shift(0, 0.09), 1000, limits, q)


@scenario
def workspace_box() -> FollowingArm:
    """Reach it: the tip turned out of the box's side."""
    return _pushed(joint_shift(0, 0.8), 3000, fr3_limits(guards=Guards(box_max_m=(0.75, 0.1, 0.8))))


@scenario
def table_plane() -> FollowingArm:
    """Reach it: the tip lowered below a raised table."""
    return _pushed(joint_shift(1, 0.4), 3000, fr3_limits(guards=Guards(table_z_m=0.55)))


@scenario
def tip_speed() -> FollowingArm:
    """Reach it: 0.3 m in half a second."""
    return _pushed(joint_shift(0, 0.5), 800, fr3_limits())


@scenario
def hold_timeout() -> FollowingArm:
    """Reach it: no chunk for longer than the timeout after one had been followed."""
    limits = wide_limits()
    limits["hold_timeout_ticks"] = 50
    arm = ready_arm(limits)
    arm.step(200)
    assert arm.mode == Mode.HOLDING, "a wait before the first chunk is no fault"
    arm.chunk = chunk_from(arm, 0.05)
    arm.step(5 + 400 + 50)
    assert arm.mode == Mode.HOLDING
    arm.step(2)
    return arm


@scenario
def state_not_finite() -> FollowingArm:
    """Reach it: a measured position that is not a number."""
    arm = ready_arm()
    start_following(arm)
    arm.state["q"][3] = np.nan
    arm.step()
    assert np.all(np.isfinite(arm.command["q"]))
    arm.step(300)
    return arm


@scenario
def arm_error() -> FollowingArm:
    """Reach it: the arm reports a reflex."""
    arm = ready_arm()
    start_following(arm)
    arm.state["robot_mode"] = 4
    arm.step(300)
    return arm


@scenario
def user_stopped() -> FollowingArm:
    """Reach it: the arm reports that its user stop is pressed."""
    arm = ready_arm()
    start_following(arm)
    arm.state["robot_mode"] = 5
    arm.step(300)
    return arm


@pytest.mark.parametrize("name", sorted(set(BY_NAME) - {"arm_silent"}))  # step() is not called then: test_servo.py
def test_every_trouble_is_reached_and_has_its_grade(name: str) -> None:
    """Each row happens as described: dropped goes on, holding holds without a fault, latched ends in the fault."""
    arm = SCENARIOS[name]()
    trouble = BY_NAME[name]
    assert arm.count(name) == 1
    if trouble.grade is Grade.DROPPED:
        assert arm.mode in (Mode.FOLLOWING, Mode.HOLDING, Mode.DISARMED)
        assert arm.memory.fault == 0
    elif trouble.grade is Grade.HOLDING:
        arm.step(300)
        assert arm.mode in (Mode.HOLDING, Mode.DISARMED)
        assert arm.memory.fault == 0
    else:
        arm.step(1500)
        assert (arm.mode, arm.memory.fault) == (Mode.FAULT, trouble.code)
    others = [TROUBLES[code].name for code, n in enumerate(arm.memory.event_counts) if n and code != trouble.code]
    assert not [other for other in others if TROUBLES[BY_NAME[other].code].grade is Grade.LATCHED]


def _set(field: str, value: int) -> Callable[[Record], None]:
    return lambda chunk: chunk.__setitem__(field, value)


def _set_knot(index: int, value: int) -> Callable[[Record], None]:
    return lambda chunk: chunk["knots"].__setitem__(index, value)


def _jump(chunk: Record) -> None:
    chunk["segments"], chunk["knots"][2] = 2, 900


MALFORMED: dict[str, Callable[[Record], None]] = {
    "no segments": _set("segments", 0),
    "too many segments": _set("segments", 513),
    "negative segments": _set("segments", -1),
    "knots not increasing": _set_knot(1, 0),
    "absurd knots": _set_knot(1, 2**62),
    "id zero": _set("chunk_id", 0),
    "predecessor after itself": _set("predecessor_id", 3),
    "attach tick negative": _set("attach_tick", -1),
    "attach tick absurd": _set("attach_tick", 2**62),
    "not at rest at the end": lambda c: c["coefficients"].__setitem__((0, 1, 0), 0.1),
    "gap between segments": _jump,
}


@pytest.mark.parametrize("change", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_chunks_latch(change: Callable[[Record], None]) -> None:
    """Every rule of the chunk record is enforced as a whole before any of it is executed."""
    arm = _offered(lambda chunk, _: change(chunk))
    assert arm.memory.fault == BY_NAME["chunk_malformed"].code
    arm.step(300)
    assert arm.mode == Mode.FAULT
