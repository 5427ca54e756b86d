"""Behaviour of step(): modes, seams, requests, recovery, lead and replay."""

from __future__ import annotations

import numpy as np
from following_arm import (
    READY_RAD,
    FollowingArm,
    chunk_from,
    joint_shift,
    make_chunk,
    ready_arm,
    sample,
    start_following,
    wide_limits,
)

from poco.trouble import BY_NAME, Mode, Request


def test_a_chunk_is_executed_exactly_and_ends_in_a_hold() -> None:
    """Every command equals the polynomials evaluated by numpy, and after the last knot the end is held."""
    arm = ready_arm()
    chunk = arm.chunk = chunk_from(arm, 0.05)
    for _ in range(5):
        assert arm.step()["mode"] == Mode.HOLDING
    for tick in range(400):
        command = arm.step()
        for name, value in zip(("q", "dq", "ddq"), sample(chunk, tick), strict=True):
            np.testing.assert_allclose(command[name], value, atol=1e-12)
        assert command[["chunk_id", "generation", "mode"]].item() == (1, 7, Mode.FOLLOWING)
    command = arm.step(10)
    np.testing.assert_allclose(command["q"], READY_RAD + 0.05, atol=1e-12)
    assert command[["chunk_id", "mode", "fault"]].item() == (0, Mode.HOLDING, 0)
    assert arm.count("chunk_ended") == 1


def test_a_successor_takes_over_in_motion() -> None:
    """A chunk that names its predecessor attaches at its tick, without a hold between them."""
    arm = ready_arm()
    first = start_following(arm)
    attach = arm.tick + 20
    start = sample(first, attach - int(first["attach_tick"]))
    arm.chunk = make_chunk(start, (READY_RAD - 0.02)[None], [600], attach=attach, ident=2, pred=1)
    modes = {int(arm.step()["mode"]) for _ in range(100)}
    assert modes == {Mode.FOLLOWING}
    assert arm.command["chunk_id"] == 2
    arm.step(600)
    np.testing.assert_allclose(arm.command["q"], READY_RAD - 0.02, atol=1e-9)


def test_the_newest_pending_chunk_wins() -> None:
    """Of two chunks waiting for their tick only the later one is executed."""
    arm = ready_arm()
    arm.chunk = chunk_from(arm, 0.05, ahead=20, ident=1)
    arm.step()
    arm.chunk = chunk_from(arm, -0.05, ahead=20, ident=2)
    arm.step(500)
    np.testing.assert_allclose(arm.command["q"], READY_RAD - 0.05, atol=1e-12)


def test_disarming_brakes_and_arming_needs_a_new_chunk() -> None:
    """Disarmed, the arm stops and ignores chunks; armed again it holds until a chunk attaches to the hold."""
    arm = ready_arm()
    start_following(arm)
    arm.request = Request.DISARMED
    assert arm.step()["mode"] == Mode.BRAKING
    assert arm.step(200)["mode"] == Mode.DISARMED
    arm.request = Request.ARMED
    assert arm.step(10)["mode"] == Mode.HOLDING
    arm.chunk = chunk_from(arm, 0.01, ident=2)
    assert arm.step(10)["mode"] == Mode.FOLLOWING


def test_stop_finishes_at_rest() -> None:
    """A stop brakes first and reports finished only when velocity and acceleration of the sent commands are zero."""
    arm = ready_arm()
    start_following(arm)
    arm.request = Request.STOP
    while not arm.step()["finished"]:
        assert arm.mode == Mode.BRAKING
    assert arm.mode == Mode.FINISHED
    assert arm.sent[-1].tolist() == arm.sent[-2].tolist() == arm.sent[-3].tolist()


def test_a_latched_fault_survives_chunks_and_rearming() -> None:
    """Neither a valid chunk nor arming clears a fault; the operator's act does, at rest only."""
    arm = ready_arm()
    chunk = start_following(arm).copy()
    chunk["chunk_id"], chunk["coefficients"][0, 3, 2] = 2, np.nan
    arm.chunk = chunk
    arm.recoveries = 1
    assert arm.step()["mode"] == Mode.BRAKING
    arm.recoveries = 2
    assert arm.step()["fault"] == BY_NAME["chunk_not_finite"].code, "still moving: not recovered"
    arm.recoveries = 1
    arm.step(200)
    assert arm.mode == Mode.FAULT
    for request in (Request.DISARMED, Request.ARMED):
        arm.request = request
        arm.chunk = chunk_from(arm, 0.01, ident=int(arm.chunk["chunk_id"]) + 1)
        assert arm.step(20)["mode"] == Mode.FAULT
    arm.recoveries = 2
    assert arm.step()["mode"] == Mode.HOLDING
    arm.chunk = chunk_from(arm, 0.01, ident=9)
    assert arm.step(20)["mode"] == Mode.FOLLOWING


def test_a_blocked_arm_is_held_and_then_resumes() -> None:
    """Commands stop running away from a blocked arm; a chunk back towards it is accepted although the lead is large."""
    limits = wide_limits()
    limits["lead_max_m"] = 0.01
    arm = ready_arm(limits)
    arm.chunk = chunk_from(arm, joint_shift(0, 0.2), ticks=1000)
    arm.step(900, follow=False)
    assert arm.mode == Mode.HOLDING
    assert arm.count("lead_exceeded") == 1
    back = READY_RAD - np.array(arm.memory.q)
    arm.chunk = chunk_from(arm, back, ticks=800, ident=2)
    arm.step(806, follow=False)
    assert arm.count("chunk_ended") == 1
    np.testing.assert_allclose(arm.command["q"], READY_RAD, atol=1e-9)


def test_a_first_state_that_is_not_finite_starts_nothing() -> None:
    """Nothing can be commanded from it: the command is not finite either, so it cannot be sent; the next one is the arm's."""
    arm = FollowingArm(wide_limits())
    arm.state["q_d"][0] = np.nan
    assert np.isnan(arm.step()["q"][0])
    arm.state["q_d"] = READY_RAD
    arm.state["dq_d"] = arm.state["ddq_d"] = 0.0
    np.testing.assert_array_equal(arm.step()["q"], READY_RAD)
    assert arm.step()["mode"] == Mode.FAULT


def test_ticks_that_run_backwards_start_anew() -> None:
    """An arm that restarted its clock is braked from where it is, never sent back to the old plan."""
    arm = ready_arm()
    start_following(arm)
    arm.tick -= 500
    assert arm.step()["mode"] == Mode.BRAKING
    assert arm.count("gap_not_bridged") == 1
    assert arm.step(300)["mode"] == Mode.HOLDING


def test_the_same_tick_repeats_the_command() -> None:
    """A second call for one tick changes nothing."""
    arm = ready_arm()
    start_following(arm)
    before = arm.step().tobytes()
    arm.tick -= 1
    assert arm.step().tobytes() == before


def test_replay_gives_identical_bytes() -> None:
    """The same inputs from a copied memory give the same commands bit for bit, through a gap and a fault."""
    recorded, memory = [], None
    arm = ready_arm()
    for round_ in range(2):
        if memory is None:
            memory = arm.memory.copy()
            state, tick = arm.state.copy(), arm.tick
        else:
            arm.memory, arm.state, arm.tick, arm.chunk = memory, state, tick, None
        rng = np.random.default_rng(1)
        commands = []
        for ident in range(1, 20):
            arm.chunk = chunk_from(arm, rng.uniform(-0.05, 0.05, 7), ticks=int(rng.integers(90, 300)), ident=ident)
            commands += [arm.step().tobytes() for _ in range(200)]
            if ident % 5 == 0:
                arm.lose_ticks(3)
        recorded.append(commands)
        assert round_ == 0 or recorded[0] == recorded[1]
