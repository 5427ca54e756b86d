"""Polymetis over the simulated arm: the loop that lives through one tick after the other, with the servers' sockets beside it.

Pacing is `realtime`, which never waits for a client, or `lockstep`: while an uploaded controller runs, robot time goes on by
`LOCKSTEP_TICKS` each time that a client asks for the newest state, and stands at a gate.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable

from poco.clock import monotonic_ns
from poco.errors import AddressError
from poco.hw.polymetis.wire import ARM_PORT

from ...fault_script import Fault, FaultScript, Reflex, Silence, Stall
from ...task_messages import EmulatorStatus, Film, GetStatus, Inject, Injected, Refused, Reply, Request, Spoil
from ..arm import SimulatedArm
from ..pacing import TICK_NS, Pacing
from ..server import HEARTBEAT_S, START_MULTIPLE_TICKS
from ..task_desk import TaskDesk
from ..task_port import Task, TaskPort
from .client import RobotClient, metadata
from .host import ControllerHost, Phase
from .launch import GripperLaunch
from .services import ControllerService

LOCKSTEP_TICKS = 10
RESTART_TICKS = 2000
"""So long after a crash the server is there again, with nothing in it."""

ANSWER_LIMIT_S = 0.5


class PolymetisEmulator:
    """An emulated arm behind a controller server on port 50051, with the task port 1340 beside it and, where the fingers of
    its task move, a gripper server on port 50052; one thread and the servers'."""

    def __init__(
        self,
        host: str,
        arm: SimulatedArm,
        pacing: Pacing,
        task: Task | None = None,
        recovery_delay_ticks: int = 500,
        faults: FaultScript | None = None,
    ) -> None:
        """Listen on `host` and hold `arm` where it is; raises AddressError."""
        self._address = host
        self._client = RobotClient(arm, recovery_delay_ticks)
        self._lockstep = pacing is Pacing.LOCKSTEP
        self._host: ControllerHost | None = None
        self._service: ControllerService | None = None
        self._restart_tick = 0
        self._turn = threading.Condition()
        self._allowed = 0
        self._bell, self._ring = socket.socketpair()
        self._bell.setblocking(False)
        self._serve()
        fingers = None if task is None else task.fingers
        self._gripper = None if fingers is None else GripperLaunch(host, fingers)
        self._desk = TaskDesk(task, pacing)
        self._task_port = TaskPort(host, self._answer, self._desk.left)
        self._due_ns = monotonic_ns() + TICK_NS
        self._dilation_ns = self._longest_dilation_ns = 0
        self._scheduled = [] if faults is None else [(entry.at or 0, entry.fault) for entry in faults.faults]
        self._injected, self._moved_ticks = 0, 0

    @property
    def connected(self) -> bool:
        """Whether a client's controller runs."""
        return self._running

    def run(self, keep_running: Callable[[], bool]) -> None:
        """Serve until `keep_running`, asked once a tick, says no."""
        try:
            while keep_running():
                self._wait_for_tick()
                self._live()
        finally:
            self._task_port.close()
            if self._service is not None:
                self._service.close()
            if self._gripper is not None:
                self._gripper.close()

    @property
    def _running(self) -> bool:
        return self._host is not None and self._host.running

    def _live(self) -> None:
        """One tick of server, robot client and arm."""
        self._look_after_server()
        host, client = self._host, self._client
        if self._running:
            self._suffer()
        if host is not None:
            if self._lockstep and host.phase is Phase.READY:
                client.tick = -(-client.tick // START_MULTIPLE_TICKS) * START_MULTIPLE_TICKS
                self._allowed = client.tick
                host.jump(client.tick)
            host.now_tick = client.tick
        if self._gripper is not None:
            self._gripper.advance(client.tick)
        client.advance(host)
        self._account(monotonic_ns())
        with self._turn:
            self._turn.notify_all()

    def _serve(self) -> None:
        host = ControllerHost()
        host.now_tick = self._client.tick
        host.init_client(metadata())
        self._service = ControllerService(host, self._address, ARM_PORT, self._asked)
        self._host = host

    def _look_after_server(self) -> None:
        """A server that has crashed is gone for a while; then it is started again and the robot client says what it is."""
        if self._service is not None and self._service.crashed.is_set():
            self._service.close()
            self._host = self._service = None
            self._restart_tick = self._client.tick + RESTART_TICKS
        elif self._service is None and self._client.tick >= self._restart_tick:
            try:
                self._serve()
            except AddressError:  # the old one's socket is not closed yet
                self._restart_tick = self._client.tick + 100

    def _wait_for_tick(self) -> None:
        while True:
            readers = self._task_port.readers() | {self._bell: self._heard_bell}
            ready, _, _ = select.select(readers, (), (), self._wait_s(monotonic_ns()))
            for reader in ready:
                if reader.fileno() >= 0:
                    readers[reader]()
            if self._wait_s(monotonic_ns()) == 0.0:
                return
            if not ready and self._gripper is not None:
                self._gripper.update()

    def _wait_s(self, now_ns: int) -> float:
        if self._lockstep and self._running:
            return HEARTBEAT_S if self._held(now_ns) or self._client.tick > self._allowed else 0.0
        return max(0, self._due_ns - now_ns) * 1e-9

    def _held(self, now_ns: int) -> bool:
        """Whether the gate keeps the arm waiting; where no states come, nobody could open it."""
        moving = self._running and not self._client.away
        return moving and self._desk.gate.holds(self._client.tick - 1, now_ns)

    def _heard_bell(self) -> None:
        self._bell.recv(64)

    def _asked(self) -> None:
        """A client wants the newest state: in lockstep let some time pass first. Called by the server's threads."""
        if not self._lockstep or not self._running:
            return
        with self._turn:
            self._allowed = self._client.tick - 1 + LOCKSTEP_TICKS
            self._ring.send(b"!")
            self._turn.wait_for(self._rests, ANSWER_LIMIT_S)

    def _rests(self) -> bool:
        return not self._running or self._client.tick > self._allowed or self._held(monotonic_ns())

    def _account(self, now_ns: int) -> None:
        """Note when the next tick is due and by how much a motion's time fell behind the wall."""
        late_ns = now_ns - self._due_ns
        if self._lockstep and self._running:
            self._due_ns = now_ns
        elif late_ns > TICK_NS:
            self._due_ns = now_ns
            if self._running:
                self._dilation_ns += late_ns
                self._longest_dilation_ns = max(self._longest_dilation_ns, late_ns)
        self._due_ns += TICK_NS

    def _suffer(self) -> None:
        """Suffer what is due of the injected faults."""
        due = [fault for tick, fault in self._scheduled if tick <= self._moved_ticks]
        self._scheduled = [(tick, fault) for tick, fault in self._scheduled if tick > self._moved_ticks]
        self._moved_ticks += 1
        for fault in due:
            self._injected += 1
            match fault:
                case Reflex():
                    self._client.abort()
                case Silence(ticks=ticks):
                    self._client.pause(ticks)
                case Stall(milliseconds=milliseconds):
                    time.sleep(milliseconds / 1000)

    def _answer(self, request: Request, client: int) -> Reply:
        """Act on a request of the task port; `client` is the connection's key."""
        tick = self._client.tick - 1
        match request:
            case Inject(entries, _):
                return self._inject([(entry.at, entry.fault) for entry in entries], tick)
            case GetStatus():
                return self._status(tick)
            case Film():
                return self._desk.film(self._client.arm, tick, self._held(monotonic_ns()), None)
            case Spoil():
                return Refused("cameras are spoiled behind the Franka interface of poco-emulator only")
            case _:
                return self._desk.answer(request, client, tick)

    def _inject(self, entries: list[tuple[int | None, Fault]], tick: int) -> Reply:
        known = [(at, fault) for at, fault in entries if at is not None and isinstance(fault, Reflex | Silence | Stall)]
        if len(known) < len(entries):
            return Refused("faults of the emulated Polymetis are reflex, silence and stall, each with `at`")
        self._scheduled = [(self._moved_ticks + at, fault) for at, fault in known]
        return Injected(tick)

    def _status(self, tick: int) -> EmulatorStatus:
        return EmulatorStatus(
            tick=tick,
            pacing="lockstep" if self._lockstep else "realtime",
            connected=self.connected,
            dilation_ns=self._dilation_ns,
            longest_dilation_ns=self._longest_dilation_ns,
            commands_taken=0 if self._host is None else self._host.updates,
            commands_lost=0,
            commands_late=0,
            commands_invalid=0,
            reflexes=self._client.aborts,
            gate_timeouts=self._desk.gate.timeouts,
            mode="no server" if self._host is None else "away" if self._client.away else self._host.phase.value,
            faults_injected=self._injected,
        )
