"""What is launched for a gripper: its server and the client beside the hand, both anew some time after the client is gone."""

from __future__ import annotations

from poco.errors import AddressError
from poco.hw.polymetis.gripper import GRIPPER_PORT

from ..fingers import SimulatedFingers
from .gripper_service import GripperService
from .hand_client import HandClient

RESTART_TICKS = 4000
"""So long a client that is gone stays gone."""


class GripperLaunch:
    """The gripper of an emulated arm behind Polymetis; belongs to the emulator's loop."""

    def __init__(self, host: str, fingers: SimulatedFingers) -> None:
        """Listen on `host` and home; raises AddressError."""
        self._address, self._fingers = host, fingers
        self._client = HandClient(fingers)
        self._service: GripperService | None = GripperService(host, GRIPPER_PORT)
        self._gone_ticks = 0

    def advance(self, tick: int) -> None:
        """Live through a tick, before the arm does."""
        self._client.advance(self._service, tick)
        self._gone_ticks = self._gone_ticks + 1 if self._client.gone else 0
        if self._gone_ticks >= RESTART_TICKS:
            self.close()
            try:
                self._service = GripperService(self._address, GRIPPER_PORT)
            except AddressError:  # the old one's socket is not closed yet
                self._gone_ticks -= 100
                return
            self._client = HandClient(self._fingers)

    def update(self) -> None:
        """Let the client look for a command while robot time stands still."""
        if self._service is not None:
            self._client.update(self._service)

    def close(self) -> None:
        """End the server."""
        if self._service is not None:
            self._service.close()
            self._service = None
