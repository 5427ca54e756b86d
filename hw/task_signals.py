"""Task signals from an emulator's task port: what its sensor sees, placing of objects, and the lockstep gate."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from types import TracebackType
from typing import Self, TypeVar

import msgspec

from poco.errors import AddressError, ArmError
from poco.records import TaskSignal

from .fault_script import Entry
from .task_messages import (
    LENGTH_BYTES,
    MESSAGE_BYTES_MAX,
    TASK_PORT,
    CameraFault,
    EmulatorStatus,
    Film,
    Filmed,
    GateSet,
    GetScene,
    GetStatus,
    Inject,
    Injected,
    Place,
    Placed,
    Refused,
    Reply,
    Request,
    Scene,
    Sense,
    Sensed,
    SetGate,
    Spoil,
    Spoiled,
)

REPLY_TIMEOUT_S = 5.0
_Answer = TypeVar("_Answer", Sensed, Placed, GateSet, EmulatorStatus, Injected, Scene, Filmed, Spoiled)


class EmulatorSignals:
    """Client of one emulator's task port; blocking, for the policy or supervisor process, never for the servo.

    Every method raises ArmError when the emulator refuses, answers nonsense or goes silent.
    """

    def __init__(self, address: str, reply_timeout_s: float = REPLY_TIMEOUT_S) -> None:
        """Connect to `address`, HOST or HOST:PORT (port 1340 if left out); raises AddressError when nobody answers."""
        host, _, port = address.partition(":")
        self._address = address
        self._encoder = msgspec.json.Encoder()
        self._decoder = msgspec.json.Decoder(Reply)
        try:
            self._socket = socket.create_connection((host, int(port or TASK_PORT)), timeout=reply_timeout_s)
        except (OSError, ValueError, OverflowError) as error:
            raise AddressError(
                f"no task signals at emulator://{address} ({error}): start poco-emulator there, with --host {host}, or your sensor"
            ) from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def read(self, tick: int) -> TaskSignal:
        """Return what the sensor sees, no older than robot tick `tick`."""
        signal = self._ask(Sense(), Sensed).signal
        if signal.tick < tick:
            raise ArmError(
                f"the task signal of emulator://{self._address} is of robot tick {signal.tick}, asked for {tick} or later: "
                "arm and signals come from different emulators, give both the same host"
            )
        return signal

    def place(self, seed: int) -> int:
        """Place the objects for the next episode as `seed` (>= 0) says and return the robot tick of it."""
        return self._ask(Place(seed), Placed).tick

    def gate(self, tick: int) -> int:
        """Let the lockstep run up to robot tick `tick` and wait there for the next gate, -1 for none; return the present tick."""
        return self._ask(SetGate(tick), GateSet).tick

    def status(self) -> EmulatorStatus:
        """Return the emulator's counters."""
        return self._ask(GetStatus(), EmulatorStatus)

    def scene(self) -> str:
        """Return the MJCF of the scene."""
        return self._ask(GetScene(), Scene).mjcf

    def film(self, camera: str) -> Filmed:
        """Return where everything in the scene is now, for `camera` to take a picture of."""
        return self._ask(Film(camera), Filmed)

    def spoil(self, camera: str, kind: CameraFault, ticks: int) -> int:
        """Let the simulated `camera` suffer from `kind` for `ticks` of robot time; return the present robot tick."""
        return self._ask(Spoil(camera, kind, ticks), Spoiled).tick

    def inject(self, entries: Sequence[Entry], seed: int = 0) -> int:
        """Let the arm suffer `entries` from now on instead of what was left of earlier ones; return the present robot tick."""
        return self._ask(Inject(tuple(entries), seed), Injected).tick

    def close(self) -> None:
        """Close the connection; a gate that this driver set opens."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, request: Request, answer: type[_Answer]) -> _Answer:
        body = self._encoder.encode(request)
        try:
            self._socket.sendall(len(body).to_bytes(LENGTH_BYTES, "little") + body)
            length = int.from_bytes(self._receive(LENGTH_BYTES), "little")
            if length > MESSAGE_BYTES_MAX:
                raise ValueError(f"a reply of {length} bytes")
            reply = self._decoder.decode(self._receive(length))
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            raise ArmError(
                f"emulator://{self._address} did not answer {type(request).__name__} ({error}): restart it"
            ) from error
        if isinstance(reply, Refused):
            raise ArmError(f"emulator://{self._address} refused {type(request).__name__}: {reply.reason}")
        if not isinstance(reply, answer):
            raise ArmError(
                f"emulator://{self._address} answered {type(reply).__name__}: install the same poco on both sides"
            )
        return reply

    def _receive(self, size: int) -> bytes:
        received = bytearray()
        while len(received) < size:
            part = self._socket.recv(size - len(received))
            if not part:
                raise ConnectionResetError("connection closed by the emulator")
            received += part
        return bytes(received)
