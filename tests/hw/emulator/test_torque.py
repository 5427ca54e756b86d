"""Torque control of the emulated arm, by the vendor's own client: what it accepts, how it moves, how it ends."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pylibfranka
import pytest
from fci_client import Floats, StartEmulator, connect, follow, fresh_state, start

from poco.hw.fault_script import Drop, Entry, Push
from poco.hw.task_signals import EmulatorSignals
from poco.limits import TORQUE_MAX_NM

LOCKSTEP = ("--task", "none", "--pacing", "lockstep", "--recovery-delay-s", "0.05")
STIFFNESS = np.array([600.0, 600.0, 600.0, 600.0, 250.0, 150.0, 50.0])
DAMPING = np.array([50.0, 50.0, 50.0, 50.0, 30.0, 25.0, 15.0])
Law = Callable[[pylibfranka.RobotState], Floats]


def spring(q_d: Floats) -> Law:
    """Return the law of springs and dampers towards `q_d`, inside the arm's range and rate."""

    def law(state: pylibfranka.RobotState) -> Floats:
        last = np.array(state.tau_J_d)
        wanted = STIFFNESS * (q_d - np.array(state.q)) - DAMPING * np.array(state.dq)
        torque: Floats = np.clip(np.clip(wanted, last - 0.99, last + 0.99), -TORQUE_MAX_NM, TORQUE_MAX_NM)
        return torque

    return law


def drive(control: pylibfranka.ActiveControlBase, law: Law, ticks: int) -> list[pylibfranka.RobotState]:
    """Answer `ticks` states by `law` and return them."""
    states = []
    for _ in range(ticks):
        state, _ = control.readOnce()
        control.writeOnce(pylibfranka.Torques(law(state).tolist()))
        states.append(state)
    return states


def test_springs_hold_the_arm_and_move_it_and_the_motion_ends_in_idle(start_emulator: StartEmulator) -> None:
    """Zero torque floats, springs reach a pose 0.1 rad away, tau_J_d is the last command, the end leaves the arm holding."""
    start_emulator("127.0.1.51", *LOCKSTEP)
    robot = connect("127.0.1.51")
    control = robot.start_torque_control()
    states = drive(control, lambda _: np.zeros(7), 200)
    origin = np.array(states[0].q)
    assert all(state.robot_mode == pylibfranka.RobotMode.Move for state in states)
    np.testing.assert_allclose(states[-1].q, origin, atol=1e-5, err_msg="the arm holds its own weight")
    asked: list[Floats] = []

    def remembered(state: pylibfranka.RobotState) -> Floats:
        asked.append(spring(origin + 0.1)(state))
        return asked[-1]

    states = drive(control, remembered, 1500)
    np.testing.assert_allclose([state.tau_J_d for state in states[1:]], asked[:-1], atol=1e-5)
    np.testing.assert_allclose(states[-1].q, origin + 0.1, atol=2e-3)
    state, _ = control.readOnce()
    last = pylibfranka.Torques(list(state.tau_J_d))
    last.motion_finished = True
    control.writeOnce(last)
    state = fresh_state(robot)
    assert state.robot_mode == pylibfranka.RobotMode.Idle
    for _ in range(300):
        state = robot.read_once()
    np.testing.assert_allclose(state.q, origin + 0.1, atol=5e-3)
    assert np.abs(state.dq).max() < 1e-4
    del control
    follow(start(robot), [0.0] * 20)
    with EmulatorSignals("127.0.1.51") as signals:
        assert signals.status().reflexes == 0


def test_a_push_is_felt_and_moves_the_springs_by_force_over_stiffness(start_emulator: StartEmulator) -> None:
    """Under 10 N the joints give way by J^T F / K, and tau_ext_hat_filtered is J^T F of the vendor's own Jacobian."""
    start_emulator("127.0.1.52", *LOCKSTEP)
    robot = connect("127.0.1.52")
    model = robot.load_model()
    control = robot.start_torque_control()
    law = spring(np.array(drive(control, lambda _: np.zeros(7), 1)[0].q))
    force_n = (6.0, 0.0, -8.0)
    with EmulatorSignals("127.0.1.52") as signals:
        signals.inject([Entry(fault=Push(force_n=force_n, ticks=2000), at=0)])
        state = drive(control, law, 1900)[-1]
    jacobian = np.array(model.zero_jacobian(state)).reshape(7, 6).T
    expected = np.array([*force_n, 0.0, 0.0, 0.0]) @ jacobian
    np.testing.assert_allclose(state.tau_ext_hat_filtered, expected, atol=1e-3)
    np.testing.assert_allclose(STIFFNESS * (np.array(state.q) - np.array(state.q_d)), np.zeros(7), atol=1e-3)
    np.testing.assert_allclose(state.tau_J_d, -expected, atol=0.05)
    before = np.array(state.q)
    state = drive(control, law, 1500)[-1]
    assert np.abs(np.array(state.tau_J_d)).max() < 0.05, "after the push the springs are at rest"
    np.testing.assert_allclose(before - np.array(state.q), expected / STIFFNESS, atol=2e-3)


def test_a_lost_torque_is_repeated_and_twenty_are_a_reflex(start_emulator: StartEmulator) -> None:
    """After five lost commands tau_J_d is still the last one that came; after twenty the arm stops and holds by itself."""
    start_emulator("127.0.1.53", *LOCKSTEP)
    robot = connect("127.0.1.53")
    control = robot.start_torque_control()
    law = spring(np.array(drive(control, lambda _: np.zeros(7), 1)[0].q) + 0.02)
    with EmulatorSignals("127.0.1.53") as signals:
        drive(control, law, 50)
        signals.inject([Entry(fault=Drop(what="commands", count=5), at=1)])
        torques = np.array([state.tau_J_d for state in drive(control, law, 10)])
        assert (np.diff(torques, axis=0) == 0.0).all(axis=1).sum() == 5
        signals.inject([Entry(fault=Drop(what="commands", count=20), at=1)])
        with pytest.raises(pylibfranka.ControlException, match="communication_constraints_violation"):
            drive(control, law, 30)
        assert signals.status().reflexes == 1
    robot.automatic_error_recovery()
    del control
    fresh_state(robot)
    for _ in range(300):
        state = robot.read_once()
    assert state.robot_mode == pylibfranka.RobotMode.Idle
    assert np.abs(state.dq).max() < 1e-4


@pytest.mark.parametrize(
    ("torque", "name"),
    [
        (lambda tick: 1.01 if tick else 0.0, "controller_torque_discontinuity"),
        (lambda tick: 1.01, "controller_torque_discontinuity"),
        (lambda tick: min(0.99 * tick, 13.0), "tau_J_range_violation"),
        (lambda tick: min(0.5 * tick, 8.0), "joint_velocity_violation"),
    ],
)
def test_every_limit_of_torque_control_has_its_vendor_error(
    start_emulator: StartEmulator, torque: Callable[[int], float], name: str
) -> None:
    """A jump above 1 N m in a tick (the first counts from zero), a torque out of range and an arm that runs away are reflexes."""
    start_emulator("127.0.1.54", *LOCKSTEP)
    robot = connect("127.0.1.54")
    control = robot.start_torque_control()
    errors: list[str] = []
    try:
        for tick in range(1000):
            control.readOnce()
            control.writeOnce(pylibfranka.Torques([0.0] * 6 + [torque(tick)]))
    except pylibfranka.ControlException as error:
        errors = re.findall(r'"(\w+)"', str(error))
    assert errors == [name]
    robot.automatic_error_recovery()
    while robot.read_once().robot_mode != pylibfranka.RobotMode.Idle:
        pass


def test_a_dropped_torque_control_is_preempted_and_the_arm_comes_to_rest(start_emulator: StartEmulator) -> None:
    """An arm in full swing brakes by its own law when its client stops it."""
    start_emulator("127.0.1.55", *LOCKSTEP)
    robot = connect("127.0.1.55")
    control = robot.start_torque_control()
    state = drive(control, spring(np.array(robot.read_once().q) + 0.05), 80)[-1]
    assert np.abs(state.dq).max() > 0.1
    robot.stop()
    with pytest.raises(pylibfranka.ControlException, match="preempted"):
        drive(control, lambda _: np.zeros(7), 2)
    del control
    for _ in range(400):
        state = robot.read_once()
    assert state.robot_mode == pylibfranka.RobotMode.Idle
    assert np.abs(state.dq).max() < 1e-3
