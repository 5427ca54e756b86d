"""Small helpers around the vendor's client for the emulator's tests."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
import pylibfranka

from poco.hw.emulator.transforms import displaced

Floats = npt.NDArray[np.float64]
StartEmulator = Callable[..., subprocess.Popen[str]]

TICKS = 1000
OUT_AND_BACK = (1 - np.cos(2 * np.pi * np.arange(TICKS + 1) / TICKS)) / 2
WAY = np.array([0.10, -0.05, -0.06, 0.1, -0.2, 0.15])
"""Where an end effector goes and comes back from (m, rad), in TICKS."""


def connect(host: str) -> pylibfranka.Robot:
    robot = pylibfranka.Robot(host, pylibfranka.RealtimeConfig.kIgnore)
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return robot


def start(robot: pylibfranka.Robot) -> pylibfranka.ActiveControlBase:
    return robot.start_joint_position_control(pylibfranka.ControllerMode.JointImpedance)


def follow(
    control: pylibfranka.ActiveControlBase, offsets: Iterable[float], joint: int = 0
) -> list[pylibfranka.RobotState]:
    """Command q_d of the first state plus each offset (rad) of one joint; return the states that were answered."""
    states: list[pylibfranka.RobotState] = []
    origin: Floats | None = None
    for offset in offsets:
        state, _ = control.readOnce()
        states.append(state)
        origin = np.array(state.q_d) if origin is None else origin
        q = origin.copy()
        q[joint] += offset
        control.writeOnce(pylibfranka.JointPositions(q.tolist()))
    return states


def pose(column_major: Iterable[float]) -> Floats:
    """Return the transform [4, 4] that a state gives in sixteen numbers."""
    return np.array(list(column_major)).reshape(4, 4).T


def command_pose(O_T_EE: Floats) -> pylibfranka.CartesianPose:
    return pylibfranka.CartesianPose(O_T_EE.T.ravel().tolist())


def follow_ways(control: pylibfranka.ActiveControlBase, ways: Iterable[Floats]) -> list[pylibfranka.RobotState]:
    """Command O_T_EE_c of the first state moved by each way [6] (m, rad); return the states that were answered."""
    states: list[pylibfranka.RobotState] = []
    for way in ways:
        states.append(control.readOnce()[0])
        control.writeOnce(command_pose(displaced(pose(states[0].O_T_EE_c), way)))
    return states


def fresh_state(robot: pylibfranka.Robot) -> pylibfranka.RobotState:
    """Return a state that was made after this call began: the first one read may have been on its way before."""
    robot.read_once()
    return robot.read_once()


def finish(control: pylibfranka.ActiveControlBase) -> None:
    """Repeat the last command with the finished flag."""
    state, _ = control.readOnce()
    command = pylibfranka.JointPositions(list(state.q_d))
    command.motion_finished = True
    control.writeOnce(command)


def errors_of(motion: Callable[[], object]) -> list[str]:
    """Run `motion`, which the arm must abort by a reflex, and return the vendor's names of its errors."""
    try:
        motion()
    except pylibfranka.ControlException as error:
        return re.findall(r'"(\w+)"', str(error))
    raise AssertionError("the motion was not aborted")


def recover(robot: pylibfranka.Robot) -> None:
    """Recover from a reflex and wait until the states say so too."""
    robot.automatic_error_recovery()
    while (state := robot.read_once()).robot_mode != pylibfranka.RobotMode.Idle:
        pass
    assert not state.current_errors


def integrated(jerk_rad_s3: Iterable[float]) -> Floats:
    """Return the positions (rad) that a jerk of every tick adds up to, from rest."""
    return np.cumsum(np.cumsum(np.cumsum(np.fromiter(jerk_rad_s3, np.float64)))) * 1e-9
