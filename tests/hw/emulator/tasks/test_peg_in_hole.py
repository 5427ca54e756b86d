"""The peg-in-hole scene: geometry, contact, placing, sensing and outcome."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import poco
from poco.errors import UsageError
from poco.hw.emulator.tasks.peg_in_hole import (
    CENTRE_M,
    EASY,
    GUARDS,
    HARD,
    HOLE_DEPTH_M,
    RIM_HEIGHT_M,
    SPREAD_M,
    SPREAD_RAD,
    START_HEIGHT_M,
    SUCCESS_DEPTH_M,
    PegInHole,
    PegInHoleParameters,
    parameters,
)
from poco.kinematics import forward, inverse
from poco.limits import POSITION_MAX_RAD, POSITION_MIN_RAD
from poco.settings import read_settings
from poco.specification import read_specification

CONFIGS = Path(poco.__file__).parent / "configs"
SPECIFICATION = read_specification(CONFIGS / "peg_in_hole_specification.yaml")
Floats = npt.NDArray[np.float64]
REST = np.array(SPECIFICATION.rest_q)


def lower_beside_hole(task: PegInHole, offset_m: npt.ArrayLike) -> tuple[float, float]:
    """Lower the peg `offset_m` [2] beside the axis of an unturned hole at 25 mm/s.

    Returns the depth at the first touch (m) and the largest external torque (N m).
    """
    centre = np.array([*CENTRE_M, RIM_HEIGHT_M])
    rotation = forward(REST, SPECIFICATION.tip)[1]

    def posture(start: Floats, below_m: float) -> Floats:
        tip = centre + np.array([*np.asarray(offset_m), -below_m])
        found: Floats = inverse(start, tip, rotation, SPECIFICATION.tip, REST, POSITION_MIN_RAD, POSITION_MAX_RAD)[0]
        return found

    task.put(centre, 0.0)
    q = posture(REST, -0.002)
    task.arm.reset(q)
    depth_at_touch, torque = 0.0, 0.0
    for tick in range(1300):
        before, q = q, posture(q, min(HOLE_DEPTH_M - 0.002, 25e-6 * tick - 0.002))
        task.arm.advance(q, (q - before) * 1000.0, np.zeros(7))
        torque = max(torque, float(np.abs(task.arm.tau_ext).max()))
        if torque < 1.0:
            depth_at_touch = task.depth_m
    return depth_at_touch, torque


def test_tip_of_scene_is_tip_of_specification() -> None:
    """The site at the peg's lower end is where the specification's flange_t_tip says, and the start is above the centre."""
    task = PegInHole(EASY)
    task.arm.reset(REST)
    position, rotation = forward(REST, SPECIFICATION.tip)
    site = task.arm.data.site("tip")
    np.testing.assert_allclose(site.xpos, position, atol=1e-9)
    np.testing.assert_allclose(site.xmat.reshape(3, 3), rotation, atol=1e-9)
    np.testing.assert_allclose(position, [*CENTRE_M, RIM_HEIGHT_M + START_HEIGHT_M], atol=1e-6)
    np.testing.assert_allclose(rotation, np.diag([1.0, -1.0, -1.0]), atol=1e-6)


@pytest.mark.parametrize("task", [EASY, HARD, replace(HARD, peg_side_m=0.030)])
def test_aligned_peg_goes_in(task: PegInHoleParameters) -> None:
    """A peg on the axis reaches the success depth without touching the walls."""
    scene = PegInHole(task)
    depth, torque = lower_beside_hole(scene, (0.0, 0.0))
    assert depth >= SUCCESS_DEPTH_M
    assert scene.outcome == "success"
    assert torque < 1e-3


@pytest.mark.parametrize("direction", [(1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0)])
def test_peg_beside_hole_stays_out(direction: tuple[float, float]) -> None:
    """A peg that is off by the clearance and 1 mm more lands on the rim, on every side, and is felt there."""
    depth, torque = lower_beside_hole(PegInHole(EASY), np.array(direction) * (EASY.clearance_m + 0.001))
    assert depth < 0.001
    assert torque > 5.0


def test_place_is_random_and_repeatable() -> None:
    """The hole stays inside its region, differs between seeds and is the same for the same seed."""
    task = PegInHole(EASY)
    places = []
    for seed in range(50):
        task.place(seed)
        places.append([*task.hole_position, task.hole_yaw])
    offsets = np.abs(np.array(places) - [*CENTRE_M, RIM_HEIGHT_M, 0.0])
    assert (offsets <= [SPREAD_M, SPREAD_M, 0.0, SPREAD_RAD]).all()
    assert (offsets.max(axis=0)[[0, 1, 3]] > 0.8 * np.array([SPREAD_M, SPREAD_M, SPREAD_RAD])).all()
    assert len(np.unique(places, axis=0)) == 50
    again = PegInHole(EASY, seed=7)
    assert [*again.hole_position, again.hole_yaw] == places[7]


def test_sensor_noise_is_as_stated_and_repeatable() -> None:
    """Noise has the stated deviation about the true pose and depends on the seed and the ticks since the first look alone."""
    task, twin = PegInHole(EASY, seed=3), PegInHole(EASY, seed=3)
    seen = [task.signal(tick) for tick in range(800)]
    later = [twin.signal(tick) for tick in (5000, 5700)]
    assert [signal.target_position for signal in later] == [seen[0].target_position, seen[700].target_position]
    position = np.array([signal.target_position for signal in seen]) - task.hole_position
    yaw = np.array([signal.target_yaw for signal in seen]) - task.hole_yaw
    assert position.std() == pytest.approx(EASY.noise_m, rel=0.1)
    assert yaw.std() == pytest.approx(EASY.noise_rad, rel=0.1)
    assert {signal.outcome for signal in seen} == {"running"}


def test_settings_file_says_what_the_task_assumes() -> None:
    """The robot's settings for this task have the impedance, collision thresholds and guards of the environment."""
    settings = read_settings(CONFIGS / "fr3_peg_in_hole.yaml", {})
    assert settings.robot.joint_impedance_nm_rad == EASY.joint_impedance_nm_rad
    assert settings.robot.collision_torque_nm == EASY.collision_torque_nm
    assert settings.robot.collision_force_n == EASY.collision_force_n
    assert settings.guards.guards() == GUARDS


@pytest.mark.parametrize("wrong", [{"clearance_m": 0.0}, {"peg_side_m": 0.2}, {"noise_m": -1.0}, {"bias_m": 1.0}])
def test_impossible_parameters_are_refused(wrong: dict[str, float]) -> None:
    """A value that makes no block is named with its limits."""
    with pytest.raises(UsageError, match=next(iter(wrong))):
        replace(EASY, **wrong)  # type: ignore[arg-type]


def test_unknown_variant_is_refused() -> None:
    """The sentence names the variants there are."""
    with pytest.raises(UsageError, match="easy, hard"):
        parameters("medium")  # type: ignore[arg-type]
