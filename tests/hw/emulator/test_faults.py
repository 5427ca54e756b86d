"""The emulated arm as adversary: every fault is seen by the vendor's client as the arm would show it, and repeats itself."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import numpy as np
import pylibfranka
import pytest
from fci_client import StartEmulator, connect, finish, follow, recover, start

from poco.errors import SettingsError
from poco.hw.emulator.faults import INTRUSION_TICKS, REFLEXES, Channel
from poco.hw.fault_script import (
    Delay,
    Drop,
    Entry,
    Fault,
    NotFinite,
    Reflex,
    Reorder,
    SecondClient,
    Silence,
    StaleAfterRecovery,
    Stall,
    UserStop,
    read_fault_script,
)
from poco.hw.task_signals import EmulatorSignals

LOCKSTEP = ("--task", "none", "--pacing", "lockstep", "--recovery-delay-s", "0.02")
HOLD = [0.0]
SILENT_TICKS = 1500


def ticks_of(states: Iterable[pylibfranka.RobotState]) -> list[int]:
    """Return the robot ticks of `states`, the first as 0."""
    ticks = [round(1000 * state.time.to_sec()) for state in states]
    return [tick - ticks[0] for tick in ticks]


def now(*faults: Fault) -> list[Entry]:
    """Return entries that happen in the next tick."""
    return [Entry(fault=fault, at=0) for fault in faults]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Drop(what="states", count=2), [[], [], [b"2"], [b"3"], [b"4"], [b"5"]]),
        (Delay(what="states", ticks=3), [[], [b"1"], [b"2"], [b"0", b"3"], [b"4"], [b"5"]]),
        (Delay(what="states", ticks=2, count=2), [[], [], [b"0", b"2"], [b"1", b"3"], [b"4"], [b"5"]]),
        (Reorder(what="states"), [[], [b"1", b"0"], [b"2"], [b"3"], [b"4"], [b"5"]]),
    ],
)
def test_a_channel_loses_delays_and_reorders(fault: Drop | Delay | Reorder, expected: list[list[bytes]]) -> None:
    """What comes out in each of six ticks is exactly what the fault says; afterwards the channel is as it was."""
    channel = Channel()
    channel.disturb(fault)
    assert [channel.through(b"%d" % tick, tick) for tick in range(6)] == expected


def test_lost_states_and_commands_are_extrapolated_and_counted(start_emulator: StartEmulator) -> None:
    """Lost states are a gap in message_id, lost, late and overtaken commands are missed ticks; below 20 in a row nothing stops."""
    start_emulator("127.0.4.11", *LOCKSTEP)
    robot = connect("127.0.4.11")
    with EmulatorSignals("127.0.4.11") as signals:
        control = start(robot)
        follow(control, HOLD * 10)
        for fault, gaps, lost, late in (
            (Drop(what="states", count=5), 5, 5, 0),
            (Drop(what="commands", count=7), 7, 7, 0),
            (Delay(what="commands", ticks=3), 1, 1, 1),
            (Reorder(what="commands"), 1, 1, 1),
        ):
            before = signals.status()
            signals.inject(now(fault))
            states = follow(control, HOLD * 30)
            after = signals.status()
            steps = np.diff(ticks_of(states))
            if fault.what == "states":
                assert sorted(steps)[-2:] == [1, gaps + 1]
            assert after.commands_lost - before.commands_lost == lost
            assert after.commands_late - before.commands_late == late
        finish(control)
        assert signals.status().reflexes == 0
        assert signals.status().faults_injected == 4


def test_twenty_lost_in_a_row_stop_the_arm(start_emulator: StartEmulator) -> None:
    """19 lost states are survived, 20 are the reflex communication_constraints_violation."""
    start_emulator("127.0.4.12", *LOCKSTEP)
    robot = connect("127.0.4.12")
    with EmulatorSignals("127.0.4.12") as signals:
        control = start(robot)
        follow(control, HOLD * 5)
        signals.inject(now(Drop(what="states", count=19)))
        follow(control, HOLD * 30)
        signals.inject(now(Drop(what="states", count=20)))
        with pytest.raises(pylibfranka.ControlException, match="communication_constraints_violation"):
            follow(control, HOLD * 30)


def test_each_reflex_arrives_under_its_vendors_name(start_emulator: StartEmulator) -> None:
    """The motion ends with the vendor's name of the reflex, and after recovery the arm is idle."""
    start_emulator("127.0.4.13", *LOCKSTEP)
    robot = connect("127.0.4.13")
    with EmulatorSignals("127.0.4.13") as signals:
        for name in REFLEXES:
            control = start(robot)
            follow(control, HOLD * 5)
            signals.inject([Entry(fault=Reflex(error=name), at=3)])
            with pytest.raises(pylibfranka.ControlException, match=name):
                follow(control, HOLD * 30)
            del control
            robot.automatic_error_recovery()
            while robot.read_once().robot_mode != pylibfranka.RobotMode.Idle:
                pass
        assert signals.status().reflexes == len(REFLEXES)


def test_stale_states_after_recovery(start_emulator: StartEmulator) -> None:
    """The first states after recovery still say Reflex, then Idle; two seconds of them, since a client reads only the newest."""
    start_emulator("127.0.4.13", *LOCKSTEP)
    robot = connect("127.0.4.13")
    with EmulatorSignals("127.0.4.13") as signals:
        signals.inject(now(Reflex(error="joint_reflex"), StaleAfterRecovery(count=2000)))
        while robot.read_once().robot_mode != pylibfranka.RobotMode.Reflex:
            pass
        robot.automatic_error_recovery()
        modes = [robot.read_once().robot_mode]
        while modes[-1] != pylibfranka.RobotMode.Idle:
            modes.append(robot.read_once().robot_mode)
        assert set(modes[:-1]) == {pylibfranka.RobotMode.Reflex}


def test_user_stop_outranks_everything_until_it_is_released(start_emulator: StartEmulator) -> None:
    """Pressed, it ends the motion and refuses motion and recovery; released, the arm is idle, or in its old reflex."""
    start_emulator("127.0.4.14", *LOCKSTEP)
    robot = connect("127.0.4.14")
    with EmulatorSignals("127.0.4.14") as signals:
        control = start(robot)
        follow(control, HOLD * 5)
        signals.inject(now(UserStop()))
        with pytest.raises(pylibfranka.ControlException, match="User Stop"):
            follow(control, HOLD * 30)
        del control
        assert signals.status().mode == "user_stopped"
        with pytest.raises(pylibfranka.CommandException):
            start(robot)
        with pytest.raises(pylibfranka.CommandException):
            robot.automatic_error_recovery()
        signals.inject(now(UserStop(pressed=False)))
        while robot.read_once().robot_mode != pylibfranka.RobotMode.Idle:
            pass
        signals.inject([*now(Reflex(error="joint_reflex"), UserStop()), Entry(fault=UserStop(pressed=False), at=1000)])
        while robot.read_once().robot_mode != pylibfranka.RobotMode.UserStopped:
            pass
        while (mode := robot.read_once().robot_mode) == pylibfranka.RobotMode.UserStopped:
            pass
        assert mode == pylibfranka.RobotMode.Reflex
        robot.automatic_error_recovery()
        finish(start(robot))


def test_a_user_stop_ends_a_recovery(start_emulator: StartEmulator) -> None:
    """Pressed during automatic recovery, it answers the request instead of leaving its client waiting."""
    start_emulator("127.0.4.15", "--task", "none", "--recovery-delay-s", "30")
    robot = connect("127.0.4.15")
    with EmulatorSignals("127.0.4.15") as signals:
        signals.inject([*now(Reflex(error="cartesian_reflex")), Entry(fault=UserStop(), at=200)])
        while robot.read_once().robot_mode != pylibfranka.RobotMode.Reflex:
            pass
        with pytest.raises(pylibfranka.CommandException, match=r"(?i)user stop|emergency|aborted"):
            robot.automatic_error_recovery()


def test_not_a_number_a_second_client_and_a_stall(start_emulator: StartEmulator) -> None:
    """NaN reaches the client in the named field for as many states as asked; intruder and stall disturb no motion."""
    start_emulator("127.0.4.16", *LOCKSTEP)
    robot = connect("127.0.4.16")
    with EmulatorSignals("127.0.4.16") as signals:
        control = start(robot)
        follow(control, HOLD * 5)
        signals.inject(now(NotFinite(field="q", count=3), SecondClient(), Stall(milliseconds=40)))
        states = follow(control, HOLD * 40)
        assert sum(bool(np.isnan(state.q).any()) for state in states) == 3
        assert not any(np.isnan(state.q_d).any() for state in states)
        finish(control)
        status = signals.status()
    assert (status.reflexes, status.commands_lost, status.commands_invalid) == (0, 0, 0)
    assert status.faults_injected == 3


def test_a_stall_is_time_that_a_robot_in_real_time_falls_behind(start_emulator: StartEmulator) -> None:
    """The status accounts what the emulator itself was late, and the arm goes on."""
    start_emulator("127.0.4.21", "--task", "none", "--pacing", "realtime")
    robot = connect("127.0.4.21")
    with EmulatorSignals("127.0.4.21") as signals:
        control = start(robot)
        follow(control, HOLD * 5)
        signals.inject(now(Stall(milliseconds=40)))
        follow(control, HOLD * 40)
        finish(control)
        status = signals.status()
    assert (status.reflexes, status.faults_injected) == (0, 1)
    assert status.longest_dilation_ns >= 30_000_000


def test_a_second_client_leaves_again(start_emulator: StartEmulator) -> None:
    """One that finds the arm without a client has it for a moment, and then the arm is free again."""
    start_emulator("127.0.4.22", "--task", "none", "--pacing", "realtime")
    with EmulatorSignals("127.0.4.22") as signals:
        injected = signals.inject(now(SecondClient()))
        while (status := signals.status()).tick <= injected + 2 * INTRUSION_TICKS or status.connected:
            assert status.tick < injected + 60_000, "it has not left within a minute"
    assert status.faults_injected == 1
    finish(start(connect("127.0.4.22")))


def test_a_silent_arm_is_the_clients_own_timeout(start_emulator: StartEmulator) -> None:
    """While no state leaves, the vendor's client waits for its own second and then raises; the robot has long stopped."""
    start_emulator("127.0.4.17", "--task", "none", "--pacing", "strict", "--recovery-delay-s", "0.02")
    robot = connect("127.0.4.17")
    with EmulatorSignals("127.0.4.17") as signals:
        reflexes = 1
        while not silenced(robot, signals):
            reflexes += 1
        assert signals.status().mode == "reflex"
        assert signals.status().reflexes == reflexes


def silenced(robot: pylibfranka.Robot, signals: EmulatorSignals) -> bool:
    """Tell whether an arm in motion that falls silent is the client's timeout; False where a late client had stopped it before."""
    control, tick = start(robot), 0
    try:
        follow(control, HOLD)
        tick = signals.inject(now(Silence(ticks=SILENT_TICKS)))
        follow(control, HOLD * 100)
    except pylibfranka.NetworkException as error:
        if "Timeout" not in str(error):
            raise
        return True
    except pylibfranka.ControlException as error:
        if "communication_constraints_violation" not in str(error):
            raise
    del control
    while signals.status().tick <= tick + SILENT_TICKS:
        time.sleep(0.01)
    recover(robot)
    return False


def test_a_script_with_a_seed_repeats_itself(start_emulator: StartEmulator, tmp_path: Path) -> None:
    """Two emulators with one script lose the same states at the same ticks; the file counts from the start of the motion."""
    script = tmp_path / "losses.yaml"
    script.write_text(
        "version: 1\nseed: 5\nfaults:\n"
        "  - {rate: 0.05, fault: {kind: drop, what: states}}\n"
        "  - {at: 100, fault: {kind: drop, what: states, count: 12}}\n"
    )
    runs = []
    for host in ("127.0.4.18", "127.0.4.19"):
        start_emulator(host, *LOCKSTEP, "--faults", str(script))
        runs.append(ticks_of(follow(start(connect(host)), HOLD * 400)))
    assert runs[0] == runs[1]
    gaps = np.diff(runs[0])
    assert gaps.max() >= 13
    assert 5 <= np.sum(gaps > 1) <= 40


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("version: 2", "version"),
        ("version: 1\nfaults: [{at: 1, fault: {kind: earthquake}}]", "earthquake"),
        ("version: 1\nfaults: [{at: 1, rate: 0.5, fault: {kind: stall, milliseconds: 5}}]", "either `at`"),
        ("version: 1\nfaults: [{at: 1, fault: {kind: stall, milliseconds: -5}}]", ">= 1"),
        ("version: 1\nfaults: [{at: 1, fault: {kind: stall, milliseconds: 5, seconds: 1}}]", "seconds"),
        ("version: [", "while parsing"),
    ],
)
def test_a_wrong_script_is_refused_with_its_reason(text: str, reason: str, tmp_path: Path) -> None:
    """Unknown kinds and fields, impossible values and broken YAML name the place."""
    path = tmp_path / "faults.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=reason):
        read_fault_script(path)


def test_the_documented_script_is_valid_and_names_every_kind(tmp_path: Path) -> None:
    """The example in docs/faults.md is a script, with each kind of fault in it."""
    text = (Path(__file__).parents[3] / "docs" / "faults.md").read_text()
    path = tmp_path / "faults.yaml"
    path.write_text(text.partition("```yaml\n")[2].partition("```")[0])
    script = read_fault_script(path)
    assert {type(entry.fault) for entry in script.faults} == set(get_args(Fault))


def test_a_missing_script_is_exit_code_3(tmp_path: Path) -> None:
    """The emulator names the file in one sentence before it listens anywhere."""
    command = [sys.executable, "-m", "poco.hw.emulator", "--host", "127.0.4.20", "--faults", str(tmp_path / "no.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "no.yaml" in done.stderr
    assert done.stderr.count("\n") == 1
