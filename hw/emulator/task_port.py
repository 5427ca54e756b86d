"""The task port: what the task's sensor sees, placing of objects, lockstep gate and counters, for drivers beside the arm."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from typing import Protocol

import msgspec

from poco.records import TaskSignal

from ..task_messages import LENGTH_BYTES, MESSAGE_BYTES_MAX, TASK_PORT, Refused, Reply, Request
from .arm_port import listen
from .fingers import SimulatedFingers

CONNECTIONS_MAX = 8
_RECEIVE_BYTES = 65_536


class Task(Protocol):
    """A task in the simulated scene, as the emulator serves it."""

    mjcf: str
    """The scene it was compiled from."""

    fingers: SimulatedFingers | None
    """The fingers that its gripper moves; None where they are fixed."""

    def place(self, seed: int) -> None:
        """Place the objects for the next episode as `seed` (>= 0) says."""

    def signal(self, tick: int) -> TaskSignal:
        """Return what the task's sensor sees at robot tick `tick`."""


class TaskPort:
    """Sockets of the task port and the framing on them; `answer` decides what a request gets.

    `left` is called when a connection ends, with its key, the same that `answer` gets.
    """

    def __init__(self, host: str, answer: Callable[[Request, int], Reply], left: Callable[[int], None]) -> None:
        """Listen on `host`; raises AddressError."""
        self._answer = answer
        self._left = left
        self._listener = listen(host, TASK_PORT)
        self._received: dict[socket.socket, bytearray] = {}
        self._decoder = msgspec.json.Decoder(Request)
        self._encoder = msgspec.json.Encoder()

    def readers(self) -> dict[socket.socket, Callable[[], None]]:
        """Return the sockets to wait for and what to call when they have something."""
        return {self._listener: self._accept, **{client: partial(self._read, client) for client in self._received}}

    def close(self) -> None:
        """Close every socket."""
        self._listener.close()
        for client in self._received:
            client.close()

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        if len(self._received) >= CONNECTIONS_MAX:
            client.close()
            return
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received[client] = bytearray()

    def _read(self, client: socket.socket) -> None:
        try:
            part = client.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            part = b""
        if not part:
            self._drop(client)
            return
        received = self._received[client]
        received += part
        while client in self._received and len(received) >= LENGTH_BYTES:
            length = int.from_bytes(received[:LENGTH_BYTES], "little")
            if length > MESSAGE_BYTES_MAX:
                self._drop(client)
                return
            if len(received) < LENGTH_BYTES + length:
                return
            body = bytes(received[LENGTH_BYTES : LENGTH_BYTES + length])
            del received[: LENGTH_BYTES + length]
            self._reply(client, body)

    def _reply(self, client: socket.socket, body: bytes) -> None:
        reply: Reply
        try:
            reply = self._answer(self._decoder.decode(body), client.fileno())
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            reply = Refused(f"not a request ({error}): use the poco version of the emulator")
        message = self._encoder.encode(reply)
        try:
            client.sendall(len(message).to_bytes(LENGTH_BYTES, "little") + message)
        except OSError:
            self._drop(client)

    def _drop(self, client: socket.socket) -> None:
        self._left(client.fileno())
        client.close()
        del self._received[client]
