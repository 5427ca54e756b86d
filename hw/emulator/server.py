"""The emulator: one thread that serves arm, gripper and task port and lives through one tick after the other."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable

from poco.clock import monotonic_ns

from ..fault_script import FaultScript
from ..task_messages import (
    CameraFault,
    EmulatorStatus,
    Film,
    GetStatus,
    Inject,
    Injected,
    Reply,
    Request,
    Spoil,
    Spoiled,
)
from .arm import SimulatedArm
from .arm_port import ArmPort
from .faults import Adversary
from .gripper import EmulatedGripper
from .gripper_port import GripperPort
from .pacing import Pacer, Pacing
from .protocol import PROTOCOL_VERSION
from .requests import Requests
from .robot import EmulatedRobot
from .state_datagram import StateDatagram
from .task_desk import TaskDesk
from .task_port import Task, TaskPort

HEARTBEAT_S = 0.4
"""While a gate is shut the newest state is repeated this often: the client takes it for no new one and keeps waiting."""

START_MULTIPLE_TICKS = 60_000
"""In lockstep motions start at whole minutes of robot time, so that a run does not depend on how long its start-up took."""


class EmulatorServer:
    """An emulated FR3 on one address, one thread: arm port 1337 (TCP, UDP beside it), task port 1340 and, where the fingers of its
    task move, gripper port 1338 (TCP, UDP beside it).
    """

    def __init__(
        self,
        host: str,
        arm: SimulatedArm,
        pacing: Pacing,
        task: Task | None = None,
        recovery_delay_ticks: int = 500,
        faults: FaultScript | None = None,
        protocol: int = PROTOCOL_VERSION,
    ) -> None:
        """Listen on `host` and hold `arm` where it is; `faults` begin with its first motion, clients of another protocol than
        ours or of another `protocol` are refused. Raises AddressError.
        """
        self._robot = EmulatedRobot(
            arm,
            recovery_delay_ticks,
            start_grace_ticks=2 if pacing is Pacing.STRICT else 1000,
            start_multiple_ticks=START_MULTIPLE_TICKS if pacing is Pacing.LOCKSTEP else 1,
        )
        self._datagram = StateDatagram(self._robot)
        self._requests = Requests(self._robot, self._datagram)
        self._adversary = Adversary(self._robot, host)
        if faults is not None:
            self._adversary.follow(faults.faults, faults.seed, from_motion=True)
        self._arm_port = ArmPort(host, self._robot, self._requests, self._adversary, protocol)
        self._desk = TaskDesk(task, pacing)
        self._task_port = TaskPort(host, self._answer, self._desk.left)
        fingers = None if task is None else task.fingers
        self._gripper_port = None if fingers is None else GripperPort(host, EmulatedGripper(fingers))
        self._pacer = Pacer(pacing)
        self._spoiled: dict[str, tuple[CameraFault, int]] = {}

    @property
    def connected(self) -> bool:
        """Whether an arm client is connected."""
        return self._arm_port.connected

    def run(self, keep_running: Callable[[], bool]) -> None:
        """Serve until `keep_running`, asked once a tick, says no."""
        try:
            while keep_running():
                self._wait_for_tick()
                self._adversary.advance()
                if self._gripper_port is not None:
                    self._gripper_port.advance(self._robot.tick)
                self._robot.advance()
                self._datagram.update()
                self._arm_port.send_state(self._datagram.bytes)
                self._pacer.sent(self._robot, monotonic_ns())
                self._arm_port.send(self._requests.progress())
        finally:
            self._adversary.close()
            self._arm_port.close()
            if self._gripper_port is not None:
                self._gripper_port.close()
            self._task_port.close()

    def _wait_for_tick(self) -> None:
        """Serve both ports until the next tick is due; every port is looked at least once."""
        while True:
            now_ns = monotonic_ns()
            gated = self._held(now_ns)
            wait_s = HEARTBEAT_S if gated else self._pacer.wait_ns(self._robot, now_ns) * 1e-9
            readers = self._readers()
            ready, _, _ = select.select(readers, (), (), wait_s)
            for reader in ready:
                if reader.fileno() >= 0:
                    readers[reader]()
            now_ns = monotonic_ns()
            if self._held(now_ns):
                if not ready:
                    self._arm_port.send_state(self._datagram.bytes)
                    if self._gripper_port is not None:
                        self._gripper_port.repeat_state()
            elif self._pacer.wait_ns(self._robot, now_ns) == 0:
                return

    def _readers(self) -> dict[socket.socket, Callable[[], None]]:
        readers = self._arm_port.readers() | self._task_port.readers()
        return readers if self._gripper_port is None else readers | self._gripper_port.readers()

    def _held(self, now_ns: int) -> bool:
        """Whether the gate keeps a motion waiting; an idle arm waits for nobody, nor does the unanswered first state."""
        answerable = self._robot.streamed and not self._robot.first_state_of_motion
        return answerable and self._desk.gate.holds(self._robot.tick, now_ns)

    def _answer(self, request: Request, client: int) -> Reply:
        """Act on a request of the task port; `client` is the connection's key."""
        robot = self._robot
        match request:
            case Inject(entries, seed):
                self._adversary.follow(entries, seed)
                return Injected(robot.tick)
            case GetStatus():
                return self._status()
            case Film(camera):
                kind, until = self._spoiled.get(camera, (None, 0))
                fault = kind if robot.tick < until else None
                return self._desk.film(robot.arm, robot.tick, self._held(monotonic_ns()), fault)
            case Spoil(camera, kind, ticks):
                self._spoiled[camera] = kind, robot.tick + ticks
                return Spoiled(robot.tick)
            case _:
                return self._desk.answer(request, client, robot.tick)

    def _status(self) -> EmulatorStatus:
        robot, pacer = self._robot, self._pacer
        return EmulatorStatus(
            tick=robot.tick,
            pacing=pacer.pacing.value,
            connected=self.connected,
            dilation_ns=pacer.dilation_ns,
            longest_dilation_ns=pacer.longest_dilation_ns,
            commands_taken=robot.counts.taken,
            commands_lost=robot.counts.lost,
            commands_late=robot.counts.late,
            commands_invalid=robot.counts.invalid,
            reflexes=robot.reflexes,
            gate_timeouts=self._desk.gate.timeouts,
            mode=robot.mode.name.lower(),
            faults_injected=self._adversary.injected,
        )
