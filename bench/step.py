"""Time of one native `step()` in each mode: percentiles and host facts as JSON on standard output.

python bench/step.py [--ticks 200000]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path

import numpy as np
import numpy.typing as npt

from poco import _core
from poco.limits import Guards, fr3_limits
from poco.records import ARM_STATE, CHUNK_SPLINE, COMMAND, MAX_SEGMENTS
from poco.trouble import Request

READY_RAD = np.array([0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785])


def back_and_forth(segments: int, ticks: int) -> npt.NDArray[np.void]:
    """Return a chunk of rest-to-rest quintics between two near poses."""
    chunk = np.zeros((), CHUNK_SPLINE)
    chunk["chunk_id"], chunk["attach_tick"], chunk["segments"] = 1, 2, segments
    chunk["knots"][: segments + 1] = np.arange(segments + 1) * ticks
    chunk["gripper"] = np.nan
    seconds, stride = ticks * 1e-3, 0.02
    for k in range(segments):
        sign = 1.0 if k % 2 == 0 else -1.0
        rows = chunk["coefficients"][k]
        rows[0] = READY_RAD + (0.0 if k % 2 == 0 else stride)
        for power, factor in ((3, 10.0), (4, -15.0), (5, 6.0)):
            rows[power] = sign * stride * factor / seconds**power
    return chunk


def percentiles(nanoseconds: npt.NDArray[np.int64]) -> dict[str, float]:
    """Return p50, p99, p99.9 and the largest of the samples (ns)."""
    names = ("p50", "p99", "p99.9")
    values = np.percentile(nanoseconds, (50, 99, 99.9))
    return {**{name: float(value) for name, value in zip(names, values, strict=True)}, "max": float(nanoseconds.max())}


def cpu_model() -> str:
    """Return the processor's name as the kernel gives it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ticks", type=int, default=200_000)
    ticks = parser.parse_args().ticks
    limits = fr3_limits(guards=Guards(box_min_m=(-1, -1, -1), box_max_m=(1, 1, 1), table_z_m=-1, speed_max_m_s=1))
    state = np.zeros((), ARM_STATE)
    state["q"] = state["q_d"] = READY_RAD
    state["robot_mode"] = 2
    chunk = back_and_forth(MAX_SEGMENTS, max(200, ticks // MAX_SEGMENTS + 1))
    timings = np.zeros(ticks, np.int64)
    memory = _core.Memory()
    state["tick"] = 0
    _core.follow(state, chunk, Request.ARMED, limits, memory, np.zeros(ticks, COMMAND), timings, ticks)
    report = {
        "unit": "ns",
        "following": percentiles(timings[3:]),
        "intake of a 512-segment chunk": float(timings[0]),
        "ticks": ticks,
        "final mode": memory.mode,
        "host": {
            "cpu": cpu_model(),
            "cpus": os.cpu_count(),
            "load": os.getloadavg()[0],
            "kernel": platform.release(),
            "python": platform.python_version(),
        },
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
