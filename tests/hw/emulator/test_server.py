"""The emulator proves itself to the vendor's own client library."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pylibfranka
import pytest
from fci_client import (
    Floats,
    StartEmulator,
    connect,
    errors_of,
    finish,
    follow,
    fresh_state,
    integrated,
    recover,
    start,
)

from poco.hw.emulator.arm import SimulatedArm
from poco.hw.emulator.model import ROTOR_INERTIA_KG_M2, fr3_mjcf
from poco.hw.emulator.pacing import ANSWER_TIMEOUT_NS, Pacing
from poco.hw.emulator.protocol import CONNECT_RESPONSE, HEADER, PAYLOADS, Command, ConnectStatus
from poco.hw.task_signals import EmulatorSignals

BARE = ("--task", "none", "--pacing", "lockstep", "--recovery-delay-s", "0.05")
WAITED_S = ANSWER_TIMEOUT_NS[Pacing.REALTIME] * 1e-9
"""So late may an answer be in real time before its command is lost."""


def test_hold_and_sine_run_without_error(start_emulator: StartEmulator) -> None:
    """1000 ticks of hold and a smooth sine are accepted to the last command, and the arm follows them."""
    start_emulator("127.0.1.11", *BARE)
    robot = connect("127.0.1.11")
    control = start(robot)
    states = follow(control, np.zeros(1000))
    assert [round(1000 * (state.time.to_sec() - states[0].time.to_sec())) for state in states] == list(range(1000))
    assert all(state.robot_mode == pylibfranka.RobotMode.Move for state in states)
    phase = 2 * np.pi * np.arange(1000) / 1000
    states = follow(control, 0.05 * (phase - np.sin(phase)) / (2 * np.pi), joint=3)
    lag = max(np.abs(np.array(state.q) - np.array(state.q_d)).max() for state in states)
    assert lag < 1e-3
    assert abs(states[-1].q[3] - states[0].q[3] - 0.05) < 1e-3
    finish(control)
    state = robot.read_once()
    assert state.robot_mode == pylibfranka.RobotMode.Idle
    with EmulatorSignals("127.0.1.11") as signals:
        status = signals.status()
    assert (status.commands_lost, status.commands_invalid, status.reflexes) == (0, 0, 0)
    assert status.commands_taken == 2001


def test_lockstep_repeats_itself_bit_for_bit(start_emulator: StartEmulator) -> None:
    """Two emulators, two clients, different preparations: the same ticks and the same measured states to the last bit."""
    runs = []
    for host, preparations in (("127.0.1.19", 1), ("127.0.1.20", 150)):
        start_emulator(host, *BARE)
        robot = connect(host)
        for _ in range(preparations):
            robot.read_once()
        control = start(robot)
        states = follow(control, integrated([3000.0] * 2 + [0.0] * 200))
        runs.append([(state.time.to_sec(), tuple(state.q), tuple(state.dq), tuple(state.tau_J)) for state in states])
    assert len(runs[0]) == 202
    assert runs[0] == runs[1]


def test_the_vendors_model_agrees_with_the_simulation(start_emulator: StartEmulator) -> None:
    """Gravity and mass that the vendor's library computes from our URDF and state are those that MuJoCo simulates."""
    start_emulator("127.0.1.12", *BARE)
    robot = connect("127.0.1.12")
    model = robot.load_model()
    state = robot.read_once()
    arm = SimulatedArm.from_mjcf(fr3_mjcf())
    np.testing.assert_allclose(model.gravity(state), arm.tau_bias, atol=1e-5)
    np.testing.assert_allclose(state.tau_J, arm.tau_bias, atol=1e-5)
    mass = np.array(model.mass(state)).reshape(7, 7) + ROTOR_INERTIA_KG_M2 * np.eye(7)
    np.testing.assert_allclose(mass, arm.inertia(), atol=1e-5)
    np.testing.assert_allclose(np.array(state.O_T_EE).reshape(4, 4).T, arm.O_T_EE, atol=1e-6)


VIOLATIONS: dict[str, Sequence[float] | Floats] = {
    "joint_position_motion_generator_start_pose_invalid": [0.01],
    "joint_motion_generator_position_limits_violation": [0.0, 0.0, 2.9],
    "joint_motion_generator_velocity_limits_violation": integrated([4000.0, 4000.0] + [0.0] * 400),
    "joint_motion_generator_velocity_discontinuity": integrated([4000.0] * 4),
    "joint_motion_generator_acceleration_discontinuity": integrated([0.0, 8000.0, 0.0]),
}


def test_every_limit_has_its_vendor_error_and_recovery_clears_it(start_emulator: StartEmulator) -> None:
    """Each broken limit aborts the motion by the reflex of that name; further motions are refused until recovery."""
    start_emulator("127.0.1.13", *BARE)
    robot = connect("127.0.1.13")
    for name, offsets in VIOLATIONS.items():
        errors = aborted(robot, [*offsets, *[offsets[-1]] * 3])
        assert name in errors
        if name != "joint_motion_generator_position_limits_violation":
            assert errors == [name], "only this limit is broken"
        with pytest.raises(pylibfranka.CommandException, match="Reflex"):
            start(robot)
        with pytest.raises(pylibfranka.CommandException):
            robot.set_joint_impedance([3000.0] * 7)
        recover(robot)
        assert np.abs(robot.read_once().dq_d).max() == 0.0
    with EmulatorSignals("127.0.1.13") as signals:
        assert signals.status().reflexes == len(VIOLATIONS)


def test_twenty_lost_commands_are_a_communication_error(start_emulator: StartEmulator) -> None:
    """In strict pacing a client that falls silent is stopped by communication_constraints_violation after 20 ticks."""
    start_emulator("127.0.1.14", "--task", "none", "--pacing", "strict")
    robot = connect("127.0.1.14")
    control = start(robot)
    follow(control, [0.0])
    with EmulatorSignals("127.0.1.14") as signals:
        while not signals.status().reflexes:
            time.sleep(0.005)
        assert signals.status().commands_lost >= 20
    with pytest.raises(pylibfranka.ControlException, match="communication_constraints_violation"):
        follow(control, [0.0] * 2)


def test_realtime_waits_for_a_late_client_and_says_so(start_emulator: StartEmulator) -> None:
    """A client that pauses for 60 ms loses no command; robot time falls behind by about that, and the status accounts it."""
    start_emulator("127.0.1.21", "--task", "none", "--pacing", "realtime")
    robot = connect("127.0.1.21")
    with EmulatorSignals("127.0.1.21") as signals:
        late_s = math.inf
        while late_s >= WAITED_S:
            before = signals.status()
            late_s = hold_with_a_pause(robot, 0.06)
            after = signals.status()
            assert after.reflexes == 0
            assert after.dilation_ns - before.dilation_ns >= 50_000_000
    assert after.commands_lost == before.commands_lost
    assert after.longest_dilation_ns >= 50_000_000


def hold_with_a_pause(robot: pylibfranka.Robot, pause_s: float) -> float:
    """Hold the arm for 40 ticks with a pause of `pause_s` after half of them; return how late (s) an answer was at most.

    A state leaves when the command before has come, so between it and its answer lie no more than two steps of this client.
    """
    marks = []

    def offsets() -> Iterator[float]:
        for tick in range(40):
            if tick == 20:
                time.sleep(pause_s)
            marks.append(time.monotonic())
            yield 0.0

    control = start(robot)
    follow(control, offsets())
    finish(control)
    marks.append(time.monotonic())
    while robot.read_once().robot_mode != pylibfranka.RobotMode.Idle:
        pass
    return max(later - earlier for earlier, later in zip(marks, marks[2:], strict=False))


def test_stop_and_setters(start_emulator: StartEmulator) -> None:
    """Setters are refused while moving, a stop preempts and the next motion starts."""
    start_emulator("127.0.1.15", *BARE)
    robot = connect("127.0.1.15")
    robot.set_collision_behavior([20.0] * 7, [40.0] * 7, [10.0] * 6, [20.0] * 6)
    robot.set_joint_impedance([600.0] * 7)
    robot.set_cartesian_impedance([2000.0] * 3 + [100.0] * 3)
    robot.set_load(0.3, [0.0, 0.0, 0.02], [1e-3, 0, 0, 0, 1e-3, 0, 0, 0, 1e-3])
    assert fresh_state(robot).m_load == pytest.approx(0.3)
    shifted = np.eye(4)
    shifted[2, 3] = 0.05
    before = np.array(robot.read_once().O_T_EE).reshape(4, 4).T
    robot.set_EE(shifted.T.ravel().tolist())
    after = np.array(fresh_state(robot).O_T_EE).reshape(4, 4).T
    np.testing.assert_allclose(before[2, 3] - after[2, 3], 0.05, atol=1e-6)
    for bad in ([-1.0] * 7, [1e6] * 7):
        with pytest.raises(pylibfranka.CommandException, match="invalid"):
            robot.set_joint_impedance(bad)
    control = start(robot)
    follow(control, integrated([4000.0] * 2 + [0.0] * 100))
    with pytest.raises(pylibfranka.CommandException):
        robot.set_joint_impedance([600.0] * 7)
    robot.stop()
    with pytest.raises(pylibfranka.ControlException, match="preempted"):
        follow(control, [0.0] * 2)
    del control
    control = start(robot)
    states = follow(control, [0.0] * 10)
    assert np.abs(states[0].dq_d).max() == 0.0
    finish(control)


def test_clients_come_and_go_one_at_a_time(start_emulator: StartEmulator) -> None:
    """A second client is refused while the first is there; a client that leaves in motion makes room, and nothing is latched."""
    start_emulator("127.0.1.16", *BARE)
    robot = connect("127.0.1.16")
    with pytest.raises((pylibfranka.NetworkException, pylibfranka.FrankaException, RuntimeError)):
        connect("127.0.1.16")
    control = start(robot)
    follow(control, [0.0] * 10)
    del control, robot
    robot = connect("127.0.1.16")
    assert robot.read_once().robot_mode == pylibfranka.RobotMode.Idle
    control = start(robot)
    follow(control, [0.0] * 10)
    finish(control)


def test_another_protocol_version_is_told_ours(start_emulator: StartEmulator) -> None:
    """A client of protocol 5 is answered "incompatible, we are 10", and a malformed request ends its connection."""
    start_emulator("127.0.1.17", *BARE)
    with socket.create_connection(("127.0.1.17", 1337), timeout=5) as client:
        payload = np.array((5, 40_000), PAYLOADS[Command.CONNECT]).tobytes()
        client.sendall(np.array((0, 7, 16), HEADER).tobytes() + payload)
        answer = client.recv(100)
        header = np.frombuffer(answer[:12], HEADER)[0]
        assert tuple(header) == (0, 7, 15)
        assert tuple(np.frombuffer(answer[12:], CONNECT_RESPONSE)[0]) == (ConnectStatus.INCOMPATIBLE_VERSION, 10)
        client.sendall(np.array((99, 8, 12), HEADER).tobytes())
        assert client.recv(100) == b""
    with socket.create_connection(("127.0.1.17", 1337), timeout=5) as client:
        client.sendall(np.array((Command.GET_ROBOT_MODEL, 0, 12), HEADER).tobytes())
        assert client.recv(100) == b""
    assert connect("127.0.1.17").read_once().robot_mode == pylibfranka.RobotMode.Idle


def test_pressing_on_the_table_is_a_reflex(start_emulator: StartEmulator) -> None:
    """A motion into the floor ends in the reflex of a torque or force threshold, and the arm gives way until no joint collides."""
    start_emulator("127.0.1.18", *BARE)
    robot = connect("127.0.1.18")
    robot.set_collision_behavior([2.0] * 7, [15.0] * 7, [2.0] * 6, [15.0] * 6)
    control = start(robot)
    descent = integrated([2000.0] * 4 + [0.0] * 96 + [-2000.0] * 4 + [0.0] * 3000)
    with pytest.raises(pylibfranka.ControlException, match="reflex"):
        follow(control, descent, joint=1)
    robot.automatic_error_recovery()
    del control
    for _ in range(300):
        state = robot.read_once()
    assert max(state.joint_collision) == 0
    assert np.abs(state.dq).max() < 0.02


def aborted(robot: pylibfranka.Robot, offsets: Iterable[float]) -> list[str]:
    """Command `offsets` (rad) of joint 1 until the arm aborts the motion, and return the names of its errors."""
    control = start(robot)
    return errors_of(lambda: follow(control, offsets))
