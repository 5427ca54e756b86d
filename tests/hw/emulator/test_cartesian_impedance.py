"""The arm's own Cartesian impedance controller, by the vendor's client: soft at the hand, exact where the hand is free."""

from __future__ import annotations

import numpy as np
import pylibfranka
from fci_client import OUT_AND_BACK, WAY, StartEmulator, connect, follow, follow_ways, pose

from poco.hw.emulator.transforms import difference
from poco.hw.fault_script import Entry, Push
from poco.hw.task_signals import EmulatorSignals

LOCKSTEP = ("--task", "none", "--pacing", "lockstep")
SOFT = pylibfranka.ControllerMode.CartesianImpedance
STIFFNESS = np.array([400.0, 400.0, 800.0, 30.0, 30.0, 30.0])
FORCE_N = (4.0, 0.0, -8.0)


def test_the_hand_gives_way_by_force_over_stiffness(start_emulator: StartEmulator) -> None:
    """Commanded joints stay, a push moves the hand by F / K along the axes of the stiffness frame; afterwards it comes back."""
    start_emulator("127.0.30.71", *LOCKSTEP)
    robot = connect("127.0.30.71")
    robot.set_cartesian_impedance(STIFFNESS.tolist())
    control = robot.start_joint_position_control(SOFT)
    before = pose(follow(control, np.zeros(100))[-1].O_T_EE)
    with EmulatorSignals("127.0.30.71") as signals:
        signals.inject([Entry(fault=Push(force_n=FORCE_N, ticks=1500), at=0)])
        state = follow(control, np.zeros(1400))[-1]
    assert state.robot_mode == pylibfranka.RobotMode.Move
    way = difference(before, pose(state.O_T_EE))
    axes = before[:3, :3]
    np.testing.assert_allclose(axes.T @ way[:3], axes.T @ FORCE_N / STIFFNESS[:3], atol=2e-4)
    np.testing.assert_allclose(way[3:], 0.0, atol=2e-3)
    np.testing.assert_allclose(state.O_F_ext_hat_K[:3], FORCE_N, atol=0.05)
    way = difference(before, pose(follow(control, np.zeros(1000))[-1].O_T_EE))
    np.testing.assert_allclose(way, 0.0, atol=1e-3)


def test_a_free_hand_follows_its_poses(start_emulator: StartEmulator) -> None:
    """Along a way of 0.13 m and 15 degrees it is never more than a few millimetres behind, and the joints keep their posture."""
    start_emulator("127.0.30.72", *LOCKSTEP)
    robot = connect("127.0.30.72")
    states = follow_ways(robot.start_cartesian_pose_control(SOFT), np.outer(OUT_AND_BACK, WAY))
    ways = np.array([difference(pose(state.O_T_EE), pose(state.O_T_EE_d)) for state in states])
    assert np.abs(ways).max() < 2e-3
    apart = np.array([np.array(state.q) - np.array(state.q_d) for state in states])
    assert np.abs(apart).max() < 0.02
