"""A process of its own that runs the native 1 kHz loop and writes what it measured; also started by `poco-runtime doctor`.

Prints the outcome of the real-time set-up as JSON; the durations (ns) go to the file named by --out.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from poco._core import Memory, realtime_setup, time_loop
from poco.clock import TICK_S
from poco.errors import PocoError
from poco.limits import Guards, fr3_limits
from poco.records import ARM_STATE, CHUNK_SPLINE, MAX_SEGMENTS

READY_RAD = np.array([0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785])
STRIDE_RAD = 0.02
SHORTEST_SEGMENT_TICKS = 200
MOVE = 2
WIDE_GUARDS = Guards((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0), -1.0, 1.0)


@dataclass(frozen=True, slots=True)
class NativeLoop:
    """What one run of the loop measured: lateness of waking and duration of `step()` [ticks] (us), real-time set-up."""

    late_us: npt.NDArray[np.float64]
    step_us: npt.NDArray[np.float64]
    setup: list[tuple[str, bool, str]]

    @property
    def missing(self) -> list[str]:
        """One sentence for each real-time right that could not be had."""
        return [f"{what}: {reason}" for what, ok, reason in self.setup if not ok]


def back_and_forth(ticks: int) -> npt.NDArray[np.void]:
    """Return a CHUNK_SPLINE of rest-to-rest quintics between two near poses, full of segments and at least `ticks` long."""
    segment_ticks = max(SHORTEST_SEGMENT_TICKS, ticks // MAX_SEGMENTS + 1)
    chunk = np.zeros((), CHUNK_SPLINE)
    chunk["chunk_id"], chunk["attach_tick"], chunk["segments"] = 1, 2, MAX_SEGMENTS
    chunk["knots"] = np.arange(MAX_SEGMENTS + 1) * segment_ticks
    chunk["gripper"] = np.nan
    forth = np.arange(MAX_SEGMENTS)[:, None] % 2 == 0
    chunk["coefficients"][:, 0] = np.where(forth, READY_RAD, READY_RAD + STRIDE_RAD)
    for power, factor in ((3, 10.0), (4, -15.0), (5, 6.0)):
        chunk["coefficients"][:, power] = (
            np.where(forth, 1.0, -1.0) * STRIDE_RAD * factor / (segment_ticks * TICK_S) ** power
        )
    return chunk


def resting_arm() -> npt.NDArray[np.void]:
    """Return an ARM_STATE at rest where `back_and_forth` begins."""
    state = np.zeros((), ARM_STATE)
    state["q"] = state["q_d"] = READY_RAD
    state["robot_mode"] = MOVE
    return state


def measure(ticks: int, priority: int, cpu: int | None) -> NativeLoop:
    """Run the loop for `ticks` in a process of its own with SCHED_FIFO `priority` on `cpu`; raises PocoError if it fails."""
    with tempfile.NamedTemporaryFile(suffix=".npy") as out:
        words = ["--ticks", str(ticks), "--priority", str(priority), "--out", out.name]
        words += [] if cpu is None else ["--cpu", str(cpu)]
        done = subprocess.run([sys.executable, "-m", __name__, *words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise PocoError(f"the native loop failed ({done.stderr.strip().splitlines()[-1:]}): run it by itself")
        late_us, step_us = np.load(out.name) * 1e-3
    return NativeLoop(late_us, step_us, msgspec.json.decode(done.stdout, type=list[tuple[str, bool, str]]))


def main() -> None:
    """Entry point of the measuring process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ticks", type=int, required=True)
    parser.add_argument("--priority", type=int, required=True)
    parser.add_argument("--cpu", type=int)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    setup = realtime_setup(arguments.priority, arguments.cpu)
    late_ns, step_ns = durations_ns = np.zeros((2, arguments.ticks), np.int64)
    limits = fr3_limits(guards=WIDE_GUARDS)
    memory = Memory()
    time_loop(resting_arm(), back_and_forth(arguments.ticks), limits, memory, late_ns, step_ns, arguments.ticks)
    np.save(arguments.out, durations_ns)
    print(msgspec.json.encode(setup).decode())


if __name__ == "__main__":
    main()
