"""The controller server's calls on a socket: gRPC in front of a `ControllerHost`, which a crash takes away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn, TypeVar

import grpc

from poco.errors import AddressError
from poco.hw.polymetis.polymetis_pb2 import ControllerChunk, LogInterval, RobotClientMetadata

from ..arm_port import listen
from .host import POLL_S, ControllerHost, Crash, Refusal

Answer = TypeVar("Answer")

THREADS = 8
SERVICE = "PolymetisControllerServer"


class ControllerService:
    """One life of the server at an address; `asked` is called, in a server's thread, before a newest state is given."""

    def __init__(self, controllers: ControllerHost, host: str, port: int, asked: Callable[[], None]) -> None:
        """Listen on `host`; raises AddressError."""
        self._host, self._asked = controllers, asked
        self.crashed = threading.Event()
        self._server = open_server(SERVICE, self._handlers(), host, port, THREADS)

    def close(self) -> None:
        """Break every connection, as a process that is gone does."""
        self._host.end()
        self._server.stop(None)

    def _handlers(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        host = self._host
        return {
            "GetRobotClientMetadata": grpc.unary_unary_rpc_method_handler(
                self._metadata, response_serializer=RobotClientMetadata.SerializeToString
            ),
            "GetRobotState": grpc.unary_unary_rpc_method_handler(self._state),
            "GetRobotStateStream": grpc.unary_stream_rpc_method_handler(self._states),
            "GetEpisodeInterval": grpc.unary_unary_rpc_method_handler(
                lambda request, context: host.interval(), response_serializer=LogInterval.SerializeToString
            ),
            "SetController": self._with_module(host.set_controller),
            "UpdateController": self._with_module(host.update_controller),
            "TerminateController": grpc.unary_unary_rpc_method_handler(
                lambda request, context: self._answer(host.terminate, context),
                response_serializer=LogInterval.SerializeToString,
            ),
        }

    def _metadata(self, request: bytes, context: grpc.ServicerContext) -> RobotClientMetadata:
        return self._answer(self._host.living_metadata, context)

    def _state(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self._asked()
        return self._host.states.newest()

    def _states(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """Wakes every 20 ms and sends what has come since."""
        number = self._host.states.count
        while context.is_active() and not self.crashed.is_set():
            time.sleep(POLL_S)
            states, number = self._host.states.since(number)
            yield from states

    def _with_module(self, act: Callable[[bytes], LogInterval]) -> grpc.RpcMethodHandler[Any, Any]:
        def answer(chunks: Iterator[ControllerChunk], context: grpc.ServicerContext) -> LogInterval:
            module = b"".join(chunk.torchscript_binary_chunk for chunk in chunks)
            return self._answer(lambda: act(module), context)

        return grpc.stream_unary_rpc_method_handler(answer, ControllerChunk.FromString, LogInterval.SerializeToString)

    def _answer(self, act: Callable[[], Answer], context: grpc.ServicerContext) -> Answer:
        try:
            return act()
        except Refusal as refusal:
            self._cancel(context, str(refusal))
        except Crash:
            self.crashed.set()
            self.close()
            self._cancel(context, "")

    def _cancel(self, context: grpc.ServicerContext, words: str) -> NoReturn:
        context.abort(grpc.StatusCode.CANCELLED, words)
        raise AssertionError("abort returns to nobody")


def open_server(
    service: str, handlers: dict[str, grpc.RpcMethodHandler[Any, Any]], host: str, port: int, threads: int
) -> grpc.Server:
    """Serve `handlers` at an address until the server is stopped; raises AddressError."""
    server = grpc.server(ThreadPoolExecutor(threads), options=(("grpc.so_reuseport", 0),))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    listen(host, port).close()
    try:
        server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        raise AddressError(f"cannot listen on {host}:{port} ({error}): end the other server there") from error
    server.start()
    return server
