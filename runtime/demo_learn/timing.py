"""When the ticks of a run came and how fast they were answered, read without loading all else that a tick holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from poco.records import TICK
from poco.runtime.run_folder import OLD_TICKS, TICKS

Integers = npt.NDArray[np.int64]

BLOCK_TICKS = 50_000
NEWEST_TICKS = 20_000


@dataclass(frozen=True, slots=True)
class Timing:
    """Every kept tick that was answered, in order: robot time (ms) [n], when its state came and its command left [n] (ns)."""

    tick: Integers
    received_ns: Integers
    sent_ns: Integers

    @property
    def turnaround_ns(self) -> Integers:
        """From the state to the command [n] (ns)."""
        spent: Integers = self.sent_ns - self.received_ns
        return spent

    def when_ns(self, tick: int) -> int | None:
        """Return when the state of robot time `tick`, or the first after it, came (CLOCK_MONOTONIC); None if it is not kept."""
        row = int(np.searchsorted(self.tick, tick))
        if row == len(self.tick) or (row == 0 and self.tick[0] != tick):
            return None
        return int(self.received_ns[row])


def read_timing(folder: Path) -> Timing:
    """Read the timing of all kept ticks of the run in `folder`, a block at a time."""
    blocks = [np.zeros((3, 0), np.int64)]
    for name in (OLD_TICKS, TICKS):
        path = folder / name
        count = path.stat().st_size // TICK.itemsize if path.is_file() else 0
        firsts = range(0, count, BLOCK_TICKS)
        blocks += [_columns(path, first, min(BLOCK_TICKS, count - first)) for first in firsts]
    return Timing(*np.concatenate(blocks, axis=1))


class TickReader:
    """Reads the timing of a run as its ticks are appended; for one reader, on which nothing waits."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / TICKS
        self._count = 0

    def new(self) -> Timing:
        """Return the ticks since the last call, at most the newest NEWEST_TICKS of them."""
        count = self._path.stat().st_size // TICK.itemsize if self._path.is_file() else 0
        if count < self._count:  # the recorder has begun another file
            self._count = 0
        first = max(self._count, count - NEWEST_TICKS)
        self._count = count
        return Timing(*_columns(self._path, first, count - first))


def _columns(path: Path, first: int, count: int) -> Integers:
    """Return tick, received_ns and sent_ns [3, n] of the answered among `count` ticks from `first` on."""
    if count <= 0:
        return np.zeros((3, 0), np.int64)
    ticks = np.fromfile(path, TICK, count, offset=first * TICK.itemsize)
    state = ticks["state"]
    columns = np.stack([state["tick"].astype(np.int64), state["received_ns"].astype(np.int64), ticks["sent_ns"]])
    answered: Integers = columns[:, ticks["sent_ns"] > 0]
    return answered
