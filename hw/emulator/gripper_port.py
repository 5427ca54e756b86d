"""The gripper's network side: clients on TCP 1338, state datagrams to each of them on UDP."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from .arm_port import listen
from .gripper import TEMPERATURE_C, EmulatedGripper
from .gripper_protocol import (
    CONNECT_RESPONSE,
    GRIPPER_PORT,
    GRIPPER_PROTOCOL_VERSION,
    HEADER,
    INCOMPATIBLE_VERSION,
    PAYLOADS,
    STATE,
    GripperCommand,
    GripperStatus,
    gripper_request_size,
    gripper_response,
)

CONNECTIONS_MAX = 8
STATE_PERIOD_TICKS = 30
"""The hand tells its state about as often as the arm's own hand is read, not every tick; our choice."""

_RECEIVE_BYTES = 4096


@dataclass(slots=True)
class _Client:
    host: str
    received: bytearray = field(default_factory=bytearray)
    state_address: tuple[str, int] | None = None


class GripperPort:
    """Sockets of the gripper and the framing on them; what commands mean is decided by `EmulatedGripper`.

    Several clients may be connected, as `stop` has to come from another connection than the command it stops.
    """

    def __init__(self, host: str, gripper: EmulatedGripper) -> None:
        """Listen on `host`; raises AddressError."""
        self._gripper = gripper
        self._listener = listen(host, GRIPPER_PORT)
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind((host, 0))
        self._udp.setblocking(False)
        self._clients: dict[socket.socket, _Client] = {}
        self._waiting: tuple[socket.socket, GripperCommand, int] | None = None
        self._state = np.zeros((), STATE)
        self._state["temperature"] = TEMPERATURE_C

    def readers(self) -> dict[socket.socket, Callable[[], None]]:
        """Return the sockets to wait for and what to call when they have something."""
        return {self._listener: self._accept, **{client: partial(self._read, client) for client in self._clients}}

    def advance(self, tick: int) -> None:
        """Live through one tick, before the arm does: move the fingers, answer what has ended, tell the state when it is due."""
        status = self._gripper.advance()
        if status is not None:
            self._answer_waiting(status)
        if tick % STATE_PERIOD_TICKS == 0:
            self._state["message_id"] = tick & 0xFFFFFFFF
            self.repeat_state()

    def repeat_state(self) -> None:
        """Send the present state under the number of the last one."""
        gripper, state = self._gripper, self._state
        state["width"], state["max_width"] = max(gripper.fingers.width_m, 0.0), gripper.width_max_m
        state["is_grasped"] = gripper.grasped
        packet = state.tobytes()
        for connection, client in list(self._clients.items()):
            if client.state_address is not None:
                try:
                    self._udp.sendto(packet, client.state_address)
                except OSError as error:
                    self._drop(connection, f"its state datagrams cannot be delivered ({error})")

    def close(self) -> None:
        """Close every socket."""
        for connection in (*self._clients, self._listener, self._udp):
            connection.close()

    def _accept(self) -> None:
        connection, (host, _) = self._listener.accept()
        if len(self._clients) >= CONNECTIONS_MAX:
            connection.close()
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._clients[connection] = _Client(host)

    def _read(self, connection: socket.socket) -> None:
        try:
            part = connection.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            part = b""
        if not part:
            self._drop(connection)
            return
        received = self._clients[connection].received
        received += part
        while connection in self._clients and len(received) >= HEADER.itemsize:
            header = np.frombuffer(bytes(received[: HEADER.itemsize]), HEADER)[0]
            number, command_id, size = int(header["command"]), int(header["command_id"]), int(header["size"])
            if number not in PAYLOADS or size != gripper_request_size(GripperCommand(number)):
                version = GRIPPER_PROTOCOL_VERSION
                self._drop(connection, f"gripper request {number} of {size} bytes is none of protocol {version}")
                return
            if len(received) < size:
                return
            body = bytes(received[HEADER.itemsize : size])
            del received[:size]
            self._handle(connection, GripperCommand(number), command_id, body)

    def _handle(self, connection: socket.socket, command: GripperCommand, command_id: int, body: bytes) -> None:
        dtype, client = PAYLOADS[command], self._clients[connection]
        payload = np.frombuffer(body, dtype)[0] if body else np.zeros((), dtype)
        if command is GripperCommand.CONNECT:
            compatible = int(payload["version"]) == GRIPPER_PROTOCOL_VERSION
            status = GripperStatus.SUCCESS if compatible else INCOMPATIBLE_VERSION
            answer = np.array((status, GRIPPER_PROTOCOL_VERSION), CONNECT_RESPONSE).tobytes()
            self._send(connection, gripper_response(command, command_id, answer))
            if compatible:
                client.state_address = (client.host, int(payload["udp_port"]))
        elif client.state_address is None:
            self._drop(connection, f"gripper request {command.name} came before Connect")
        elif command is GripperCommand.STOP:
            aborted = self._gripper.stop()
            if aborted is not None:
                self._answer_waiting(aborted)
            self._answer(connection, command, command_id, GripperStatus.SUCCESS)
        else:
            began = self._gripper.begin(command, payload)
            if began == "running":
                self._waiting = connection, command, command_id
            else:
                self._answer(connection, command, command_id, began)

    def _answer_waiting(self, status: GripperStatus) -> None:
        """Tell the client whose command has ended, if it is still there."""
        if self._waiting is not None:
            connection, command, command_id = self._waiting
            self._waiting = None
            self._answer(connection, command, command_id, status)

    def _answer(
        self, connection: socket.socket, command: GripperCommand, command_id: int, status: GripperStatus
    ) -> None:
        self._send(connection, gripper_response(command, command_id, status.to_bytes(2, "little")))

    def _send(self, connection: socket.socket, message: bytes) -> None:
        if connection not in self._clients:
            return
        try:
            connection.sendall(message)
        except OSError as error:
            self._drop(connection, f"it does not take its responses ({error})")

    def _drop(self, connection: socket.socket, reason: str = "") -> None:
        """Forget a client; what it had begun goes on. `reason` is printed when it did not simply leave."""
        client = self._clients.pop(connection)
        if reason:
            print(f"gripper client {client.host} dropped: {reason}", file=sys.stderr)
        connection.close()
        if self._waiting is not None and self._waiting[0] is connection:
            self._waiting = None
