"""What the task port answers alike, whatever interface the arm has: sensor, objects and scene of the task, lockstep gate."""

from __future__ import annotations

import numpy as np

from poco.clock import monotonic_ns

from ..task_messages import (
    CameraFault,
    Filmed,
    GateSet,
    GetScene,
    Place,
    Placed,
    Refused,
    Reply,
    Request,
    Scene,
    Sense,
    Sensed,
    SetGate,
)
from .arm import SimulatedArm
from .pacing import Gate, Pacing
from .task_port import Task

NO_TASK = Refused("the emulator runs without a task: start poco-emulator with --task peg-in-hole")


class TaskDesk:
    """Holds the task and the gate; only the emulator's own thread calls it."""

    def __init__(self, task: Task | None, pacing: Pacing) -> None:
        """Begin with an open gate; without a `task` what asks for one is refused."""
        self._task, self._pacing = task, pacing
        self.gate = Gate()
        self._gate_owner = -1

    def answer(self, request: Request, client: int, tick: int) -> Reply:
        """Act on `request` at robot tick `tick`; `client` is the connection's key."""
        match request:
            case Sense() if self._task is not None:
                return Sensed(self._task.signal(tick))
            case Place(seed) if self._task is not None:
                if seed < 0:
                    return Refused(f"seed is {seed}, must be 0 or more")
                self._task.place(seed)
                return Placed(tick)
            case SetGate(until) if self._pacing is Pacing.LOCKSTEP:
                self.gate.set(until, monotonic_ns())
                self._gate_owner = client
                return GateSet(tick)
            case GetScene() if self._task is not None:
                return Scene(self._task.mjcf)
            case SetGate():
                return Refused(f"pacing is {self._pacing.value}: start poco-emulator with --pacing lockstep")
            case _:
                return NO_TASK

    def film(self, arm: SimulatedArm, tick: int, held: bool, fault: CameraFault | None) -> Reply:
        """Return what a camera has to draw of `arm` at `tick`: positions of all joints and poses of all movable bodies."""
        if self._task is None:
            return NO_TASK
        mocap = np.hstack((arm.data.mocap_pos, arm.data.mocap_quat)).ravel()
        return Filmed(tick, held, fault, arm.data.qpos.tolist(), mocap.tolist())

    def left(self, client: int) -> None:
        """Open the gate where the connection that has ended, `client`, had set it."""
        if client == self._gate_owner:
            self.gate.set(-1, monotonic_ns())
            self._gate_owner = -1
