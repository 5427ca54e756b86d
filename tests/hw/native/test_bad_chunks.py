"""Ten thousand bad chunks of many kinds: each is refused whole, and what happens next follows from its grade alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from driven_arm import STEP_SHARE, DrivenArm
from following_arm import READY_RAD, REST, Record, make_chunk, sample

import oracle
from poco import _core
from poco.limits import Guards, fr3_limits
from poco.records import CHUNK_SPLINE, COMMAND
from poco.trouble import BY_NAME, TROUBLES, Grade, Mode, Request

HUGE = (1e308, -1e308, 1e300, 1e150)
HARMFUL = {"jerk_limit", "acceleration_limit", "velocity_limit", "position_limit", "no_way_to_stop"}
PER_KIND = 417
TICKS = 20

Spoil = Callable[[np.random.Generator, Record, int], None]
KINDS: dict[str, tuple[Spoil, set[str]]] = {}


def kind(*troubles: str) -> Callable[[Spoil], Spoil]:
    """Register a way to spoil a valid chunk and the troubles of which it must raise exactly one."""

    def register(spoil: Spoil) -> Spoil:
        KINDS[spoil.__name__] = spoil, set(troubles)
        return spoil

    return register


def _anywhere(rng: np.random.Generator, chunk: Record) -> tuple[int, int, int]:
    return int(rng.integers(chunk["segments"])), int(rng.integers(6)), int(rng.integers(7))


@kind("chunk_not_finite")
def nan(rng: np.random.Generator, chunk: Record, now: int) -> None:
    """Put a NaN anywhere."""
    chunk["coefficients"][_anywhere(rng, chunk)] = np.nan


@kind("chunk_not_finite")
def infinite(rng: np.random.Generator, chunk: Record, now: int) -> None:
    """Put an infinity anywhere."""
    chunk["coefficients"][_anywhere(rng, chunk)] = rng.choice([np.inf, -np.inf])


@kind("chunk_malformed", "jerk_limit", "position_limit")
def huge(rng: np.random.Generator, chunk: Record, now: int) -> None:
    """Put a number near the largest double anywhere."""
    chunk["coefficients"][_anywhere(rng, chunk)] = rng.choice(HUGE)


@kind("chunk_malformed", "jerk_limit")
def noise(rng: np.random.Generator, chunk: Record, now: int) -> None:
    """Replace every coefficient by random bits that make a finite number."""
    bits = rng.integers(0, 0x7FE0_0000_0000_0000, chunk["coefficients"].shape, dtype=np.int64)
    chunk["coefficients"] = bits.view(np.float64)


@kind("chunk_malformed")
def empty(rng: np.random.Generator, chunk: Record, now: int) -> None:
    """Claim no segments."""
    chunk["segments"] = 0


@kind("chunk_malformed")
def wrong_size(rng: np.random.Generator, chunk: Record, now: int) -> None:
    """Claim a number of segments that no chunk can have."""
    chunk["segments"] = rng.choice([-1, 513, 1 << 40, -(1 << 62), int(rng.integers(514, 10_000))])


@kind("chunk_malformed")
def zeros(rng: np.random.Generator, chunk: Record, now: int) -> None:
    """Clear everything but the id."""
    ident = int(chunk["chunk_id"])
    chunk[...] = np.zeros((), CHUNK_SPLINE)
    chunk["chunk_id"] = ident


@kind("chunk_malformed")
def knots_disordered(rng: np.random.Generator, chunk: Record, now: int) -> None:
    """Let a knot repeat, run backwards or overflow."""
    k = int(rng.integers(chunk["segments"]))
    chunk["knots"][k + 1] = rng.choice([chunk["knots"][k], -1, np.iinfo(np.int64).max, np.iinfo(np.int64).min])


@kind("chunk_malformed")
def rate_of_the_knots(rng: np.random.Generator, chunk: Record, now: int) -> None:
    """Scale the knots but not the coefficients, as a planner with another rate would."""
    last = int(chunk["segments"])
    chunk["knots"][: last + 1] = chunk["knots"][: last + 1] * int(rng.integers(2, 21))


@kind("chunk_discontinuous", *HARMFUL)
def whole_rate(rng: np.random.Generator, chunk: Record, now: int) -> None:
    """Play the whole chunk 5 to 50 times too fast."""
    last, factor = int(chunk["segments"]), int(rng.choice([5, 10, 25, 50]))
    chunk["knots"][: last + 1] //= factor
    chunk["coefficients"] *= np.power(float(factor), np.arange(6))[:, None]


@kind("chunk_malformed")
def discontinuous_inside(rng: np.random.Generator, chunk: Record, now: int) -> None:
    """Let one joint jump at an inner knot."""
    k = int(rng.integers(1, chunk["segments"]))
    chunk["coefficients"][k, 0, rng.integers(7)] += rng.choice([-1, 1]) * 10.0 ** rng.uniform(-6, 0)


@kind("chunk_malformed")
def still_moving_at_the_end(rng: np.random.Generator, chunk: Record, now: int) -> None:
    """Forget the last segment, in which the motion comes to rest."""
    chunk["segments"] -= 1


@kind("chunk_malformed", "chunk_discontinuous")
def segments_swapped(rng: np.random.Generator, chunk: Record, now: int) -> None:
    """Exchange two segments."""
    chunk["coefficients"][[0, 1]] = chunk["coefficients"][[1, 0]]


@kind("chunk_discontinuous")
def teleport(rng: np.random.Generator, chunk: Record, now: int) -> None:
    """Move the whole chunk aside."""
    chunk["coefficients"][: chunk["segments"], 0] += rng.choice([-1, 1], 7) * 10.0 ** rng.uniform(-6, -1.3)


@kind("chunk_discontinuous", "position_limit", "workspace_box", "table_plane")
def sign_flip(rng: np.random.Generator, chunk: Record, now: int) -> None:
    """Turn every joint to the other side."""
    chunk["coefficients"] *= -1


@kind(*HARMFUL, "workspace_box", "table_plane", "tip_speed")
def amplitude(rng: np.random.Generator, chunk: Record, now: int) -> None:
    """Move 8 to 100 times as far from the same start: C2 as before."""
    start = chunk["coefficients"][0, 0].copy()
    factor = rng.uniform(8, 100)
    for k in range(int(chunk["segments"])):
        chunk["coefficients"][k, 0] = start + factor * (chunk["coefficients"][k, 0] - start)
        chunk["coefficients"][k, 1:] *= factor


@kind("chunk_stale")
def too_old(rng: np.random.Generator, chunk: Record, now: int) -> None:
    """Attach so long ago that all of it is over."""
    chunk["attach_tick"] = now - int(chunk["knots"][chunk["segments"]]) - int(rng.integers(1, 200))


@kind("chunk_late")
def late(rng: np.random.Generator, chunk: Record, now: int) -> None:
    """Attach in the recent past."""
    chunk["attach_tick"] = now - int(rng.integers(1, 50))


@kind("chunk_wrong_predecessor")
def wrong_predecessor(rng: np.random.Generator, chunk: Record, now: int) -> None:
    """Follow another chunk than the one in execution."""
    chunk["predecessor_id"] = int(chunk["chunk_id"]) - int(rng.integers(2, 9))


@kind("chunk_malformed")
def absurd_identity(rng: np.random.Generator, chunk: Record, now: int) -> None:
    """Follow a chunk of the future, or attach in an impossible tick."""
    if rng.random() < 0.5:
        chunk["predecessor_id"] = int(chunk["chunk_id"]) + int(rng.integers(0, 5))
    else:
        chunk["attach_tick"] = rng.choice([-1, np.iinfo(np.int64).min, np.iinfo(np.int64).max, 1 << 60])


@kind("jerk_limit")
def jerk_spike(rng: np.random.Generator, chunk: Record, now: int) -> None:
    """Move 0.05 rad there and back within 20 ms in a last segment of its own, joined C2."""
    last = int(chunk["segments"])
    end = sample(chunk, int(chunk["knots"][last]))[0]
    spike = make_chunk((end, REST, REST), (end + 0.05)[None], [20], attach=1, ident=1)
    chunk["segments"], chunk["knots"][last + 1] = last + 1, chunk["knots"][last] + 20
    chunk["coefficients"][last] = spike["coefficients"][0]


@kind("workspace_box", "table_plane", "tip_speed")
def out_of_the_box(rng: np.random.Generator, chunk: Record, now: int) -> None:
    """Continue slowly until the tip leaves the workspace sideways."""
    _append(chunk, 0, float(rng.choice([-1, 1])) * rng.uniform(1.5, 1.6), 12_000)


@kind("tip_speed")
def too_fast_for_the_tip(rng: np.random.Generator, chunk: Record, now: int) -> None:
    """Continue so that the joints may do it, but the tip is faster than its cap."""
    _append(chunk, 0, float(rng.choice([-1, 1])) * 0.35, int(rng.integers(530, 600)))


@kind("position_limit", "velocity_limit", "no_way_to_stop")
def beyond_a_joint_limit(rng: np.random.Generator, chunk: Record, now: int) -> None:
    """Continue slowly with the last joint until it is beyond its limit."""
    _append(chunk, 6, 3.5, 9000)


def _append(chunk: Record, joint: int, shift: float, ticks: int) -> None:
    last = int(chunk["segments"])
    end = sample(chunk, int(chunk["knots"][last]))[0]
    more = make_chunk((end, REST, REST), (end + shift * (np.arange(7) == joint))[None], [ticks], attach=1, ident=1)
    chunk["segments"], chunk["knots"][last + 1] = last + 1, chunk["knots"][last] + ticks
    chunk["coefficients"][last] = more["coefficients"][0]


@cache
def _base(number: int) -> tuple[DrivenArm, Record]:
    rng = np.random.default_rng([44, number])
    limits = fr3_limits(guards=Guards(box_max_m=(0.75, 0.4, 1.2)))
    arm = DrivenArm(limits, READY_RAD + rng.uniform(-0.05, 0.05, 7))
    arm.step(2)
    hold = np.array(arm.memory.q)
    waypoints = hold + np.cumsum(rng.uniform(0.005, 0.02, (3, 7)) * rng.choice([-1, 1], 7), axis=0)
    arm.chunk = make_chunk((hold, REST, REST), waypoints, [250, 250, 300], attach=arm.tick + 1, ident=10)
    arm.step(int(rng.integers(20, 500)))
    assert arm.mode == Mode.FOLLOWING
    return arm, arm.chunk


def following_arm(rng: np.random.Generator) -> tuple[DrivenArm, Record]:
    """Return an arm that follows chunk 10, one of 50, and the chunk."""
    arm, active = _base(int(rng.integers(50)))
    return arm.branch(), active


def successor(rng: np.random.Generator, arm: DrivenArm, active: Record) -> Record:
    """Return a chunk that could well follow `active` in a few ticks: four segments, each moving every joint."""
    attach = arm.tick + int(rng.integers(1, 10))
    start = sample(active, attach - int(active["attach_tick"]))
    side = rng.choice([-1, 1], 7)
    waypoints = start[0] + 0.1 * start[1] + np.cumsum(rng.uniform(0.005, 0.02, (4, 7)) * side, axis=0)
    return make_chunk(start, waypoints, [250, 250, 250, 300], attach=attach, ident=20, pred=10)


def present(arm: DrivenArm, bad: Record, expected: set[str]) -> str:
    """Offer a bad chunk and assert that nothing of it runs; return the trouble it raised."""
    twin = arm.branch()
    arm.chunk = bad
    commands = arm.step(TICKS).copy()
    raised = {TROUBLES[code].name: code for code, n in enumerate(arm.memory.event_counts) if n}
    ours = raised.keys() & expected
    assert len(ours) == 1, (raised, expected)
    name = ours.pop()
    assert not np.any(commands["chunk_id"] == bad["chunk_id"]), "a part of the bad chunk ran"
    if BY_NAME[name].grade is Grade.DROPPED:
        undisturbed = twin.step(TICKS)
        assert arm.memory.fault == 0
        for field in ("q", "dq", "ddq", "mode", "chunk_id"):
            assert np.array_equal(commands[field], undisturbed[field]), field
    else:
        assert BY_NAME[name].grade is Grade.LATCHED
        twin.step(1, Request.DISARMED)
        braked = twin.step(TICKS - 1, Request.DISARMED)
        assert commands["mode"][0] == Mode.BRAKING, "braking begins with the very tick"
        assert np.array_equal(commands["q"][1:], braked["q"]), "the stop is the one that disarming begins"
        arm.come_to_rest(Request.ARMED)
        assert (arm.mode, arm.memory.fault) == (Mode.FAULT, BY_NAME[name].code)
    verdict = oracle.judge(np.concatenate(arm.sent), STEP_SHARE, np.eye(4), 1.0, history=4)
    assert verdict.clean, verdict
    return name


@pytest.mark.parametrize("name", sorted(KINDS))
def test_bad_chunks_are_refused_whole(name: str) -> None:
    """417 chunks of each kind: none is executed in part; dropped ones change no command, others brake from that tick on."""
    spoil, expected = KINDS[name]
    troubles: Counter[str] = Counter()
    for number in range(PER_KIND):
        rng = np.random.default_rng([41, sorted(KINDS).index(name), number])
        arm, active = following_arm(rng)
        bad = successor(rng, arm, active)
        with np.errstate(over="ignore"):
            spoil(rng, bad, arm.tick)
        troubles[present(arm, bad, expected)] += 1
    print(name, dict(troubles))
    assert troubles.total() == PER_KIND


def test_there_are_enough_kinds_and_chunks() -> None:
    """At least 12 kinds and 10,000 chunks in total."""
    assert len(KINDS) >= 12
    assert len(KINDS) * PER_KIND >= 10_000


def test_the_chunks_are_valid_before_they_are_spoiled() -> None:
    """200 of the same chunks, left as they are, attach and run to their end: it is the spoiling that is refused."""
    for number in range(200):
        rng = np.random.default_rng([42, number])
        arm, active = following_arm(rng)
        arm.chunk = successor(rng, arm, active)
        arm.step(100)
        assert arm.memory.event_counts[1:] == [0] * (len(arm.memory.event_counts) - 1)
        assert arm.memory.mode == Mode.FOLLOWING
        assert int(arm.step(1)["chunk_id"][0]) == 20


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros(1, np.float64),
        np.zeros(CHUNK_SPLINE.itemsize // 8, np.float64),
        np.zeros(CHUNK_SPLINE.itemsize // 4, np.float32),
        np.zeros(2, CHUNK_SPLINE),
        np.zeros(CHUNK_SPLINE.itemsize, np.uint8),
        np.zeros((2, 50, 7)),
    ],
    ids=["number", "doubles", "floats", "two", "bytes", "actions"],
)
def test_arrays_of_another_shape_or_dtype_are_refused(wrong: Record) -> None:
    """What is no CHUNK_SPLINE raises TypeError before a tick is lived, and the arm goes on following."""
    arm, _ = following_arm(np.random.default_rng(43))
    before = arm.memory.tick
    with pytest.raises(TypeError, match="CHUNK_SPLINE"):
        _core.step(arm.state, wrong, Request.ARMED, arm.limits, arm.memory, np.zeros((), COMMAND))
    assert arm.memory.tick == before
    assert arm.step(1)["mode"][0] == Mode.FOLLOWING
