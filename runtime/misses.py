"""Why a turnaround of the servo took longer than 1 ms: its own code, its own waiting, or a processor that was not its."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ticks = npt.NDArray[np.void]

LATE_NS = 1_000_000

CAUSES = ("ran", "waited", "preempted")
"""ran: the servo's thread computed for more than 1 ms. waited: it gave the processor up itself, for a lock, the disk or the
network. preempted: neither; the kernel, an interrupt or the hypervisor kept the processor from it."""


def turnaround_ns(ticks: Ticks) -> npt.NDArray[np.int64]:
    """Return the time from state received to command sent of TICK records [n] (ns), negative where no command was sent."""
    spent: npt.NDArray[np.int64] = ticks["sent_ns"] - ticks["state"]["received_ns"]
    return spent


def count_misses(ticks: Ticks) -> dict[str, int]:
    """Return how many turnarounds of the TICK records [n] took longer than 1 ms, by cause."""
    late = ticks[turnaround_ns(ticks) > LATE_NS]
    ran = late["cpu_ns"] > LATE_NS
    waited = ~ran & ((late["waits"] > 0) | (late["major_faults"] > 0))
    return dict(zip(CAUSES, (int(ran.sum()), int(waited.sum()), int((~ran & ~waited).sum())), strict=True))
