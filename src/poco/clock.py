"""The two clocks of poco: CLOCK_MONOTONIC nanoseconds on the host, integer milliseconds (ticks) on the arm."""

from __future__ import annotations

import time

TICKS_PER_SECOND = 1000
"""The arm counts its time in ticks of 1 ms (`message_id` of the Franka Control Interface)."""

TICK_S = 1.0 / TICKS_PER_SECOND


def monotonic_ns() -> int:
    """Return CLOCK_MONOTONIC in nanoseconds, the only host clock poco compares with."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)
