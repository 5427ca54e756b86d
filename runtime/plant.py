"""The arm and its task as the policy process sees them: shared memory towards the servo, a driver towards the task."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from poco.clock import monotonic_ns
from poco.errors import ArmError
from poco.hw.task_driver import TaskDriver
from poco.records import TaskSignal
from poco.runtime.grip import Grip
from poco.shm import RunMemory
from poco.trouble import Mode, Request

State = npt.NDArray[np.void]
Judge = Callable[[TaskSignal], TaskSignal]

SERVO_SILENT_S = 5.0
SETTLE_POLL_TICKS = 10
KEPT_PUBLICATIONS = 8


class Stopped(Exception):
    """The run is being stopped; the policy process leaves without publishing anything more."""


class RobotPlant:
    """`rollout.Plant` on the robot: woken by the servo at robot ticks, never by a wall clock.

    An emulated arm in lockstep does not pass a tick that is waited for until the next wait, nor the first one of a motion
    before the first wait, so a run is reproducible.
    The `*_ns` stamps of the last wait, signal and publication feed the latency report. `judge` may change the outcome in a
    signal, `grip` fills in the width of a gripper; commands are decided `lead_ticks` ahead of robot time. Policy process only.
    """

    def __init__(
        self,
        memory: RunMemory,
        driver: TaskDriver,
        state_age_max_s: float,
        judge: Judge | None = None,
        grip: Grip | None = None,
        lead_ticks: int = 0,
    ) -> None:
        self._memory, self._judge, self._grip = memory, judge, grip
        self._lead_ticks = lead_ticks
        self._state_age_max_ns = state_age_max_s * 1e9
        self._driver = driver
        self._parent = os.getppid()
        self.woken_ns = self.sensed_ns = self.published_ns = 0
        self.late = False
        self._published: dict[int, tuple[int, bool]] = {}
        self.tick = 0
        self._age_ns = 0
        driver.gate(0)

    def wait(self, tick: int) -> State:
        """Return the ROBOT_STATE at `tick` or the first seen after it, or at once the state of a latched fault.

        Raises Stopped when the run ends and ArmError when the servo is silent without a fault.
        """
        self._driver.gate(tick)
        waited_since_ns = monotonic_ns()
        while not self._memory.wait_tick(tick, timeout_s=0.25):
            self._memory.policy_beat()
            self._leave_if_stopped()
            if self._faulted():
                self.free_run()
                break
            heard_ns = max(waited_since_ns, int(self._memory.control()["servo_ns"]))
            if monotonic_ns() - heard_ns > SERVO_SILENT_S * 1e9:
                raise ArmError(
                    f"the servo published no state for {SERVO_SILENT_S:.0f} s: it died or the arm went silent"
                )
        self._leave_if_stopped()
        self._memory.policy_beat()
        self.woken_ns = monotonic_ns()
        state = self._newest()
        if self._grip is not None:
            self._grip.fill(state)
        self.tick = int(state["tick"])
        self._age_ns = self.woken_ns - int(state["t_ns"])
        return state

    def stale(self) -> bool:
        """Tell whether the last state was too old to act on when it was read; in lockstep robot time waits, so never."""
        return not self._driver.lockstep and self._age_ns > self._state_age_max_ns

    def publish(self, spline: State) -> None:
        """Hand a CHUNK_SPLINE record to the servo; `late` tells whether its attach tick had been decided on."""
        self._memory.publish_chunk(spline)
        self.published_ns = monotonic_ns()
        self.late = int(self._newest()["tick"]) + self._lead_ticks >= int(spline["attach_tick"])
        self._published[int(spline["chunk_id"])] = self.published_ns, self.late
        while len(self._published) > KEPT_PUBLICATIONS:
            del self._published[min(self._published)]

    def published(self, chunk_id: int) -> tuple[int, bool]:
        """Return when a chunk was published (ns) and whether it was late; of one that never was, the newest publication.

        A stop may have been published after it.
        """
        return self._published.get(chunk_id, (self.published_ns, self.late))

    def signal(self) -> TaskSignal:
        """Return the newest task signal."""
        signal = self._driver.read(self.tick)
        self.sensed_ns = monotonic_ns()
        return signal if self._judge is None else self._judge(signal)

    def place(self, seed: int) -> None:
        """Have the objects of the task placed for the next episode."""
        self._driver.place(seed)

    def settle(self) -> State:
        """Wait until the arm is held at rest and return its state; waits as long as a fault is latched."""
        state = self.wait(self.tick + 1)
        while Mode(int(state["mode"])) != Mode.HOLDING:
            state = self.wait(self.tick + SETTLE_POLL_TICKS)
        return state

    def free_run(self) -> None:
        """Let a lockstep arm run on without waiting for this process."""
        self._driver.gate(-1)

    def _leave_if_stopped(self) -> None:
        if int(self._memory.control()["request"]) == Request.STOP or os.getppid() != self._parent:
            raise Stopped

    def _faulted(self) -> bool:
        """Tell whether the servo has latched a fault; an arm that has stopped by itself sends no states until it recovers."""
        state = self._memory.read_state()
        return state is not None and Mode(int(state["mode"])) == Mode.FAULT

    def _newest(self) -> State:
        state = self._memory.read_state()
        if state is None:
            raise ArmError("the servo has not published a state: start it before the policy")
        return state
