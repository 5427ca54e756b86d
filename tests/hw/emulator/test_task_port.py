"""Task signals through the emulator's task port: sensing, placing, gating the lockstep, and refusals."""

from __future__ import annotations

import socket
import time

import numpy as np
import pytest
from fci_client import StartEmulator, connect, finish, follow, start

from poco.errors import AddressError, ArmError
from poco.hw.task_messages import MESSAGE_BYTES_MAX
from poco.hw.task_signals import EmulatorSignals

VENDOR_TIMEOUT_S = 1.0


def test_sense_and_place_are_stamped_in_robot_time(start_emulator: StartEmulator) -> None:
    """Signals carry the newest tick; the same seed places the hole at the same place, another one elsewhere."""
    start_emulator("127.0.1.31", "--pacing", "lockstep")
    with EmulatorSignals("127.0.1.31") as signals:
        positions = []
        for seed in (5, 6, 5):
            placed = signals.place(seed)
            signal = signals.read(placed)
            assert signal.tick >= placed
            assert signal.outcome == "running"
            positions.append(np.array(signal.target_position[:2]))
        assert np.linalg.norm(positions[0] - positions[2]) < 6 * signal.noise_m
        assert np.linalg.norm(positions[0] - positions[1]) > 6 * signal.noise_m
        with pytest.raises(ArmError, match="different emulators"):
            signals.read(10**12)
        with pytest.raises(ArmError, match="must be 0 or more"):
            signals.place(-1)


def test_gate_holds_the_lockstep(start_emulator: StartEmulator) -> None:
    """Robot time stops at the gate's tick for longer than the client's own time-out, without an error, until the gate moves on."""
    start_emulator("127.0.1.32", "--pacing", "lockstep", "--task", "none")
    robot = connect("127.0.1.32")
    with EmulatorSignals("127.0.1.32") as signals:
        control = start(robot)
        states = follow(control, [0.0] * 5)
        first = round(states[0].time.to_sec() * 1000)
        gate = first + 9
        signals.gate(gate)
        follow(control, [0.0] * 5)
        assert signals.status().tick == gate
        time.sleep(1.3 * VENDOR_TIMEOUT_S)
        assert signals.status().tick == gate
        signals.gate(gate + 20)
        follow(control, [0.0] * 20)
        assert signals.status().tick == gate + 20
        assert signals.gate(-1) == gate + 20
        finish(control)
        status = signals.status()
        assert (status.commands_lost, status.gate_timeouts, status.reflexes) == (0, 0, 0)


def test_wrong_use_is_refused_in_a_sentence(start_emulator: StartEmulator) -> None:
    """A gate without lockstep, a task that is not there, junk and an oversized message: refused or closed, and it goes on."""
    start_emulator("127.0.1.33", "--pacing", "realtime", "--task", "none")
    with EmulatorSignals("127.0.1.33:1340") as signals:
        with pytest.raises(ArmError, match="--pacing lockstep"):
            signals.gate(10)
        with pytest.raises(ArmError, match="--task peg-in-hole"):
            signals.read(0)
        with socket.create_connection(("127.0.1.33", 1340), timeout=5) as client:
            for junk in (b"junk", b'{"\xff'):
                client.sendall(len(junk).to_bytes(4, "little") + junk)
                assert b"Refused" in client.recv(1000)
            client.sendall((MESSAGE_BYTES_MAX + 1).to_bytes(4, "little"))
            assert client.recv(1000) == b""
        assert signals.status().pacing == "realtime"
    with pytest.raises(AddressError, match="start poco-emulator"):
        EmulatorSignals("127.0.1.34")
