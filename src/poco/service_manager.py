"""What a service manager is told: that the service is ready, that it is alive, that it ends (protocol of sd_notify(3))."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping

from poco.clock import monotonic_ns

SHARE_OF_WATCHDOG = 4
"""So many signs of life in the time after which a service counts as hung (sd_watchdog_enabled(3) asks for two at least)."""


class ServiceManager:
    """The one that started this process, if it is one that listens (NOTIFY_SOCKET); otherwise everything here does nothing.

    A message that cannot be sent is dropped: nobody's motion depends on it. Any process may use it, from one thread.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        """Read NOTIFY_SOCKET and WATCHDOG_USEC of `environment`."""
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if address else None
        watchdog_us = environment.get("WATCHDOG_USEC", "")
        self._interval_ns = int(watchdog_us) * 1000 // SHARE_OF_WATCHDOG if watchdog_us.isdecimal() else 0
        self._next_ns = 0

    def ready(self, status: str) -> None:
        """Say that the service does its work from now on; `status` is shown beside its name."""
        self._send(f"READY=1\nSTATUS={status}")

    def alive(self) -> None:
        """Give a sign of life, unless the last one is recent enough; to be called after work that went well."""
        now_ns = monotonic_ns()
        if self._interval_ns and now_ns >= self._next_ns:
            self._next_ns = now_ns + self._interval_ns
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that the service has begun to end."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.sendto(message.encode(), socket.MSG_DONTWAIT, self._address)
