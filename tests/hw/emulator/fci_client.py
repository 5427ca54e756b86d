"""Small helpers around the vendor's client for the emulator's tests."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
import pylibfranka

Floats = npt.NDArray[np.float64]
StartEmulator = Callable[..., subprocess.Popen[str]]


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
