"""Time of planning: inverse kinematics and chunks of several lengths, and of compiling; percentiles and host facts as JSON.

`check_ratio` is how much longer the check of every tick takes than the quick one in pieces, median of pairs on the same plans.

python bench/motion.py [--repeats 300]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter

import msgspec
import numpy as np
import numpy.typing as npt
from every_tick import verify_every_tick

from poco.bounds import bounds_of
from poco.limits import PLANNING_MARGINS, fr3_limits
from poco.motion import plan_chunk, sample, tip_delta_targets, warm_up
from poco.runtime.run_folder import host_facts
from poco.verification import verify

READY_RAD = np.array([0.0, -np.pi / 4, 0.0, -3 * np.pi / 4, 0.0, np.pi / 2, np.pi / 4])
PERIOD_TICKS = 50
START_UP = "from poco.limits import *; from poco.motion import *; warm_up(fr3_limits(PLANNING_MARGINS))"


def percentiles(nanoseconds: list[int]) -> dict[str, float]:
    """Return p50, p99 and the largest of the samples (ms)."""
    p50, p99 = np.percentile(nanoseconds, (50, 99)) * 1e-6
    return {"p50": round(float(p50), 4), "p99": round(float(p99), 4), "max": round(max(nanoseconds) * 1e-6, 4)}


def check_ratio(spline: npt.NDArray[np.void], limits: npt.NDArray[np.void]) -> float:
    """Return the time of the check of every tick over that of the quick check of the same plan; both must find nothing."""
    segments, bounds = int(spline["segments"]), bounds_of(limits)
    knots, coefficients = spline["knots"], spline["coefficients"]
    start_dq, start_ddq = coefficients[0, 1].copy(), 2.0 * coefficients[0, 2]
    begin = time.perf_counter_ns()
    plain = verify_every_tick(knots, coefficients, segments, start_dq, start_ddq, bounds)
    middle = time.perf_counter_ns()
    quick = verify(knots, coefficients, segments, np.zeros(segments, np.bool_), start_dq, start_ddq, bounds)
    end = time.perf_counter_ns()
    if plain[0] >= 0 or quick[0] >= 0:
        raise SystemExit(f"a plan breaks a limit: {plain} by every tick, {quick} in pieces")
    return (middle - begin) / (end - middle)


def plan_series(actions: int, pace_m_s: float, repeats: int) -> dict[str, object]:
    """Plan `repeats` chunks, each from the middle of its predecessor, with noise of a tenth of the pace."""
    limits = fr3_limits(PLANNING_MARGINS)
    generator = np.random.default_rng(actions)
    inverse_ns: list[int] = []
    plan_ns: list[int] = []
    ratios: list[float] = []
    outcomes: Counter[str] = Counter()
    state = READY_RAD, np.zeros(7), np.zeros(7)
    step_m = pace_m_s * PERIOD_TICKS * 1e-3
    for number in range(repeats):
        angle = 0.1 * (np.arange(actions) + actions // 2 * number)
        deltas = step_m * np.stack([0 * angle, np.cos(angle), np.sin(angle), 0 * angle], axis=1)
        deltas[:, :3] += 0.1 * step_m * generator.normal(size=(actions, 3))

        begin = time.perf_counter_ns()
        targets = tip_delta_targets(deltas, state[0], np.eye(4), READY_RAD, limits)
        middle = time.perf_counter_ns()
        plan = plan_chunk(targets, *state, PERIOD_TICKS, 0, 1, 0, 0, limits)
        end = time.perf_counter_ns()
        inverse_ns.append(middle - begin)
        plan_ns.append(end - middle)
        outcomes[plan.outcome.name] += 1
        ratios.append(check_ratio(plan.spline, limits))
        state = sample(plan.spline, int(plan.action_ticks[max(1, actions // 2)]))
    return {
        "inverse_ms": percentiles(inverse_ns),
        "plan_ms": percentiles(plan_ns),
        "check_ratio": round(float(np.median(ratios)), 2),
        "outcomes": dict(outcomes),
    }


def start_up_s(cache: str) -> float:
    """Return how long a fresh process takes from start to compiled kernels with the kernel cache `cache` (s)."""
    begin = time.monotonic()
    subprocess.run([sys.executable, "-c", START_UP], check=True, env={**os.environ, "NUMBA_CACHE_DIR": cache})
    return round(time.monotonic() - begin, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=300)
    repeats = parser.parse_args().repeats
    warm_up(fr3_limits(PLANNING_MARGINS))
    with tempfile.TemporaryDirectory() as cache:
        start_up = {"cold": start_up_s(cache), "cached": start_up_s(cache)}
    series = {
        f"T={actions} at 20 Hz, {pace_m_s} m/s": plan_series(actions, pace_m_s, repeats)
        for actions in (8, 16, 50)
        for pace_m_s in (0.03, 0.1, 0.4)
    }
    print(
        json.dumps(
            {"process start to compiled kernels (s)": start_up, **series, "host": msgspec.to_builtins(host_facts())},
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
