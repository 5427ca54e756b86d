"""The gripper server's calls on a socket: passes the newest state and the newest command on, and remembers nothing else."""

from __future__ import annotations

import grpc

from poco.hw.polymetis.polymetis_pb2 import Empty, GripperCommand, GripperMetadata, GripperState

from .services import open_server

SERVICE = "GripperServer"
THREADS = 2


class GripperService:
    """One life of the server at an address; the client beside the hand, which is no other process here, calls it directly."""

    def __init__(self, host: str, port: int) -> None:
        """Listen on `host`; raises AddressError."""
        self._metadata: GripperMetadata | None = None
        self._state, self._command = GripperState(), GripperCommand()
        handlers = {
            "GetRobotClientMetadata": grpc.unary_unary_rpc_method_handler(
                self._described, response_serializer=GripperMetadata.SerializeToString
            ),
            "GetState": grpc.unary_unary_rpc_method_handler(
                lambda request, context: self._state, response_serializer=GripperState.SerializeToString
            ),
            "Goto": grpc.unary_unary_rpc_method_handler(self._goto, GripperCommand.FromString, Empty.SerializeToString),
        }
        self._server = open_server(SERVICE, handlers, host, port, THREADS)

    def init_client(self, metadata: GripperMetadata) -> None:
        """A client beside a hand says what it is; that stays known when it is gone."""
        self._metadata = metadata

    def control_update(self, state: GripperState) -> GripperCommand:
        """Keep the newest state of the hand and return the newest command, an empty one where there was none."""
        self._state = state
        return self._command

    def close(self) -> None:
        """Break every connection, as a process that is gone does."""
        self._server.stop(None)

    def _goto(self, command: GripperCommand, context: grpc.ServicerContext) -> Empty:
        self._command = command
        return Empty()

    def _described(self, request: bytes, context: grpc.ServicerContext) -> GripperMetadata:
        """Before any client there is nothing to answer with, which fails in the server."""
        if self._metadata is None:
            context.abort(grpc.StatusCode.INTERNAL, "Failed to serialize response!")
            raise AssertionError("abort returns to nobody")
        return self._metadata
