"""Puts the servo's ticks on disk: the newest whole, and the timing of every minute as one line. Supervisor only."""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt

from poco.clock import TICKS_PER_SECOND
from poco.records import TICK
from poco.runtime.run_folder import OLD_TICKS, TICKS, Minute, RunFolder, write_whole
from poco.statistics import percentiles

MINUTE_TICKS = 60 * TICKS_PER_SECOND
LATE_US = 1000.0


class TickRecorder:
    """Keeps the ticks of at least the last `keep_minutes` and at most twice as many, so that a run of days fills no disk."""

    def __init__(self, folder: RunFolder, keep_minutes: int) -> None:
        """Begin to record; raises OSError if the disk refuses."""
        self._folder = folder
        self._bytes_max = keep_minutes * MINUTE_TICKS * TICK.itemsize
        self._stream = folder.open_ticks()
        self._bytes = 0
        self._timing_ns = np.zeros((2, MINUTE_TICKS), np.int64)
        self._count = self._tick = 0

    def add(self, ticks: npt.NDArray[np.void]) -> None:
        """Record TICK records [n], n > 0; raises OSError if the disk refuses or is full."""
        payload = ticks.tobytes()
        if self._bytes + len(payload) > self._bytes_max and self._bytes:
            self._stream.close()
            os.replace(self._folder.path / TICKS, self._folder.path / OLD_TICKS)
            self._stream = self._folder.open_ticks()
            self._bytes = 0
        write_whole(self._stream, payload)
        self._bytes += len(payload)
        for first in range(0, len(ticks), MINUTE_TICKS):
            self._add_timing(ticks[first : first + MINUTE_TICKS])

    def close(self) -> None:
        """Put what is left of the last minute on disk, where that goes."""
        self._stream.close()
        if self._count:
            try:
                self._end_minute()
            except OSError:
                return  # a full disk has been reported by then

    def _add_timing(self, ticks: npt.NDArray[np.void]) -> None:
        """Take the timing of at most a minute of ticks."""
        if self._count + len(ticks) > MINUTE_TICKS:
            self._end_minute()
        rows = slice(self._count, self._count + len(ticks))
        self._timing_ns[0, rows] = ticks["sent_ns"] - ticks["state"]["received_ns"]
        self._timing_ns[1, rows] = ticks["period_ns"]
        self._count += len(ticks)
        self._tick = int(ticks["state"]["tick"][-1])

    def _end_minute(self) -> None:
        turnaround_ns, period_ns = self._timing_ns[:, : self._count]
        turnaround_us, period_us = turnaround_ns[turnaround_ns > 0] / 1e3, period_ns[period_ns > 0] / 1e3
        minute = Minute(
            tick=self._tick,
            ticks=self._count,
            turnaround_us=percentiles(turnaround_us),
            turnaround_over_1_ms=int((turnaround_us > LATE_US).sum()),
            period_us=percentiles(period_us),
        )
        self._count = 0
        self._folder.append_minute(minute)
