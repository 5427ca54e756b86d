"""Clocks and randomness of journal, link and intake: a Protocol, so that a seeded simulation can stand in, and the real ones."""

from __future__ import annotations

import os
import time
from typing import Protocol

from poco.clock import monotonic_ns


class Surroundings(Protocol):
    """What is not decided by the program itself."""

    def monotonic_ns(self) -> int:
        """Return CLOCK_MONOTONIC (ns)."""
        ...

    def unix_ns(self) -> int:
        """Return the time of day (ns since 1970), for people only; it may jump."""
        ...

    def random_bytes(self, count: int) -> bytes:
        """Return `count` bytes nobody can guess."""
        ...


class RealSurroundings:
    """This computer."""

    def monotonic_ns(self) -> int:
        """Return CLOCK_MONOTONIC (ns)."""
        return monotonic_ns()

    def unix_ns(self) -> int:
        """Return the time of day (ns since 1970)."""
        return time.time_ns()

    def random_bytes(self, count: int) -> bytes:
        """Return `count` bytes from the kernel."""
        return os.urandom(count)
