"""Joints that follow a pose: exact, along the shortest way, with the elbow where it is wanted, and never beyond reach."""

from __future__ import annotations

import numpy as np
import pytest

from poco.hw.emulator.arm import SimulatedArm
from poco.hw.emulator.inverse_kinematics import InverseKinematics, is_singular
from poco.hw.emulator.model import READY_RAD, fr3_mjcf
from poco.hw.emulator.posture import Posture
from poco.hw.emulator.tool import Tool
from poco.hw.emulator.transforms import Floats, difference, displaced, rotation_by

TICKS = 1000


@pytest.fixture
def posture() -> Posture:
    arm = SimulatedArm.from_mjcf(fr3_mjcf())
    return Posture(arm, Tool(arm))


def round_trip(posture: Posture, way: Floats, elbows: Floats | None = None) -> Floats:
    """Joint positions [TICKS + 1, 7] that follow the end effector `way` [6] out and back, its poses reached at every tick."""
    inverse = InverseKinematics(posture)
    inverse.begin(READY_RAD)
    origin, path = posture.O_T_EE, [READY_RAD]
    for tick in range(1, TICKS + 1):
        target = displaced(origin, way * (1 - np.cos(2 * np.pi * tick / TICKS)) / 2)
        q = inverse.solve(path[-1], target, None if elbows is None else float(elbows[tick]))
        assert q is not None
        posture.take(q)
        assert np.abs(difference(posture.O_T_EE, target)).max() < 1e-9
        path.append(q)
    return np.array(path)


def test_a_round_trip_is_smooth_and_comes_back_to_its_posture(posture: Posture) -> None:
    """0.2 m and 30 degrees out and back: no tick moves a joint suddenly, and the null space keeps the posture."""
    path = round_trip(posture, np.array([0.1, 0.15, -0.1, 0.2, 0.3, -0.35]))
    assert np.abs(np.diff(path, n=2, axis=0)).max() * 1e6 < 12
    assert np.abs(np.diff(path, n=3, axis=0)).max() * 1e9 < 3000
    np.testing.assert_allclose(path[-1], READY_RAD, atol=0.02)


def test_the_elbow_goes_where_it_is_told_while_the_end_effector_moves_as_before(posture: Posture) -> None:
    """Joint 3 follows its own command to the last digit, and so does the pose."""
    elbows = 0.3 * (1 - np.cos(np.pi * np.arange(TICKS + 1) / TICKS)) / 2
    path = round_trip(posture, np.array([0.05, 0.05, 0.05, 0.0, 0.0, 0.1]), elbows)
    np.testing.assert_allclose(path[:, 2], elbows, atol=1e-9)


def test_what_is_out_of_reach_has_no_solution(posture: Posture) -> None:
    """A pose a metre and a half away is beyond every posture of the arm."""
    inverse = InverseKinematics(posture)
    inverse.begin(READY_RAD)
    assert inverse.solve(READY_RAD, displaced(posture.O_T_EE, np.array([1.5, 0.0, 0.0, 0.0, 0.0, 0.0])), None) is None


def test_a_pose_is_singular_where_a_direction_is_lost(posture: Posture) -> None:
    """The ready pose is not; with joint 2 upright and joint 3 at a right angle the end effector cannot move one way."""
    assert not is_singular(posture)
    posture.take(np.array([0.0, 0.0, np.pi / 2, -1.5, 0.0, np.pi / 2, 0.0]))
    assert is_singular(posture)


@pytest.mark.parametrize("angle_rad", [0.0, 1e-12, 1e-6, 0.3, 2.5, 3.1])
def test_a_way_leads_from_one_pose_to_the_other(angle_rad: float) -> None:
    """`difference` is the inverse of `displaced` for angles from none to nearly half a turn."""
    origin = np.eye(4)
    origin[:3, :3], origin[:3, 3] = rotation_by(np.array([0.4, -0.2, 0.9])), (0.3, 0.1, 0.5)
    way = np.array([0.1, -0.2, 0.3, *(angle_rad * np.array([2.0, -1.0, 2.0]) / 3)])
    np.testing.assert_allclose(difference(origin, displaced(origin, way)), way, atol=1e-12, rtol=1e-9)
