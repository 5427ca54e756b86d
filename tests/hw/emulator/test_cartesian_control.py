"""Cartesian pose and velocity control of the emulated arm, by the vendor's own client: motion, limits, losses, states."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pylibfranka
import pytest
from fci_client import (
    OUT_AND_BACK,
    TICKS,
    WAY,
    StartEmulator,
    command_pose,
    connect,
    errors_of,
    follow_ways,
    fresh_state,
    pose,
    recover,
    start,
)

from poco.hw.emulator.transforms import Floats, difference, displaced, rotation_by
from poco.hw.fault_script import Drop, Entry
from poco.hw.task_signals import EmulatorSignals

BARE = ("--task", "none", "--pacing", "lockstep", "--recovery-delay-s", "0.05")
TOLERANCE = 2e-6
"""States are in single precision."""


def pose_control(robot: pylibfranka.Robot) -> pylibfranka.ActiveControlBase:
    return robot.start_cartesian_pose_control(pylibfranka.ControllerMode.JointImpedance)


def velocity_control(robot: pylibfranka.Robot) -> pylibfranka.ActiveControlBase:
    return robot.start_cartesian_velocity_control(pylibfranka.ControllerMode.JointImpedance)


def follow_twists(control: pylibfranka.ActiveControlBase, twists: Iterable[Floats]) -> list[pylibfranka.RobotState]:
    """Command each twist [6] (m/s, rad/s); return the states that were answered."""
    states: list[pylibfranka.RobotState] = []
    for twist in twists:
        states.append(control.readOnce()[0])
        control.writeOnce(pylibfranka.CartesianVelocities(twist.tolist()))
    return states


def finish(control: pylibfranka.ActiveControlBase, command: Callable[[pylibfranka.RobotState], object]) -> None:
    last = command(control.readOnce()[0])
    last.motion_finished = True  # type: ignore[attr-defined]
    control.writeOnce(last)


def test_the_end_effector_follows_poses_and_the_states_say_how(start_emulator: StartEmulator) -> None:
    """Commanded, desired and measured pose agree along a way of 0.13 m and 15 degrees, there and back to where it began."""
    start_emulator("127.0.30.21", *BARE)
    robot = connect("127.0.30.21")
    model = robot.load_model()
    control = pose_control(robot)
    states = follow_ways(control, np.outer(OUT_AND_BACK, WAY))
    origin = pose(states[0].O_T_EE_c)
    assert np.abs(difference(origin, pose(states[TICKS // 2].O_T_EE)) - WAY).max() < 1e-3
    for tick in range(1, TICKS, 50):
        state, commanded = states[tick], displaced(origin, OUT_AND_BACK[tick - 1] * WAY)
        np.testing.assert_allclose(pose(state.O_T_EE_c), commanded, atol=TOLERANCE)
        np.testing.assert_allclose(pose(state.O_T_EE_d), commanded, atol=TOLERANCE)
        np.testing.assert_allclose(pose(state.O_T_EE), commanded, atol=2e-3)
        jacobian = np.array(model.zero_jacobian(state)).reshape(7, 6).T
        np.testing.assert_allclose(state.O_dP_EE_d, jacobian @ state.dq_d, atol=2e-3)
        np.testing.assert_allclose(state.O_dP_EE_c, state.O_dP_EE_d, atol=2e-3)
        assert state.elbow_c == state.elbow_d
        assert (state.delbow_c[0], state.ddelbow_c[0]) == (state.dq_d[2], state.ddq_d[2])
    accelerations = np.diff([state.O_dP_EE_c for state in states], axis=0) * 1e3
    np.testing.assert_allclose([state.O_ddP_EE_c for state in states[1:]], accelerations, atol=1e-3)
    np.testing.assert_allclose(states[-1].q_d, states[0].q_d, atol=0.01)
    finish(control, lambda state: command_pose(pose(state.O_T_EE_c)))
    assert fresh_state(robot).robot_mode == pylibfranka.RobotMode.Idle
    with EmulatorSignals("127.0.30.21") as signals:
        status = signals.status()
    assert (status.commands_lost, status.commands_invalid, status.reflexes) == (0, 0, 0)


def test_the_end_effector_moves_by_the_integral_of_its_twist(start_emulator: StartEmulator) -> None:
    """A twist turns about the end effector along the axes of the base, wherever set_EE puts it; the states integrate it."""
    start_emulator("127.0.30.22", *BARE)
    robot = connect("127.0.30.22")
    tool = np.eye(4)
    tool[:3, :3], tool[:3, 3] = rotation_by(np.array([0.0, 0.3, 0.0])), (0.02, 0.0, 0.1)
    robot.set_EE(tool.T.ravel().tolist())
    control = velocity_control(robot)
    twists = np.outer(OUT_AND_BACK, np.array([0.1, 0.05, -0.1, 0.0, 0.0, 0.4]))
    states = follow_twists(control, twists)
    np.testing.assert_allclose([state.O_dP_EE_c for state in states[1:]], twists[:-1], atol=1e-6)
    expected = pose(states[0].O_T_EE_c)
    for twist in twists[:-1]:
        expected = displaced(expected, twist * 1e-3)
    np.testing.assert_allclose(pose(states[-1].O_T_EE_c), expected, atol=TOLERANCE)
    np.testing.assert_allclose(pose(states[-1].O_T_EE_d), expected, atol=TOLERANCE)
    np.testing.assert_allclose(pose(states[-1].O_T_EE), expected, atol=1e-4)
    finish(control, lambda state: pylibfranka.CartesianVelocities([0.0] * 6))
    assert fresh_state(robot).robot_mode == pylibfranka.RobotMode.Idle


FORWARD, TURN = np.array([1.0, 0, 0, 0, 0, 0]), np.array([0, 0, 0, 0, 0, 1.0])


def twists(direction: Floats, accelerations: Iterable[float]) -> Floats:
    """Twists [N, 6] along `direction` that each tick's acceleration (m/s^2 or rad/s^2) adds up to, from rest."""
    return np.outer(np.cumsum(np.fromiter(accelerations, np.float64)) * 1e-3, direction)


LIMITS = {
    "cartesian_motion_generator_velocity_limits_violation": twists(TURN, [4.9] + [8.0] * 400),
    "cartesian_motion_generator_velocity_discontinuity": twists(TURN, [4.9, 9.8, 17.8]),
    "cartesian_motion_generator_acceleration_discontinuity": twists(FORWARD, [5.0]),
    "cartesian_motion_generator_joint_velocity_limits_violation": twists(FORWARD, [1.0] * 300 + [0.0] * 1200),
    "cartesian_motion_generator_joint_velocity_discontinuity": twists(TURN, [4.0, 8.0, 12.0]),
    "cartesian_motion_generator_joint_acceleration_discontinuity": twists(TURN, [8.4]),
}


def test_every_limit_has_its_vendor_error_on_the_side_that_broke_it(start_emulator: StartEmulator) -> None:
    """Twists too fast or sudden for the end effector, or only for the joints behind it, are reflexes of that name alone."""
    start_emulator("127.0.30.23", *BARE)
    robot = connect("127.0.30.23")
    for name, motion in LIMITS.items():
        assert aborted(robot, motion) == [name]
        recover(robot)
        assert np.abs(fresh_state(robot).dq_d).max() == 0.0
    with pytest.raises(pylibfranka.ControlException, match="motion_generator_start_pose_invalid"):
        follow_ways(pose_control(robot), [0.01 * FORWARD] * 3)
    recover(robot)
    jump = [0.0 * FORWARD, 0.001 * FORWARD, 0.001 * FORWARD]
    control = pose_control(robot)
    assert errors_of(lambda: follow_ways(control, jump)) == [
        "cartesian_motion_generator_velocity_discontinuity",
        "cartesian_motion_generator_acceleration_discontinuity",
    ]


def test_lost_commands_go_on_with_constant_cartesian_acceleration(start_emulator: StartEmulator) -> None:
    """Ten losses in a ramp are bridged by the ramp itself, so that the next command is no jump; twenty are a reflex."""
    start_emulator("127.0.30.24", *BARE)
    robot = connect("127.0.30.24")
    control = velocity_control(robot)
    ramp = twists(np.array([0.5, 0.5, 0.0, 0.0, 0.5, 0.0]), [2.0] * 100)
    with EmulatorSignals("127.0.30.24") as signals:
        signals.inject([Entry(fault=Drop(what="commands", count=10), at=30)])
        states = follow_twists(control, ramp)
        np.testing.assert_allclose([state.O_dP_EE_c for state in states[1:]], ramp[:-1], atol=1e-6)
        assert (signals.status().commands_lost, signals.status().reflexes) == (10, 0)
        signals.inject([Entry(fault=Drop(what="commands", count=20), at=1)])
        assert errors_of(lambda: follow_twists(control, [ramp[-1]] * 30)) == ["communication_constraints_violation"]


def test_a_stopped_motion_brakes_and_the_next_begins_where_it_came_to_rest(start_emulator: StartEmulator) -> None:
    """A client that stops in full motion is told that it was preempted; O_T_EE_c is then where the arm stands."""
    start_emulator("127.0.30.25", *BARE)
    robot = connect("127.0.30.25")
    control = velocity_control(robot)
    ramp = twists(FORWARD, [1.0] * 100)
    begin = pose(follow_twists(control, ramp)[0].O_T_EE_c)
    robot.stop()
    with pytest.raises(pylibfranka.ControlException, match="preempted"):
        follow_twists(control, [ramp[-1]] * 2)
    del control
    control = pose_control(robot)
    states = follow_ways(control, np.zeros((100, 6)))
    assert difference(begin, pose(states[0].O_T_EE_c))[0] > 0.005
    assert np.abs(states[-1].dq_d).max() < 1e-9
    np.testing.assert_allclose(pose(states[-1].O_T_EE), pose(states[0].O_T_EE_c), atol=1e-4)


def test_no_cartesian_motion_starts_at_a_singular_pose(start_emulator: StartEmulator) -> None:
    """With joint 2 upright and joint 3 at a right angle the arm refuses Cartesian motions in the vendor's words, and no others."""
    start_emulator("127.0.30.26", *BARE)
    robot = connect("127.0.30.26")
    ready = np.array(robot.read_once().q_d)
    singular = np.array([0.0, 0.0, np.pi / 2, *ready[3:]])
    phase = np.linspace(0, 1, 2500)
    control = start(robot)
    for share in phase - np.sin(2 * np.pi * phase) / (2 * np.pi):
        control.readOnce()
        control.writeOnce(pylibfranka.JointPositions((ready + share * (singular - ready)).tolist()))
    robot.stop()
    del control
    for begin in (pose_control, velocity_control):
        with pytest.raises(pylibfranka.CommandException, match="singular pose"):
            begin(robot)
    assert start(robot).readOnce()[0].robot_mode == pylibfranka.RobotMode.Move


def aborted(robot: pylibfranka.Robot, motion: Floats) -> list[str]:
    """Command the twists of `motion` [N, 6] until the arm aborts it, and return the names of its errors."""
    control = velocity_control(robot)
    return errors_of(lambda: follow_twists(control, [*motion, *[motion[-1]] * 3]))
