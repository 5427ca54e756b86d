"""The user's side of the Polymetis controller server over gRPC, with the guard that no careless update crashes it.

The server dies of an update that comes before any controller was set, also after it has been started again; nothing above this
file can send one. Calls block; one thread of the bridge's process makes them, the stream of states is read by another.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import grpc

from poco.errors import ArmError

from .polymetis_pb2 import ControllerChunk, Empty, LogInterval, RobotClientMetadata, RobotState

Answer = TypeVar("Answer")

ARM_PORT = 50051
CHUNK_BYTES = 1024
"""Most that the server takes of a module in one message."""

CALL_LIMIT_S = 1.0
UPLOAD_LIMIT_S = 5.0
_SERVICE = "/PolymetisControllerServer/"
_OPTIONS = (
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 500),
)


class ServerLost(ArmError):
    """The server does not answer, refuses, or runs another controller than the one it was given."""


class ControllerServer:
    """One connection to the server at host:port; every call raises ServerLost with what the server said.

    `answer_limit_s` is how long a question may wait for its answer.
    """

    def __init__(self, host: str, port: int = ARM_PORT) -> None:
        self.address = f"{host}:{port}"
        self._channel = open_channel(self.address)
        self._channel.subscribe(self._connection_changed)
        self.answer_limit_s = CALL_LIMIT_S
        self._lock = threading.Lock()
        self._set = False
        self._begun = -1
        reads = {"request_serializer": Empty.SerializeToString}
        self._metadata = self._channel.unary_unary(
            _SERVICE + "GetRobotClientMetadata", response_deserializer=RobotClientMetadata.FromString, **reads
        )
        self._state = self._channel.unary_unary(
            _SERVICE + "GetRobotState", response_deserializer=RobotState.FromString, **reads
        )
        self._states = self._channel.unary_stream(
            _SERVICE + "GetRobotStateStream", response_deserializer=RobotState.FromString, **reads
        )
        self._interval = self._channel.unary_unary(
            _SERVICE + "GetEpisodeInterval", response_deserializer=LogInterval.FromString, **reads
        )
        self._terminate = self._channel.unary_unary(
            _SERVICE + "TerminateController", response_deserializer=LogInterval.FromString, **reads
        )
        self._upload = self._channel.stream_unary(
            _SERVICE + "SetController", ControllerChunk.SerializeToString, LogInterval.FromString
        )
        self._update = self._channel.stream_unary(
            _SERVICE + "UpdateController", ControllerChunk.SerializeToString, LogInterval.FromString
        )

    def metadata(self) -> RobotClientMetadata:
        """Return what the robot client has said of itself; only while one is alive, so this is the probe of liveness."""
        return self._asked(lambda: self._metadata(Empty(), timeout=self.answer_limit_s))

    def state(self) -> RobotState:
        """Return the newest state."""
        return self._asked(lambda: self._state(Empty(), timeout=self.answer_limit_s))

    def states(self) -> Iterator[RobotState]:
        """Return every state from now on, in bursts of 20 ms: for the record, not for control. Ends when the connection does."""
        try:
            yield from self._states(Empty())
        except (grpc.RpcError, ValueError):  # the latter where the channel is closed
            return

    def interval(self) -> LogInterval:
        """Return from where to where in the server's log the last controller ran."""
        return self._asked(lambda: self._interval(Empty(), timeout=self.answer_limit_s))

    def running(self) -> bool:
        """Ask whether the controller that this connection has set still runs."""
        interval = self.interval()
        with self._lock:
            return self._set and interval.start == self._begun and interval.end == -1

    def set_controller(self, module: bytes) -> None:
        """Let the saved TorchScript `module` take over; returns after its first control step, 20 to 30 ms later."""
        interval = self._asked(lambda: self._upload(_chunks(module), timeout=UPLOAD_LIMIT_S))
        with self._lock:
            self._set, self._begun = True, interval.start

    def update(self, module: bytes) -> None:
        """Give the running controller new parameters; nothing is sent where it is not known to run."""
        if not self.running():
            raise ServerLost(f"the Polymetis server at {self.address} does not run the controller that it was given")
        self._asked(lambda: self._update(_chunks(module), timeout=CALL_LIMIT_S))

    def terminate(self) -> None:
        """End the running controller, so that the server holds the arm."""
        with self._lock:
            self._set = False
        self._asked(lambda: self._terminate(Empty(), timeout=UPLOAD_LIMIT_S))

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def _connection_changed(self, now: grpc.ChannelConnectivity) -> None:
        """A connection that was lost may lead to another server, which has no controller."""
        if now is not grpc.ChannelConnectivity.READY:
            with self._lock:
                self._set = False

    def _asked(self, call: Callable[[], Answer]) -> Answer:
        try:
            return call()
        except grpc.RpcError as error:
            raise ServerLost(f"the Polymetis server at {self.address} says: {words(error)}") from error


def open_channel(address: str) -> grpc.Channel:
    """Return a connection to a server of Polymetis, which is made at the first call and again after it was lost."""
    return grpc.insecure_channel(address, options=_OPTIONS)


def _chunks(module: bytes) -> Iterator[ControllerChunk]:
    for first in range(0, len(module), CHUNK_BYTES):
        yield ControllerChunk(torchscript_binary_chunk=module[first : first + CHUNK_BYTES])


def words(error: grpc.RpcError) -> str:
    """Return what a failed call says, in one line."""
    code, details = getattr(error, "code", None), getattr(error, "details", None)
    if code is None or details is None:
        return " ".join(str(error).split())
    return f"{code().name.lower().replace('_', ' ')} ({' '.join(str(details()).split())})"
