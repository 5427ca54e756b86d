"""The arm's network side: one client on TCP 1337, its state and command datagrams on UDP."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable

import numpy as np

from poco.errors import AddressError

from .faults import Adversary
from .protocol import (
    ARM_PORT,
    COMMAND,
    CONNECT_RESPONSE,
    HEADER,
    PAYLOADS,
    PROTOCOL_VERSION,
    Command,
    ConnectStatus,
    request_size,
    response,
)
from .requests import Requests
from .robot import EmulatedRobot

_RECEIVE_BYTES = 4096
_MESSAGE_ID_BYTES = 8


def listen(host: str, port: int) -> socket.socket:
    """Return a non-blocking listening socket; raises AddressError where the address is taken or not ours."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise AddressError(
            f"cannot listen on {host}:{port} ({error.strerror or error}): "
            "end the other emulator there or take another loopback address, for example 127.0.0.2 "
            "(poco-emulator --host, poco-runtime --robot.host)"
        ) from error
    listener.listen(8)
    listener.setblocking(False)
    return listener


class ArmPort:
    """Sockets of the arm and the framing on them; what requests mean is decided by `Requests`."""

    def __init__(
        self,
        host: str,
        robot: EmulatedRobot,
        requests: Requests,
        adversary: Adversary,
        protocol: int = PROTOCOL_VERSION,
    ) -> None:
        """Listen on `host`; with another `protocol` than ours it is what every client is told. Raises AddressError."""
        self._protocol = protocol
        self._robot = robot
        self._requests = requests
        self._adversary = adversary
        self._listener = listen(host, ARM_PORT)
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind((host, 0))
        self._udp.setblocking(False)
        self._client: socket.socket | None = None
        self._client_host = ""
        self._state_address: tuple[str, int] | None = None
        self._received = bytearray()

    @property
    def connected(self) -> bool:
        """Whether a client has completed Connect and gets states."""
        return self._state_address is not None

    def readers(self) -> dict[socket.socket, Callable[[], None]]:
        """Return the sockets to wait for and what to call when they have something, the client's end before new clients."""
        readers = {self._udp: self._read_commands}
        if self._client is not None:
            readers[self._client] = self._read_requests
        readers[self._listener] = self._accept
        return readers

    def send_state(self, packet: memoryview) -> None:
        """Send one state datagram to the client, if there is one and the adversary lets it pass."""
        leaving = self._adversary.outgoing(packet) if self._state_address is not None else []
        if not any(datagram[:_MESSAGE_ID_BYTES] == packet[:_MESSAGE_ID_BYTES] for datagram in leaving):
            self._robot.lose_answer()
        for datagram in leaving:
            if self._state_address is not None:
                try:
                    self._udp.sendto(datagram, self._state_address)
                except OSError as error:
                    self._drop(f"its state datagrams cannot be delivered ({error})")

    def send(self, responses: list[bytes]) -> None:
        """Send responses to the client, if it is still there."""
        for message in responses:
            if self._client is not None:
                try:
                    self._client.sendall(message)
                except OSError as error:
                    self._drop(f"it does not take its responses ({error})")

    def close(self) -> None:
        """Close every socket."""
        for connection in (self._client, self._listener, self._udp):
            if connection is not None:
                connection.close()

    def _accept(self) -> None:
        client, (host, _) = self._listener.accept()
        if self._client is not None:
            client.close()
            return
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._client, self._client_host = client, host
        self._received.clear()

    def _read_commands(self) -> None:
        while True:
            try:
                packet, sender = self._udp.recvfrom(COMMAND.itemsize + 1)
            except BlockingIOError:
                return
            except OSError:
                continue
            if len(packet) != COMMAND.itemsize or sender != self._state_address:
                self._robot.counts.invalid += 1
                continue
            arrived = self._adversary.incoming(packet)
            if packet not in arrived:
                self._robot.lose_answer()
            for command in arrived:
                self._robot.receive(np.frombuffer(command, COMMAND)[0])

    def _read_requests(self) -> None:
        client = self._client
        assert client is not None
        try:
            part = client.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            part = b""
        if not part:
            self._drop()
            return
        self._received += part
        while self._client is client and len(self._received) >= HEADER.itemsize:
            header = np.frombuffer(bytes(self._received[: HEADER.itemsize]), HEADER)[0]
            number, command_id, size = int(header["command"]), int(header["command_id"]), int(header["size"])
            if number not in PAYLOADS or size != request_size(Command(number)):
                self._drop(f"request {number} of {size} bytes is none of protocol {PROTOCOL_VERSION}")
                return
            if len(self._received) < size:
                return
            body = bytes(self._received[HEADER.itemsize : size])
            del self._received[:size]
            self._handle(Command(number), command_id, body)

    def _handle(self, command: Command, command_id: int, body: bytes) -> None:
        dtype = PAYLOADS[command]
        payload = np.frombuffer(body, dtype)[0] if body else np.zeros((), dtype)
        if command is Command.CONNECT:
            compatible = int(payload["version"]) == self._protocol == PROTOCOL_VERSION
            status = ConnectStatus.SUCCESS if compatible else ConnectStatus.INCOMPATIBLE_VERSION
            answer = np.array((status, self._protocol), CONNECT_RESPONSE).tobytes()
            self.send([response(command, command_id, answer)])
            if compatible:
                self._state_address = (self._client_host, int(payload["udp_port"]))
        elif not self.connected:
            self._drop(f"request {command.name} came before Connect")
        else:
            self.send(self._requests.answer(command, command_id, payload))

    def _drop(self, reason: str = "") -> None:
        """Forget the client; `reason` is printed when the client did not simply leave."""
        if reason:
            print(f"client {self._client_host} dropped: {reason}", file=sys.stderr)
        if self._client is not None:
            self._client.close()
        self._client, self._state_address = None, None
        self._requests.forget()
