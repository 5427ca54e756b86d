"""Asynchronous joint positions: the arm's own way to a target, and what the vendor's handler makes of it."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt
import pylibfranka
import pytest
from fci_client import Floats, StartEmulator, connect, finish, follow, fresh_state, recover, start

from poco.hw.emulator.joint_targets import ACCELERATION_RAD_S2, JointTargets
from poco.hw.emulator.model import READY_RAD
from poco.hw.emulator.motion_check import CommandedMotion
from poco.hw.emulator.protocol import COMMAND
from poco.hw.task_signals import EmulatorSignals

Handler = pylibfranka.AsyncPositionControlHandler
BARE = ("--task", "none", "--recovery-delay-s", "0.05")
GOAL_TOLERANCE_RAD = 0.001
SPEEDS = np.array([1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0])


def target(q: Floats) -> npt.NDArray[np.void]:
    command = np.zeros((), COMMAND)
    command["q_c"] = q
    return command


def test_the_way_ends_at_the_target_within_its_limits_wherever_it_turns() -> None:
    """A thousand targets, each before the last one is reached, some of them tiny ways off: in bounds, and the last one is met."""
    random = np.random.default_rng(4)
    motion = CommandedMotion(READY_RAD)
    targets = JointTargets(motion)
    targets.limit(SPEEDS)
    targets.begin()
    path = [READY_RAD] * 3
    for _ in range(1000):
        reach = random.choice([1e-7, 1e-5, 1e-3, 0.3])
        goal = READY_RAD + random.uniform(-reach, reach, 7)
        assert targets.follow(target(goal), first=False) == []
        path.append(motion.q.copy())
        for _ in range(random.integers(60)):
            targets.proceed()
            path.append(motion.q.copy())
    for _ in range(2000):
        targets.proceed()
        path.append(motion.q.copy())
    speeds, accelerations, jerks = (np.diff(path, n=order, axis=0) * 10.0 ** (3 * order) for order in (1, 2, 3))
    assert (np.abs(speeds).max(axis=0) <= SPEEDS + 1e-9).all()
    assert np.abs(accelerations).max() <= ACCELERATION_RAD_S2 + 1e-6
    assert np.abs(jerks).max() <= 501
    np.testing.assert_allclose(motion.q, goal, atol=1e-15)
    assert motion.at_rest


def configure(robot: pylibfranka.Robot, speeds: Floats = SPEEDS) -> pylibfranka.AsyncPositionControlHandler:
    result = Handler.configure(robot, Handler.Configuration(speeds.tolist(), GOAL_TOLERANCE_RAD))
    assert result.handler is not None, result.error_message
    return result.handler


def send(handler: pylibfranka.AsyncPositionControlHandler, q: Floats) -> None:
    result = handler.set_joint_position_target(Handler.JointPositionTarget(q.tolist()))
    assert result.was_successful, result.error_message


def until(handler: pylibfranka.AsyncPositionControlHandler, status: str) -> None:
    """Read feedback until it says `status` and not that it executes."""
    while (said := handler.get_target_feedback().status.name) == "kExecuting":
        pass
    assert said == status


def streamed(robot: pylibfranka.Robot) -> bool:
    """Hold the arm by a command a tick for 20 ticks; False where it stopped because this client was late."""
    control = start(robot)
    try:
        follow(control, np.zeros(20))
        finish(control)
    except pylibfranka.ControlException as error:
        if "communication_constraints_violation" not in str(error):
            raise
        return False
    return True


@pytest.mark.parametrize("pacing", ["realtime", "lockstep", "strict"])
def test_the_vendors_handler_reaches_its_targets_at_no_rate_at_all(start_emulator: StartEmulator, pacing: str) -> None:
    """A client that is silent for 0.1 s at a time loses nothing; a newer target replaces one under way, speeds stay in bounds."""
    start_emulator("127.0.30.31", *BARE, "--pacing", pacing)
    robot = connect("127.0.30.31")
    origin = np.array(robot.read_once().q_d)
    handler = configure(robot, SPEEDS / 10)
    send(handler, origin + 0.4)
    time.sleep(0.1)
    assert handler.get_target_feedback().status.name == "kExecuting"
    goal = origin - 0.02
    send(handler, goal)
    time.sleep(0.1)
    until(handler, "kTargetReached")
    handler.stop_control()
    state = fresh_state(robot)
    assert state.robot_mode == pylibfranka.RobotMode.Idle
    np.testing.assert_allclose(state.q_d, goal, atol=GOAL_TOLERANCE_RAD)
    np.testing.assert_allclose(state.q, goal, atol=2 * GOAL_TOLERANCE_RAD)
    with EmulatorSignals("127.0.30.31") as signals:
        status = signals.status()
    # two targets and the command that ends the motion
    assert (status.commands_taken, status.commands_lost, status.commands_late, status.reflexes) == (3, 0, 0, 0)
    del handler
    while not streamed(robot):
        recover(robot)


def test_what_the_arm_refuses_is_said_by_the_handler(start_emulator: StartEmulator) -> None:
    """A speed of zero is no argument, a target beyond a joint's limit is a reflex, and after recovery targets are taken again."""
    start_emulator("127.0.30.32", *BARE)
    robot = connect("127.0.30.32")
    origin = np.array(robot.read_once().q_d)
    refused = Handler.configure(robot, Handler.Configuration([0.0] * 7, GOAL_TOLERANCE_RAD))
    assert "rejected" in refused.error_message
    del refused
    handler = configure(robot)
    beyond = origin.copy()
    beyond[3] = 0.0
    send(handler, beyond)
    while (feedback := handler.get_target_feedback()).status.name != "kAborted":
        pass
    assert "joint_motion_generator_position_limits_violation" in feedback.error_message
    del handler
    recover(robot)
    handler = configure(robot)
    send(handler, origin + 0.01)
    until(handler, "kTargetReached")


def test_a_stop_on_the_way_brakes(start_emulator: StartEmulator) -> None:
    """The handler stopped in full motion leaves an idle arm at rest short of its target."""
    start_emulator("127.0.30.33", *BARE)
    robot = connect("127.0.30.33")
    origin = np.array(robot.read_once().q_d)
    handler = configure(robot, SPEEDS / 10)
    far = origin.copy()
    far[0] += 1.0
    send(handler, far)
    while abs(robot.read_once().dq_d[0]) < 0.09:
        pass
    handler.stop_control()
    for _ in range(100):
        state = robot.read_once()
    assert state.robot_mode == pylibfranka.RobotMode.Idle
    assert np.abs(state.dq_d).max() == 0.0
    assert 0.0 < state.q_d[0] - origin[0] < 1.0
