"""What a chunk asks of the gripper is asked at the right tick, once, and by nothing that the arm does not do."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from poco.chunks import ChunkSequence
from poco.errors import ArtifactError
from poco.gripping import ATTACH_GRACE_TICKS, GripperWill, Order, Timetable
from poco.limits import PLANNING_MARGINS, Guards, fr3_limits
from poco.motion import Outcome
from poco.observation import check_sources, observe
from poco.records import ROBOT_STATE, TaskSignal
from poco.settings import GripperSettings
from poco.specification import Field, Specification
from reach_task import SPECIFICATION

WIDTH = Field(name="width", source="gripper_width", frame="hand", unit="m", low=(0.0,), high=(0.08,))
GRIPPING = msgspec.structs.replace(
    SPECIFICATION,
    gripper="width",
    action=(*SPECIFICATION.action, WIDTH),
    observation=(*SPECIFICATION.observation, WIDTH),
)
SETTINGS = GripperSettings(
    speed_m_s=0.1,
    force_n=30.0,
    close_below_m=0.03,
    hysteresis_m=0.005,
    lead_s=0.1,
    start_width_m=0.08,
    age_max_s=1.0,
)
OPEN, CLOSED = 1.0, -1.0
NOTHING = float("nan")


def sequence(specification: Specification = GRIPPING) -> ChunkSequence:
    limits = fr3_limits(PLANNING_MARGINS, Guards(), specification.tip)
    chunks = ChunkSequence(specification, limits)
    chunks.begin(1000, specification.rest_q)
    return chunks


def actions(*widths: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """A chunk that moves the tip a little and asks for each of `widths` (action units) in turn."""
    chunk = np.zeros((GRIPPING.chunk_steps, GRIPPING.action_size))
    chunk[:, 0], chunk[:, -1] = 0.1, widths
    return chunk


def test_every_action_asks_for_its_width_while_it_is_executed() -> None:
    """In the planned chunk each control period carries the width of its action, the end of the motion that of the last."""
    plan, _ = sequence().plan(actions(OPEN, OPEN, CLOSED, CLOSED, OPEN))
    timetable = Timetable()
    timetable.add(plan.spline)
    attach, chunk_id = int(plan.spline["attach_tick"]), int(plan.spline["chunk_id"])
    assert attach == 1050
    middles = [timetable.width_m(attach + 50 * action + 25, chunk_id, 0) for action in range(5)]
    assert middles == pytest.approx([0.08, 0.08, 0.0, 0.0, 0.08])
    end = attach + int(plan.spline["knots"][int(plan.spline["segments"])])
    assert timetable.width_m(end + 500, chunk_id, 0) == pytest.approx(0.08)
    assert np.isnan(timetable.width_m(attach - 1, 0, 0))


def test_a_specification_without_gripper_asks_for_nothing() -> None:
    """Chunks of an arm alone leave every segment without a width."""
    plan, _ = sequence(SPECIFICATION).plan(np.zeros((5, 4)))
    assert np.isnan(plan.spline["gripper"][: int(plan.spline["segments"])]).all()


def test_a_width_that_is_no_number_is_refused_as_a_motion_is() -> None:
    """A chunk with a NaN for the gripper is not sent."""
    plan, periods = sequence().plan(actions(OPEN, NOTHING, OPEN, OPEN, OPEN))
    assert (plan.outcome, periods) == (Outcome.REFUSED, [])


def test_targets_are_looked_up_their_lead_early_across_the_seam() -> None:
    """Before a chunk attaches its predecessor counts, except for what lies beyond the seam; a dropped chunk asks for nothing."""
    chunks, timetable = sequence(), Timetable()
    first, _ = chunks.plan(actions(OPEN, OPEN, OPEN, OPEN, OPEN))
    second, _ = chunks.plan(actions(CLOSED, CLOSED, CLOSED, CLOSED, CLOSED))
    for plan in (first, first, second):
        timetable.add(plan.spline)
    one, two, seam = int(first.spline["chunk_id"]), int(second.spline["chunk_id"]), int(second.spline["attach_tick"])
    assert timetable.width_m(seam - 101, one, 100) == pytest.approx(0.08)
    assert timetable.width_m(seam - 100, one, 100) == pytest.approx(0.0)
    assert timetable.width_m(seam + 10, two, 100) == pytest.approx(0.0)
    dropped = seam + ATTACH_GRACE_TICKS
    assert timetable.width_m(dropped, one, 100) == pytest.approx(0.08)
    assert np.isnan(timetable.width_m(dropped, 0, 100))


def test_only_new_targets_become_orders() -> None:
    """A small target is a grasp, a large one a move no wider than homing found; what differs by less than the hysteresis is old."""
    will = GripperWill(SETTINGS)
    assert will.order(NOTHING, 0.08) is None
    asked = [0.09, 0.08, 0.076, 0.06, 0.0, 0.01, 0.034, 0.036, 0.0]
    orders = [will.order(width, 0.08) for width in asked]
    assert orders == [
        Order("move", 0.08),
        None,
        None,
        Order("move", 0.06),
        Order("grasp", 0.0),
        None,
        None,
        Order("move", 0.036),
        Order("grasp", 0.0),
    ]
    will.forget()
    assert will.order(0.0, 0.08) == Order("grasp", 0.0)
    assert will.lead_ticks == 100


def test_a_width_that_trembles_at_the_bound_does_not_shake_the_gripper() -> None:
    """Ten thousand targets that tremble about the bound between move and grasp make at most a handful of orders."""
    will, random = GripperWill(SETTINGS), np.random.default_rng(0)
    targets = SETTINGS.close_below_m + random.uniform(-0.002, 0.002, 10_000)
    assert 1 <= sum(will.order(float(target), 0.08) is not None for target in targets) <= 2


def test_the_width_is_an_observation_like_any_other() -> None:
    """A field with the source gripper_width is filled from the state; without a gripper it is refused before motion."""
    state = np.zeros((), ROBOT_STATE)
    state["q"] = state["q_c"] = GRIPPING.rest_q
    state["gripper_width"] = 0.06
    signal = TaskSignal(
        tick=0, target_position=(0.0, 0.0, 0.0), target_yaw=0.0, noise_m=0.0, noise_rad=0.0, outcome="running"
    )
    check_sources(GRIPPING)
    assert observe(state, signal, GRIPPING)[-1] == pytest.approx(0.5)
    blind = msgspec.structs.replace(SPECIFICATION, observation=GRIPPING.observation)
    with pytest.raises(ArtifactError, match="gripper: none"):
        check_sources(blind)


def test_fingers_close_from_any_width() -> None:
    """Also where they were told one that is nearer to shut than the hysteresis, and they open again behind it."""
    will = GripperWill(msgspec.structs.replace(SETTINGS, close_below_m=0.004, hysteresis_m=0.005))
    orders = [will.order(target_m, 0.08) for target_m in (0.0045, 0.0, 0.0, 0.008, 0.0095)]
    assert orders == [Order("move", 0.0045), Order("grasp", 0.0), None, None, Order("move", 0.0095)]
