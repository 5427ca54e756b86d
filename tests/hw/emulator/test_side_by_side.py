"""Arms side by side: one command, a process, an address and a task of its own for each, one end for all."""

from __future__ import annotations

import select
import signal

import numpy as np
from emulator_program import run
from fci_client import StartEmulator, connect, errors_of, follow, recover, start

from poco.hw.fault_script import Entry, Reflex
from poco.hw.task_signals import EmulatorSignals

HOSTS = ("127.0.30.41", "127.0.30.42", "127.0.30.43")


def test_each_arm_has_a_robot_and_a_task_of_its_own(start_emulator: StartEmulator) -> None:
    """What moves, stops or recovers one of three arms does nothing to the others, nor do they see the same objects."""
    emulator = start_emulator(HOSTS[0], "--arms", "3", "--pacing", "lockstep", "--recovery-delay-s", "0.05")
    assert emulator.stdout is not None
    for _ in HOSTS[1:]:
        assert select.select([emulator.stdout], [], [], 60.0)[0], "no ready line"
        assert "ready" in emulator.stdout.readline()
    robots = {host: connect(host) for host in HOSTS}
    tasks = {host: EmulatorSignals(host) for host in HOSTS}
    targets = np.array([task.read(0).target_position for task in tasks.values()])
    assert np.linalg.norm(np.diff(targets, axis=0), axis=1).min() > 0.005
    controls = {host: start(robots[host]) for host in HOSTS[:2]}
    phase = np.linspace(0.0, 2 * np.pi, 300)
    origin = np.array(robots[HOSTS[2]].read_once().q)
    for host, control in controls.items():
        follow(control, 0.05 * (phase - np.sin(phase)) / (2 * np.pi), joint=HOSTS.index(host))
    tasks[HOSTS[0]].inject([Entry(fault=Reflex(error="joint_reflex"), at=0)])
    assert errors_of(lambda: follow(controls[HOSTS[0]], [0.0] * 3)) == ["joint_reflex"]
    follow(controls[HOSTS[1]], np.zeros(50))
    recover(robots[HOSTS[0]])
    moved = {
        host: np.flatnonzero(np.abs(np.array(robot.read_once().q) - origin) > 1e-3) for host, robot in robots.items()
    }
    assert [joints.tolist() for joints in moved.values()] == [[0], [1], []]
    assert [task.status().reflexes for task in tasks.values()] == [1, 0, 0]
    assert [task.status().commands_taken > 100 for task in tasks.values()] == [True, True, False]


def test_all_arms_end_with_one_interrupt_and_with_the_one_that_cannot_start(start_emulator: StartEmulator) -> None:
    """Ctrl-C ends the row with code 130 and frees its addresses; an address that is taken ends it with that code and sentence."""
    row = start_emulator("127.0.30.51", "--arms", "2", "--task", "none")
    assert row.stdout is not None
    assert "ready" in row.stdout.readline()
    taken = run("--host", "127.0.30.50", "--arms", "2", "--task", "none")
    assert taken.returncode == 6
    assert taken.stderr.count("\n") == 1
    assert "127.0.30.51:1337" in taken.stderr
    row.send_signal(signal.SIGINT)
    _, errors = row.communicate(timeout=30)
    assert (row.returncode, errors) == (130, "")
    again = start_emulator("127.0.30.52", "--task", "none")
    assert again.poll() is None
