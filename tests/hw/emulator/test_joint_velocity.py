"""Joint velocity control of the emulated arm, by the vendor's own client: what it accepts, how it moves, how it ends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pylibfranka
import pytest
from fci_client import Floats, StartEmulator, connect, errors_of, finish, follow, fresh_state, recover, start

from poco.hw.emulator.pacing import Pacing
from poco.hw.fault_script import Drop, Entry
from poco.hw.task_signals import EmulatorSignals

BARE = ("--task", "none", "--pacing", Pacing.LOCKSTEP.value, "--recovery-delay-s", "0.05")


def begin(robot: pylibfranka.Robot) -> pylibfranka.ActiveControlBase:
    return robot.start_joint_velocity_control(pylibfranka.ControllerMode.JointImpedance)


def drive(
    control: pylibfranka.ActiveControlBase, speeds_rad_s: Iterable[float], joint: int = 0
) -> list[pylibfranka.RobotState]:
    """Command each speed of one joint, the others at rest; return the states that were answered."""
    states = []
    for speed in speeds_rad_s:
        states.append(control.readOnce()[0])
        dq = [0.0] * 7
        dq[joint] = speed
        control.writeOnce(pylibfranka.JointVelocities(dq))
    return states


def stop(control: pylibfranka.ActiveControlBase) -> None:
    control.readOnce()
    command = pylibfranka.JointVelocities([0.0] * 7)
    command.motion_finished = True
    control.writeOnce(command)


def swing(speed_rad_s: float, ticks: int) -> Floats:
    """Speed (rad/s) that rises from zero and falls to it again, smoothly."""
    return speed_rad_s * (1 - np.cos(2 * np.pi * np.arange(ticks + 1) / ticks)) / 2


def test_the_arm_moves_by_the_integral_of_the_speed(start_emulator: StartEmulator) -> None:
    """q_d is the sum of the speeds, dq_d the last one; the arm follows, ends in idle, and the next motion is of another mode."""
    start_emulator("127.0.30.11", *BARE)
    robot = connect("127.0.30.11")
    speeds = swing(0.8, 1000)
    control = begin(robot)
    states = drive(control, speeds, joint=3)
    assert all(state.robot_mode == pylibfranka.RobotMode.Move for state in states)
    travelled = np.array([state.q_d[3] - states[0].q_d[3] for state in states])
    np.testing.assert_allclose(travelled[1:], np.cumsum(speeds)[:-1] * 1e-3, atol=1e-6)
    np.testing.assert_allclose([state.dq_d[3] for state in states[1:]], speeds[:-1], atol=1e-6)
    lag = max(np.abs(np.array(state.q) - np.array(state.q_d)).max() for state in states)
    assert lag < 1e-3
    stop(control)
    assert fresh_state(robot).robot_mode == pylibfranka.RobotMode.Idle
    del control
    control = start(robot)
    follow(control, np.zeros(50))
    finish(control)
    with EmulatorSignals("127.0.30.11") as signals:
        status = signals.status()
    assert (status.commands_lost, status.commands_invalid, status.reflexes) == (0, 0, 0)


VIOLATIONS: dict[str, Sequence[float] | Floats] = {
    "joint_motion_generator_velocity_discontinuity": np.cumsum([0.004, 0.008, 0.012]),
    "joint_motion_generator_acceleration_discontinuity": [0.0, 0.006],
    "joint_motion_generator_velocity_limits_violation": np.cumsum([0.004] + [0.008] * 400),
}


def test_every_limit_has_its_vendor_error(start_emulator: StartEmulator) -> None:
    """Speeds that jump, turn too suddenly or are too high are reflexes of their names alone; the arm comes to rest by itself."""
    start_emulator("127.0.30.12", *BARE)
    robot = connect("127.0.30.12")
    for name, speeds in VIOLATIONS.items():
        assert aborted(robot, [*speeds, 0.0, 0.0]) == [name], "only this limit is broken"
        with pytest.raises(pylibfranka.CommandException, match="Reflex"):
            begin(robot)
        recover(robot)
        assert np.abs(fresh_state(robot).dq_d).max() == 0.0


def test_lost_commands_go_on_with_constant_acceleration(start_emulator: StartEmulator) -> None:
    """Ten losses in a ramp are bridged by the ramp itself, so that the next command is no jump; twenty are a reflex."""
    start_emulator("127.0.30.13", *BARE)
    robot = connect("127.0.30.13")
    control = begin(robot)
    speeds = 0.004 * np.arange(1, 101)
    with EmulatorSignals("127.0.30.13") as signals:
        signals.inject([Entry(fault=Drop(what="commands", count=10), at=30)])
        states = drive(control, speeds)
        np.testing.assert_allclose([state.dq_d[0] for state in states[1:]], speeds[:-1], atol=1e-6)
        assert (signals.status().commands_lost, signals.status().reflexes) == (10, 0)
        signals.inject([Entry(fault=Drop(what="commands", count=20), at=1)])
        assert errors_of(lambda: drive(control, [0.4] * 30)) == ["communication_constraints_violation"]
    recover(robot)


def test_a_stopped_motion_brakes(start_emulator: StartEmulator) -> None:
    """A client that stops in full motion is told that it was preempted, and the arm slows down within its own limits."""
    start_emulator("127.0.30.14", *BARE)
    robot = connect("127.0.30.14")
    control = begin(robot)
    drive(control, 0.004 * np.arange(1, 101))
    robot.stop()
    with pytest.raises(pylibfranka.ControlException, match="preempted"):
        drive(control, [0.4, 0.4])
    del control
    control = begin(robot)
    assert np.abs(drive(control, [0.0] * 5)[0].dq_d).max() == 0.0
    stop(control)


def aborted(robot: pylibfranka.Robot, speeds_rad_s: Iterable[float]) -> list[str]:
    """Command the speeds to joint 1 until the arm aborts the motion, and return the names of its errors."""
    control = begin(robot)
    return errors_of(lambda: drive(control, speeds_rad_s))
