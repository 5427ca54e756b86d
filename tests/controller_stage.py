"""The emulated controller server on its socket with the test in the robot client's place: no step is taken but by `step`."""

from __future__ import annotations

import time
from collections.abc import Callable

import grpc
import numpy as np

from poco.hw.emulator.polymetis.client import metadata
from poco.hw.emulator.polymetis.host import ControllerHost, Phase
from poco.hw.emulator.polymetis.services import SERVICE, ControllerService
from poco.hw.emulator.polymetis.states import StateRing
from poco.hw.polymetis.polymetis_pb2 import ControllerChunk, LogInterval, RobotState
from poco.hw.polymetis.wire import ARM_PORT, ControllerServer
from told_controller import HELD_RAD, Floats

PATIENCE_S = 120.0
QUESTIONS = 20
"""So many are answered after a call was sent, before it counts as one that waits in the server."""


def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.001)


class Stage:
    """Server and a client's connection to it; `tick` is the robot client's next one and the number of its state."""

    def __init__(self, address: str, states_max: int) -> None:
        """Listen at `address` and let a robot client say what it is."""
        self.host = ControllerHost()
        self.host.states = StateRing(states_max)
        self.host.init_client(metadata())
        self.service = ControllerService(self.host, address, ARM_PORT, lambda: None)
        self.client = ControllerServer(address)
        self.channel = grpc.insecure_channel(f"{address}:{ARM_PORT}")
        self.tick = 0

    def step(self) -> Floats:
        """Take a control step and return its torques [7] (N m)."""
        still = np.zeros(7)
        state = RobotState(
            joint_positions=HELD_RAD,
            joint_velocities=still,
            motor_torques_measured=still,
            motor_torques_external=still,
        )
        state.timestamp.seconds, state.timestamp.nanos = self.tick // 1000, self.tick % 1000 * 1_000_000
        torques = self.host.control_update(state, self.tick)
        self.host.now_tick = self.tick
        self.tick += 1
        return torques

    def step_until(self, condition: Callable[[], bool]) -> list[Floats]:
        """Take control steps until `condition` holds; return their torques."""
        torques = []
        deadline_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline_s
            torques.append(self.step())
        return torques

    def begin(self, call: str, module: bytes = b"") -> grpc.Future[LogInterval]:
        """Send a call that changes what runs, with a saved `module` where it takes one; then it lies with the server."""
        sent = self.channel.stream_unary(
            f"/{SERVICE}/{call}", ControllerChunk.SerializeToString, LogInterval.FromString
        ).future(iter([ControllerChunk(torchscript_binary_chunk=module)]))
        for _ in range(QUESTIONS):
            self.client.interval()
        return sent

    def done(self, call: grpc.Future[LogInterval]) -> LogInterval:
        """Take a control step each millisecond until `call` is answered and return the answer."""

        def answered() -> bool:
            self.step()
            return call.done()

        until(answered)
        return call.result()

    def until_phase(self, phase: Phase) -> None:
        """Wait until a call has brought the uploaded controller to `phase`."""
        until(lambda: self.host.phase is phase)

    def close(self) -> None:
        """End server and connections."""
        self.service.close()
        self.client.close()
        self.channel.close()
