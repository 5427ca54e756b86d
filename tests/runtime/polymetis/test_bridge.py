"""The bridge's loop with the real controller behind a server that this test plays, so that every delay is exact."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from poco.hw.polymetis.polymetis_pb2 import RobotClientMetadata, RobotState
from poco.hw.polymetis.wire import ControllerServer
from poco.records import TICK
from poco.runtime.cli import parse
from poco.runtime.polymetis.bridge import Bridge
from poco.runtime.run_flags import options_of
from poco.runtime.run_options import OPERATOR_SPECIFICATION
from poco.shm import RunMemory
from poco.specification import read_specification
from poco.trouble import BY_NAME, Mode, Request
from told_controller import Floats, chunk, loaded, stamped

FIRST_TICK = 60_000
START_RAD = np.array(read_specification(OPERATOR_SPECIFICATION).rest_q).astype(np.float32).astype(np.float64)
"""As the server says it, in single precision."""


class PlayedServer(ControllerServer):
    """A server of one thread: a tick passes whenever it is asked for a state, `update_ticks` while it takes an update.

    The arm follows perfectly. `script` is what happens at a tick, before its state is given.
    """

    def __init__(self, script: dict[int, Callable[[], None]]) -> None:
        self.address, self.script = "played", script
        self.tick, self.update_ticks, self.updates = FIRST_TICK, 4, 0
        self.q, self.dq = START_RAD, np.zeros(7)
        self._controller = None
        self._stream: queue.Queue[RobotState | None] = queue.Queue()

    def metadata(self) -> RobotClientMetadata:
        """A robot client lives."""
        return RobotClientMetadata(dof=7, hz=1000)

    def running(self) -> bool:
        """Ours runs."""
        return True

    def state(self) -> RobotState:
        """Let a tick pass and return its state."""
        self.tick += 1
        if self.tick in self.script:
            self.script.pop(self.tick)()
        inputs = stamped(self.tick, self.q, self.dq)
        state = RobotState(
            joint_positions=inputs["joint_positions"].tolist(), joint_velocities=inputs["joint_velocities"].tolist()
        )
        state.timestamp.seconds, state.timestamp.nanos = self.tick // 1000, self.tick % 1000 * 1_000_000
        state.motor_torques_measured.extend([0.0] * 7)
        state.motor_torques_external.extend([0.0] * 7)
        state.joint_torques_computed.extend([0.0] * 7)
        if self._controller is not None:
            state.joint_torques_computed[:] = self._controller(inputs)["joint_torques"].tolist()
            desired = self._controller.at((self.tick + 1) / 1000 - self._controller.origin_s).numpy()
            self.q, self.dq = desired[0], desired[1]
        self._stream.put(state)
        return state

    def states(self) -> Iterator[RobotState]:
        """Stream what was given."""
        while (state := self._stream.get()) is not None:
            yield state

    def set_controller(self, module: bytes) -> None:
        """Begin."""
        self._controller = loaded(module)

    def update(self, module: bytes) -> None:
        """Take an update, `update_ticks` after it was sent."""
        for _ in range(self.update_ticks):
            self.state()
        self._controller.update(loaded(module)())  # type: ignore[attr-defined]
        self.updates += 1

    def terminate(self) -> None:
        """End."""

    def close(self) -> None:
        """End the stream, also for who opens it again."""
        self._stream.put(None)
        self._stream.put(None)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[RunMemory]:
    """The shared memory of a run, armed."""
    memory = RunMemory.create(f"bridge-{tmp_path.name}")
    memory.set_request(Request.ARMED)
    yield memory
    memory.unlink()


def bridged(memory: RunMemory, script: dict[int, Callable[[], None]], *flags: str) -> tuple[Bridge, PlayedServer]:
    """A bridge to a played server."""
    words = ["--robot", "polymetis", "--sensors", "none", "--policy", "operator", *flags]
    bridge = Bridge(options_of(*parse(words)), memory)
    server = PlayedServer(script)
    bridge.arm.server = server
    bridge.arm._inertia = type("Still", (), {"at": staticmethod(lambda q: np.zeros((7, 7)))})()
    return bridge, server


def counts(memory: RunMemory, trouble: str) -> int:
    return int(memory.control()["event_counts"][BY_NAME[trouble].code])


def test_a_chunk_from_shared_memory_to_the_controller(memory: RunMemory) -> None:
    """A chunk goes by one update to the controller; each tick is recorded once, with where the joints then are."""
    attach_tick = FIRST_TICK + 200
    script = {
        FIRST_TICK + 150: lambda: memory.publish_chunk(chunk(attach_tick, START_RAD, 0.02, speed=0.5)),
        FIRST_TICK + 1200: lambda: memory.set_request(Request.STOP),
    }
    bridge, server = bridged(memory, script)
    bridge.run(0.0)
    ticks = memory.drain_ticks()
    assert ticks.dtype == TICK
    assert server.updates == 1
    assert np.all(np.diff(ticks["state"]["tick"]) == 1)
    assert np.abs(ticks["command"]["q"] - ticks["state"]["q"]).max() < 2e-7
    assert np.abs(ticks["state"]["q"][-1] - START_RAD - 0.02).max() < 2e-7
    assert (int(ticks["command"]["mode"][-1]), int(memory.control()["finished"])) == (Mode.FINISHED, 1)
    assert counts(memory, "gap_not_bridged") == 0


def test_a_hold_does_not_time_out_in_a_silence_that_was_announced(memory: RunMemory) -> None:
    """Held for ten times the timeout while the policy opens a graph: no fault; patience begins anew when the silence is over."""
    faults: list[int] = []

    def look() -> None:
        state = memory.read_state()
        assert state is not None
        faults.append(int(state["fault"]))

    script = {
        FIRST_TICK + 150: lambda: memory.publish_chunk(chunk(FIRST_TICK + 200, START_RAD, 0.02, speed=0.5)),
        FIRST_TICK + 300: lambda: memory.policy_beat(600.0),
        FIRST_TICK + 2200: memory.policy_beat,
        FIRST_TICK + 2250: look,
        FIRST_TICK + 2500: look,
        FIRST_TICK + 2600: lambda: memory.set_request(Request.STOP),
    }
    bridge, _ = bridged(memory, script, "--servo.hold_timeout_s", "0.1")
    bridge.run(0.0)
    assert faults == [0, BY_NAME["hold_timeout"].code]


def test_an_update_that_was_refused(memory: RunMemory) -> None:
    """An update that takes too long is refused by the controller; the arm stays on what it had, the next one counts."""
    attach_tick, second_tick = FIRST_TICK + 200, FIRST_TICK + 1200
    first, second = chunk(attach_tick, START_RAD, 0.05, speed=0.5), chunk(second_tick, START_RAD, -0.02, speed=0.5)
    second["chunk_id"] = 2
    modes: list[int] = []

    def look() -> None:
        state = memory.read_state()
        assert state is not None
        modes.append(int(state["mode"]))

    def publish_second() -> None:
        server.update_ticks = 4
        memory.publish_chunk(second)

    script = {
        FIRST_TICK + 150: lambda: memory.publish_chunk(first),
        second_tick - 100: look,
        second_tick - 60: publish_second,
        FIRST_TICK + 2000: lambda: memory.set_request(Request.STOP),
    }
    bridge, server = bridged(memory, script)
    server.update_ticks = 30
    bridge.run(0.0)
    ticks = memory.drain_ticks()
    assert (counts(memory, "gap_not_bridged"), server.updates, modes) == (1, 2, [Mode.HOLDING])
    assert int(memory.read_state()["fault"]) == 0  # type: ignore[index]
    q: Floats = ticks["state"]["q"]
    assert q.max(axis=0)[0] < START_RAD[0] + 1e-6
    assert np.abs(q[-1] - START_RAD + 0.02).max() < 2e-7
    assert np.abs(ticks["command"]["q"] - q).max() < 1e-3


def test_a_stop_reaches_the_controller(memory: RunMemory) -> None:
    """A stop in the middle of a chunk is a second update, and the controller stays with what is recorded."""
    script = {
        FIRST_TICK + 150: lambda: memory.publish_chunk(chunk(FIRST_TICK + 200, START_RAD, 0.1, speed=0.5)),
        FIRST_TICK + 500: lambda: memory.set_request(Request.STOP),
    }
    bridge, server = bridged(memory, script)
    bridge.run(60.0)
    ticks = memory.drain_ticks()
    assert (server.updates, server.answer_limit_s) == (2, 60.0)
    assert np.abs(ticks["command"]["q"] - ticks["state"]["q"]).max() < 2e-6
    assert counts(memory, "gap_not_bridged") == 0
    assert 0.001 < ticks["state"]["q"][-1][0] - START_RAD[0] < 0.099
