"""The picture of one benchmark: how often each subject took longer than how long."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from poco.runtime.benchmarks.outcome import PERCENTILES, Measurement, Outcome
from poco.runtime.panels import BLUE, GREEN, GREY, INK, ORANGE, logarithmic

COLORS = (BLUE, ORANGE, GREEN, GREY, INK)
POINTS = 600
FLOOR_US = 0.1


def draw(outcome: Outcome, subtitle: str, path: Path) -> None:
    """Write a PNG to `path`: one line a repeat, the share of samples above each duration (us) on logarithmic axes.

    All subjects share one panel; where they are too many each pair has its own.
    """
    measurements = outcome.measurements
    groups = [measurements]
    if len(measurements) > len(COLORS):
        groups = [[m for m in measurements if m.name in pair] for pair in outcome.pairs]
    columns = min(len(groups), 3)
    rows = -(-len(groups) // columns)
    size = (9.0, 5.5) if len(groups) == 1 else (5.0 * columns, 4.0 * rows)
    figure, grid = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    pooled = np.maximum(np.concatenate([samples for m in measurements for samples in m.repeats]), FLOOR_US)
    span_us = (float(pooled.min()) * 0.9, float(pooled.max()) * 1.2)
    for axes, group in zip(grid.flat, groups, strict=False):
        _curves(axes, group, span_us)
    for axes in grid.flat[len(groups) :]:
        axes.set_visible(False)
    figure.suptitle(f"{outcome.what}\n{subtitle}", fontsize=10)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _curves(axes: Axes, measurements: Sequence[Measurement], span_us: tuple[float, float]) -> None:
    fewest = min(len(samples) for measurement in measurements for samples in measurement.repeats)
    for measurement, color in zip(measurements, COLORS, strict=False):
        p50, p99 = (np.median(measurement.percentile(name)) for name in ("p50", "p99"))
        label = f"{measurement.name} (p50 {p50:.3g}, p99 {p99:.3g} µs)"
        for samples in measurement.repeats:
            ordered = np.sort(np.maximum(samples, FLOOR_US))
            rows = np.unique(len(ordered) - np.geomspace(1, len(ordered), POINTS).round().astype(int))
            axes.step(ordered[rows], 1.0 - rows / len(ordered), where="post", color=color, linewidth=1.0, label=label)
            label = "_again"
    logarithmic(axes, *span_us)
    axes.set_yscale("log")
    axes.set_ylim(0.5 / fewest, 1.3)
    shares = {name: 1.0 - percent / 100.0 for name, percent in PERCENTILES.items() if name != "max"}
    axes.set_yticks(list(shares.values()), list(shares))
    axes.minorticks_off()
    axes.grid(alpha=0.25)
    axes.set_xlabel("µs")
    axes.set_ylabel("share of samples above")
    axes.legend(loc="upper right", fontsize=9)
