"""What the bridge makes known: states for the policy at once, every tick for the recorder as the server streams them later."""

from __future__ import annotations

import threading
import time
from collections import deque

import numpy as np

from poco.clock import TICKS_PER_SECOND, monotonic_ns
from poco.hw.polymetis.arm import Reading
from poco.hw.polymetis.polymetis_pb2 import RobotState
from poco.hw.polymetis.wire import ControllerServer
from poco.kinematics import forward
from poco.records import EVENT_CODES, ROBOT_STATE, TICK
from poco.runtime.polymetis.preview import MOVING, Preview
from poco.shm import RunMemory
from poco.trouble import Mode, Trouble

RECORD_DELAY_TICKS = 60
"""So long a tick may still be corrected before it is recorded."""

STREAM_END_S = 1.0
STREAM_PAUSE_S = 0.1
TOLD_KEPT = 64

Streamed = tuple[RobotState, int]


class Publisher:
    """Publishes one run's states and ticks; everything but `_receive` belongs to the bridge's thread."""

    def __init__(self, memory: RunMemory, preview: Preview) -> None:
        self._memory, self._preview = memory, preview
        self._state = np.zeros((), ROBOT_STATE)
        self._state["gripper_width"] = np.nan
        self._tick = np.zeros((), TICK)
        self._tick["state"]["robot_mode"] = MOVING
        self._nominal = np.eye(4)
        self._streamed: deque[Streamed] = deque()
        self._told: dict[int, tuple[int, int]] = {}
        self._ended = threading.Event()
        self._extra = np.zeros(EVENT_CODES, np.int64)
        self.published_tick = self.recorded_tick = 0

    def listen(self, server: ControllerServer) -> None:
        """Begin to receive every state of `server`, for the record, until `close`."""
        self._thread = threading.Thread(target=self._receive, args=(server,))
        self._thread.start()

    def close(self) -> None:
        """Receive no more; the connection to the server must be closed before."""
        self._ended.set()
        self._thread.join()

    def begin(self, tick: int) -> None:
        """The motion begins with robot tick `tick`."""
        self.published_tick = self.recorded_tick = tick - 1
        self._streamed.clear()

    def publish(self, reading: Reading) -> None:
        """Tell the policy process the state of `reading` with what was commanded then, and everybody that its tick has come."""
        state, command = self._state, self._preview.command(reading.tick)
        state["tick"], state["t_ns"] = reading.tick, monotonic_ns()
        for name in ("q", "dq", "tau", "tau_ext"):
            state[name] = getattr(reading, name)
        for name in ("q", "dq", "ddq"):
            state[f"{name}_c"] = command[name]
        for name in ("chunk_id", "generation", "mode", "fault"):
            state[name] = command[name]
        position, rotation = forward(reading.q, self._nominal)
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation, position
        state["O_T_EE"] = pose.T.ravel()
        self.published_tick = reading.tick
        self._memory.publish_state(state)
        self._signs(finished=int(command["mode"]) == Mode.FINISHED)
        self._memory.native.announce(reading.tick)

    def told(self, tick: int, received_ns: int) -> None:
        """The controller has taken what was decided on the state of `tick`, received at `received_ns`."""
        self._told[tick] = received_ns, monotonic_ns()
        while len(self._told) > TOLD_KEPT:
            del self._told[min(self._told)]

    def note(self, trouble: Trouble) -> None:
        """Count what was noticed outside of `step()`, and let the tick that comes say so."""
        self._extra[trouble.code] += 1
        self._preview.command(self.published_tick)["event"] = trouble.code

    def failed(self) -> None:
        """Publish the fault that was latched, wake whoever waits for a tick, and record what came before."""
        state = self._state
        state["mode"], state["fault"] = Mode.FAULT, self._preview.memory.fault
        self._memory.publish_state(state)
        self._signs(finished=False)
        self._memory.native.alarm()
        self.end()

    def keep(self, tick: int) -> None:
        """Record the streamed ticks that nothing can correct any more at robot tick `tick`."""
        while self._streamed and _tick_of(self._streamed[0][0]) <= tick - RECORD_DELAY_TICKS:
            self._record(*self._streamed.popleft())

    def end(self) -> None:
        """Record what is still on its way; the motion has ended with the tick published last."""
        deadline_s = time.monotonic() + STREAM_END_S
        while self.recorded_tick < self.published_tick and time.monotonic() < deadline_s:
            while self._streamed:
                self._record(*self._streamed.popleft())
            time.sleep(0.01)

    def _record(self, streamed: RobotState, received_ns: int) -> None:
        tick = _tick_of(streamed)
        if not self.recorded_tick < tick <= self.published_tick:
            return
        record, command = self._tick, self._preview.command(tick)
        state, last = record["state"], self._preview.command(tick - 1)
        state["tick"], state["received_ns"] = tick, received_ns
        state["q"], state["dq"] = streamed.joint_positions, streamed.joint_velocities
        state["tau"], state["tau_ext"] = streamed.motor_torques_measured, streamed.motor_torques_external
        state["q_d"], state["dq_d"], state["ddq_d"] = last["q"], last["dq"], last["ddq"]
        record["command"] = command
        record["sent_ns"] = 0
        if tick in self._told:
            state["received_ns"], record["sent_ns"] = self._told[tick]
        self._memory.native.push_tick(record)
        self.recorded_tick = tick

    def _signs(self, *, finished: bool) -> None:
        counts = np.array(self._preview.memory.event_counts) + self._extra
        self._memory.native.servo_signs(monotonic_ns(), finished, counts.tolist())

    def _receive(self, server: ControllerServer) -> None:
        """The thread that reads the stream; a stream that the server ends is opened again."""
        while not self._ended.is_set():
            for state in server.states():
                self._streamed.append((state, monotonic_ns()))
            self._ended.wait(STREAM_PAUSE_S)


def _tick_of(state: RobotState) -> int:
    return state.timestamp.seconds * TICKS_PER_SECOND + round(state.timestamp.nanos / 1e6)
