"""The springs of the robot client beside the emulated arm: where they begin and how hard they push."""

from __future__ import annotations

import numpy as np
import pytest

from poco.hw.emulator.arm import SimulatedArm
from poco.hw.emulator.model import READY_RAD, fr3_mjcf
from poco.hw.emulator.polymetis.client import (
    BOX_MIN_M,
    SPEED_MAX_RAD_S,
    SPRING_M,
    SPRING_N_M,
    SPRING_NM_RAD,
    SPRING_NM_S_RAD,
    RobotClient,
    metadata,
)
from poco.hw.emulator.polymetis.host import ControllerHost
from poco.hw.emulator.tool import Tool
from poco.hw.polymetis.polymetis_pb2 import RobotState
from poco.limits import POSITION_MAX_RAD
from told_controller import Floats

STEP_RAD = 1e-4


@pytest.fixture
def arm() -> SimulatedArm:
    """An arm at rest in its ready pose."""
    return SimulatedArm.from_mjcf(fr3_mjcf())


def pushed_back(arm: SimulatedArm) -> Floats:
    """What the robot client adds to the torques of the server [7] (N m) in its first tick, as its next state tells."""
    host, client = ControllerHost(), RobotClient(arm, 0)
    host.init_client(metadata())
    for _ in range(2):
        client.advance(host)
    assert not client.aborts
    state = RobotState.FromString(host.states.newest())
    safened, computed = state.prev_joint_torques_computed_safened, state.prev_joint_torques_computed
    added: Floats = np.array(safened) - np.array(computed)
    return added


def turned(joint: int, angle_rad: float) -> Floats:
    """The ready pose with one joint elsewhere."""
    q = READY_RAD.copy()
    q[joint] = angle_rad
    return q


def only(joint: int, value: float) -> Floats:
    """Zeros [7] but for one joint."""
    values: Floats = np.eye(7)[joint] * value
    return values


def test_none_in_the_open(arm: SimulatedArm) -> None:
    """Far from every bound the server's torques go to the arm as they are."""
    np.testing.assert_array_equal(pushed_back(arm), 0.0)


@pytest.mark.parametrize(("inside_rad", "into_rad"), [(0.31, 0.0), (0.25, 0.05), (0.15, 0.15)])
def test_near_the_end_of_a_joint(arm: SimulatedArm, inside_rad: float, into_rad: float) -> None:
    """From 0.2 rad before the client's own bound, 0.1 rad inside the joint's end, 50 N m a radian back."""
    arm.reset(turned(4, POSITION_MAX_RAD[4] - inside_rad))
    np.testing.assert_allclose(pushed_back(arm), only(4, -SPRING_NM_RAD * into_rad), atol=1e-5)


@pytest.mark.parametrize("way", [1.0, -1.0])
def test_near_the_greatest_speed(arm: SimulatedArm, way: float) -> None:
    """From 0.5 rad/s below the bound 20 N m for each rad/s, against the motion."""
    arm.data.qvel[6] = way * (SPEED_MAX_RAD_S[6] - 0.2)
    np.testing.assert_allclose(pushed_back(arm), only(6, -way * SPRING_NM_S_RAD * 0.3), atol=1e-5)


def test_near_a_wall_of_the_box(arm: SimulatedArm) -> None:
    """In the last 5 cm a force of 200 N a metre on the end effector, back into the box."""
    beside = turned(0, 1.2)
    x_m, slopes_m = end_effector_x_m(arm, beside), np.zeros(7)
    for joint in range(7):
        step_rad = only(joint, STEP_RAD)
        slopes_m[joint] = end_effector_x_m(arm, beside + step_rad) - end_effector_x_m(arm, beside - step_rad)
    assert BOX_MIN_M[0] < x_m < BOX_MIN_M[0] + SPRING_M
    force_n = SPRING_N_M * (BOX_MIN_M[0] + SPRING_M - x_m)
    arm.reset(beside)
    np.testing.assert_allclose(pushed_back(arm), force_n * slopes_m / (2 * STEP_RAD), atol=1e-4)


def end_effector_x_m(arm: SimulatedArm, q: Floats) -> float:
    """Where the end effector is with the arm at `q` [7] (rad)."""
    arm.reset(q)
    return float(Tool(arm).O_T_EE[0, 3])
