"""The emulated gripper proves itself to the vendor's own client library, over real sockets and with a cube that can be held."""

from __future__ import annotations

import math
import subprocess
import sys
import time

import numpy as np
import pylibfranka
import pytest
from fci_client import Floats, StartEmulator, connect, finish, fresh_state, start

from poco.hw.cube_operator import CUBE_SIDE_M
from poco.hw.emulator.arm import SimulatedArm
from poco.hw.emulator.gripper_protocol import CONNECT_RESPONSE, HEADER, PAYLOADS, STATE, GripperCommand
from poco.hw.task_signals import EmulatorSignals
from poco.kinematics import inverse
from poco.limits import POSITION_MAX_RAD, POSITION_MIN_RAD

CUBE = ("--task", "cube", "--pacing", "lockstep")
FALL_TICKS = 500
FLANGE_T_TIP = np.eye(4)
FLANGE_T_TIP[:2, :2] = np.array([[1.0, 1.0], [-1.0, 1.0]]) * math.sqrt(0.5)
FLANGE_T_TIP[2, 3] = 0.1034
DOWN = np.diag([1.0, -1.0, -1.0])

MOVER = """
import sys, pylibfranka
gripper = pylibfranka.Gripper(sys.argv[1])
print("moving", flush=True)
try:
    print(gripper.move(0.0, 0.01))
except pylibfranka.CommandException as error:
    print("aborted" if "abort" in str(error) else error)
"""


def posture(near: Floats, position: Floats, yaw_rad: float) -> Floats:
    """Joints [7] that hold the tip at `position`, fingers downwards, turned by `yaw_rad`."""
    cosine, sine = math.cos(yaw_rad), math.sin(yaw_rad)
    rotation = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]]) @ DOWN
    q = near
    for _ in range(20):
        q, _, _ = inverse(q, position, rotation, FLANGE_T_TIP, q, POSITION_MIN_RAD + 0.05, POSITION_MAX_RAD - 0.05)
    return q


def go(robot: pylibfranka.Robot, goal: Floats, seconds: float) -> None:
    """Move the arm smoothly to the joints `goal` and end the motion there."""
    control = start(robot)
    state, _ = control.readOnce()
    first, ticks = np.array(state.q_d), round(seconds * 1000)
    for tick in range(1, ticks + 1):
        share = tick / ticks
        blend = 10 * share**3 - 15 * share**4 + 6 * share**5
        control.writeOnce(pylibfranka.JointPositions((first + (goal - first) * blend).tolist()))
        control.readOnce()
    control.writeOnce(pylibfranka.JointPositions(goal.tolist()))
    finish(control)


def test_sizes_are_those_of_the_protocol() -> None:
    """Headers, requests, responses and state have the published sizes of protocol 3."""
    sizes = [HEADER.itemsize + PAYLOADS[command].itemsize for command in GripperCommand]
    assert sizes == [14, 10, 50, 26, 10]
    assert (HEADER.itemsize, CONNECT_RESPONSE.itemsize, STATE.itemsize) == (10, 4, 23)


def test_homing_finds_the_width_that_moves_need(start_emulator: StartEmulator) -> None:
    """A gripper knows no largest width before homing and refuses to move; afterwards it goes where it is told and no further."""
    start_emulator("127.0.1.60", *CUBE)
    gripper = pylibfranka.Gripper("127.0.1.60")
    assert gripper.server_version() == 3
    assert gripper.read_once().max_width == 0.0
    with pytest.raises(pylibfranka.CommandException):
        gripper.move(0.04, 0.1)
    assert gripper.homing()
    state = gripper.read_once()
    assert state.max_width == pytest.approx(0.08)
    assert state.width == pytest.approx(0.08, abs=1e-3)
    assert gripper.move(0.03, 0.1)
    before = gripper.read_once()
    assert before.width == pytest.approx(0.03, abs=1e-3)
    assert gripper.read_once().time.to_sec() > before.time.to_sec()
    with pytest.raises(pylibfranka.CommandException):
        gripper.move(0.09, 0.1)
    with pytest.raises(pylibfranka.CommandException):
        gripper.move(0.04, 0.0)


def test_grasps_of_nothing_depend_on_the_tolerance(start_emulator: StartEmulator) -> None:
    """Between empty fingers a narrow tolerance says that nothing is held, the wide one calls closed fingers a grasp."""
    start_emulator("127.0.1.61", *CUBE)
    gripper = pylibfranka.Gripper("127.0.1.61")
    gripper.homing()
    assert not gripper.grasp(0.04, 0.1, 20.0)
    assert not gripper.read_once().is_grasped
    assert gripper.grasp(0.0, 0.1, 20.0, 0.2, 0.2)
    assert gripper.read_once().width == pytest.approx(0.0, abs=1e-3)
    with pytest.raises(pylibfranka.CommandException):
        gripper.grasp(0.04, 0.1, 0.0)


def test_a_second_connection_stops_what_the_first_began(start_emulator: StartEmulator) -> None:
    """While one process waits in a slow move another reads states, is refused a move of its own, and stops it: aborted."""
    start_emulator("127.0.1.62", *CUBE)
    gripper = pylibfranka.Gripper("127.0.1.62")
    gripper.homing()
    mover = subprocess.Popen([sys.executable, "-c", MOVER, "127.0.1.62"], stdout=subprocess.PIPE, text=True)
    assert mover.stdout is not None
    assert mover.stdout.readline() == "moving\n"
    while gripper.read_once().width > 0.07:
        time.sleep(0.01)
    with pytest.raises(pylibfranka.CommandException):
        gripper.move(0.08, 0.1)
    assert gripper.stop()
    assert mover.communicate(timeout=60)[0] == "aborted\n"
    stopped = gripper.read_once().width
    assert 0.0 < stopped < 0.07
    time.sleep(0.2)
    assert gripper.read_once().width == pytest.approx(stopped, abs=1e-3)


def test_a_cube_is_held_lifted_and_let_go(start_emulator: StartEmulator) -> None:
    """Arm and gripper together: the cube between the fingers ends the grasp at its width, hangs on them, and falls when let go."""
    start_emulator("127.0.1.63", *CUBE, "--seed", "3")
    gripper = pylibfranka.Gripper("127.0.1.63")
    gripper.homing()
    robot = connect("127.0.1.63")
    with EmulatorSignals("127.0.1.63") as signals:
        cube = signals.read(0)
        x, y, z = cube.target_position
        ready = np.array(fresh_state(robot).q)
        above = posture(ready, np.array([x, y, 0.15]), cube.target_yaw)
        down = posture(above, np.array([x, y, 0.02]), cube.target_yaw)
        go(robot, above, 2.0)
        go(robot, down, 1.5)
        assert gripper.grasp(CUBE_SIDE_M, 0.1, 30.0)
        state = gripper.read_once()
        assert state.is_grasped
        assert state.width == pytest.approx(CUBE_SIDE_M, abs=1e-3)
        go(robot, above, 1.5)
        lifted = signals.read(0).target_position
        assert lifted[2] - z == pytest.approx(0.13, abs=0.005)
        assert gripper.read_once().is_grasped
        assert gripper.move(0.08, 0.1)
        assert not gripper.read_once().is_grasped
        let_go = signals.status().tick
        while signals.status().tick < let_go + FALL_TICKS:
            time.sleep(0.01)
        assert signals.read(0).target_position[2] == pytest.approx(z, abs=0.005)
        assert signals.status().reflexes == 0


def test_moving_fingers_leave_the_arms_model_true() -> None:
    """The hand weighs the same with fixed and with moving fingers, and the arm carries nearly the same gravity."""
    from poco.hw.emulator.model import fr3_mjcf

    fixed, moving = (SimulatedArm.from_mjcf(fr3_mjcf(moving_fingers=flag)) for flag in (False, True))
    assert moving.model.nv == fixed.model.nv + 2
    np.testing.assert_allclose(moving.model.body_mass.sum(), fixed.model.body_mass.sum())
    np.testing.assert_allclose(moving.tau_bias, fixed.tau_bias, atol=0.05)
