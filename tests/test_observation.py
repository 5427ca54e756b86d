"""What a policy is shown: every source of a specification exists, has its size and carries its unit through scaling."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from poco.errors import ArtifactError
from poco.observation import QUANTITIES, UNITS, check_sources, observe, sees_target, wrap
from poco.records import ROBOT_STATE, TaskSignal
from poco.specification import Field, Specification


def with_field(specification: Specification, source: str, size: int) -> Specification:
    """The specification with one observation field of `size` elements from `source`."""
    unit = UNITS.get(source, "m")
    field = Field(name="seen", source=source, frame="base", unit=unit, low=(-2.0,) * size, high=(2.0,) * size)
    return msgspec.structs.replace(specification, observation=(field,))


def with_gripper(specification: Specification) -> Specification:
    """The specification with a gripper whose width is the last element of an action."""
    width = Field(name="width", source="gripper_width", frame="hand", unit="m", low=(0.0,), high=(0.08,))
    return msgspec.structs.replace(specification, gripper="width", action=(*specification.action, width))


@pytest.mark.parametrize(
    ("source", "size", "words"),
    [
        ("tip_postion", 3, "did you mean tip_position?"),
        ("tip_position", 2, "has 2 elements, its source tip_position gives 3"),
    ],
)
def test_wrong_sources_are_refused_before_motion(
    specification: Specification, source: str, size: int, words: str
) -> None:
    """An unknown source and one of another size give one sentence that names what would be right."""
    with pytest.raises(ArtifactError, match=words):
        check_sources(with_field(specification, source, size))


def test_wrong_units_and_actions_are_refused_before_motion(specification: Specification) -> None:
    """Bounds in another unit, and actions in another order or of another name, would move the arm otherwise than meant."""
    step, turn = specification.action
    for wrong, words in (
        ({"observation": (msgspec.structs.replace(specification.observation[0], unit="mm"),)}, "is in mm, .* give low"),
        ({"action": (step, msgspec.structs.replace(turn, unit="deg"))}, "yaw_step is in deg"),
        ({"action": (turn, step)}, r"yaw_step \(1\), tip_step \(3\), .* has tip_step \(3\), yaw_step \(1\)"),
        ({"action": (msgspec.structs.replace(step, source="step"), turn)}, r"sources step \(3\)"),
    ):
        with pytest.raises(ArtifactError, match=words):
            check_sources(msgspec.structs.replace(specification, **wrong))
    axes = [msgspec.structs.replace(step, name=axis, low=step.low[:1], high=step.high[:1]) for axis in "xyz"]
    check_sources(msgspec.structs.replace(specification, action=(*axes, turn)))


def test_every_quantity_can_be_observed(specification: Specification) -> None:
    """Each quantity passes the check with its own size and gives finite numbers in [-1, 1]."""
    sizes = {"joint_position": 7, "joint_velocity": 7, "tip_yaw": 1, "target_yaw_offset": 1, "lead_yaw": 1}
    sizes["gripper_width"] = 1
    state = np.zeros((), ROBOT_STATE)
    state["q"] = state["q_c"] = specification.rest_q
    signal = TaskSignal(
        tick=0, target_position=(0.5, 0.0, 0.1), target_yaw=0.1, noise_m=0.0, noise_rad=0.0, outcome="running"
    )
    for source in QUANTITIES:
        holding = with_gripper(specification) if source == "gripper_width" else specification
        one = with_field(holding, source, sizes.get(source, 3))
        check_sources(one)
        seen = observe(state, signal, one)
        assert seen.shape == (one.observation_size,)
        assert np.all(np.abs(seen) <= 1.0)
        elsewhere = msgspec.structs.replace(signal, target_position=(0.4, 0.3, 0.2), target_yaw=-0.4)
        assert sees_target(one) != np.array_equal(observe(state, elsewhere, one), seen)


@pytest.mark.parametrize(("turns", "expected"), [(0.25, np.pi / 2), (-0.75, np.pi / 2), (2.0, 0.0), (0.5, np.pi)])
def test_angles_are_brought_into_one_turn(turns: float, expected: float) -> None:
    """`wrap` keeps (-pi, pi], the half turn included."""
    assert wrap(2.0 * np.pi * turns) == pytest.approx(expected, abs=1e-12)
