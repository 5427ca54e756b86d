"""Lateness of the native 1 kHz loop against cyclictest: alternating slices on the same core at the same priority."""

from __future__ import annotations

import re
import shutil
import subprocess

import numpy as np

from poco.clock import TICKS_PER_SECOND
from poco.errors import PocoError
from poco.runtime.benchmarks.native_loop import measure
from poco.runtime.benchmarks.outcome import Floats, Measurement, Outcome

HISTOGRAM_US = 100_000


def run(repeats: int, slice_s: float, priority: int, cpu: int) -> Outcome:
    """Alternate `repeats` slices of each; raises PocoError without cyclictest or without the right to SCHED_FIFO."""
    program = shutil.which("cyclictest")
    if program is None:
        raise PocoError("cyclictest is not installed, it is what the loop is compared with: apt-get install rt-tests")
    ticks = round(slice_s * TICKS_PER_SECOND)
    loops, competitor = [], []
    for _ in range(repeats):
        loops.append(measure(ticks, priority, cpu))
        competitor.append(cyclictest(program, ticks, priority, cpu))
    missing = loops[0].missing
    return Outcome(
        "loop",
        f"Lateness of a 1 kHz loop, SCHED_FIFO {priority} on CPU {cpu}, {slice_s:g} s slices",
        [
            Measurement("loop", [loop.late_us for loop in loops]),
            Measurement("cyclictest", competitor),
            Measurement("step", [loop.step_us for loop in loops]),
        ],
        [("loop", "cyclictest")],
        ["loop runs step() in every tick, step is how long that took", "cyclictest counts whole us", *missing],
    )


def cyclictest(program: str, ticks: int, priority: int, cpu: int) -> Floats:
    """Return the lateness of `ticks` periods of 1 ms [n] (us) as cyclictest's histogram gives it; raises PocoError if it fails."""
    words = [program, "-m", "-q", "-t1", f"-a{cpu}", f"-p{priority}", "-i1000", f"-l{ticks}", f"-h{HISTOGRAM_US}"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = " ".join((done.stderr or done.stdout).split())
        raise PocoError(
            f"cyclictest failed ({reason}): give it SCHED_FIFO (rtprio in /etc/security/limits.conf) or run as root"
        )
    return histogram(done.stdout)


def histogram(text: str) -> Floats:
    """Return the samples (us) that cyclictest's histogram `text` counts; those beyond its end take the maximum it reports."""
    counted = [line.split() for line in text.splitlines() if re.fullmatch(r"\d+\s+\d+\s*", line)]
    rows = np.array(counted, np.int64).reshape(-1, 2)
    samples = np.repeat(rows[:, 0], rows[:, 1]).astype(np.float64)
    beyond = re.search(r"# Histogram Overflows: 0*(\d+)", text)
    largest = re.search(r"# Max Latencies: 0*(\d+)", text)
    if beyond is None or largest is None:
        raise PocoError("cyclictest printed no histogram that poco understands: install rt-tests 2.0 or newer")
    return np.concatenate([samples, np.full(int(beyond[1]), float(largest[1]))])
