"""The picture of a soak: memory, handles, timing and episodes over time."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from poco.runtime.panels import BLUE, GREEN, GREY, INK, ORANGE
from poco.runtime.recorder import MINUTE_TICKS
from poco.runtime.run_folder import Dilation, EpisodeEnded, Fault, Hold, Reflex
from poco.runtime.soak.checks import Check
from poco.runtime.soak.figures import SoakFigures, Watched

COLORS = {"supervisor": BLUE, "servo": ORANGE, "policy": GREEN, "emulator": INK}


def draw(watched: Watched, figures: SoakFigures, checks: list[Check], subtitle: str, path: Path) -> None:
    """Write a PNG to `path`."""
    figure, grid = plt.subplots(3, 2, figsize=(13.0, 11.0), layout="constrained")
    failed = [check.name for check in checks if check.passed is False]
    verdict = f"failed: {', '.join(failed)}" if failed else "passed"
    title = f"Soak of {figures.watched_min:.0f} min, {figures.successes} of {figures.episodes} episodes: {verdict}"
    figure.suptitle(f"{title}\n{subtitle}", x=0.012, ha="left", fontsize=11)
    resident(grid[0, 0], watched)
    change(grid[0, 1], watched, figures)
    held(grid[1, 0], watched)
    timing(grid[1, 1], watched)
    episodes(grid[2, 0], watched)
    waiting(grid[2, 1], watched)
    for axes in grid.flat:
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def resident(axes: Axes, watched: Watched) -> None:
    """Draw the resident memory of every process."""
    for name, minutes, values in _series(watched, "rss_kib"):
        axes.plot(minutes, np.array(values) / 1024.0, color=COLORS.get(name, GREY), label=name)
    axes.set_ylim(bottom=0.0)
    _label(axes, "Resident memory", "wall minutes", "MiB")


def change(axes: Axes, watched: Watched, figures: SoakFigures) -> None:
    """Draw how resident memory changed since half time, with its slope."""
    for name, minutes, values in _series(watched, "rss_kib"):
        if name not in figures.processes:
            continue
        grown = figures.processes[name].memory["rss_kib"]
        label = f"{name} {grown.slope} KiB/h" if grown.slope else name
        axes.plot(minutes, np.array(values) - grown.first, color=COLORS.get(name, GREY), label=label, linewidth=1.0)
    axes.axvline(figures.watched_min / 2.0, color=GREY, linestyle="--", linewidth=1.0)
    axes.set_yscale("symlog", linthresh=256.0)
    _label(axes, "Change of resident memory since half time", "wall minutes", "KiB")


def held(axes: Axes, watched: Watched) -> None:
    """Draw open handles and threads of every process."""
    for what, style in (("handles", "-"), ("threads", ":")):
        for name, minutes, values in _series(watched, what):
            axes.plot(minutes, values, style, color=COLORS.get(name, GREY), label=f"{name} {what}")
    axes.set_ylim(bottom=0.0)
    _label(axes, "Open handles and threads", "wall minutes", "")


def timing(axes: Axes, watched: Watched) -> None:
    """Draw the percentiles of the servo's turnaround in every minute."""
    minutes = [minute for minute in watched.minutes if minute.turnaround_us]
    for name, style, label in (
        ("p50", "-", "p50"),
        ("p99", "-", "p99"),
        ("p99_9", "-", "p99.9"),
        ("maximum", ":", "max"),
    ):
        values = [getattr(minute.turnaround_us, name) for minute in minutes]
        axes.plot([minute.tick / MINUTE_TICKS for minute in minutes], values, style, label=label)
    axes.axhline(1000.0, color=ORANGE, linestyle="--", linewidth=1.0)
    axes.set_yscale("log")
    _label(axes, "Servo turnaround in each minute: state received to command sent", "robot minutes", "µs")


def episodes(axes: Axes, watched: Watched) -> None:
    """Draw the episodes of every minute by outcome, and where a reflex or another fault was."""
    ended = [event for event in watched.events if isinstance(event, EpisodeEnded)]
    edges = np.arange(int(max((event.tick for event in ended), default=0) / MINUTE_TICKS) + 2)
    floor = np.zeros(len(edges) - 1)
    for outcome, color in (("success", GREEN), ("truncated", GREY), ("failure", ORANGE), ("fault", INK)):
        counts, _ = np.histogram([event.tick / MINUTE_TICKS for event in ended if event.outcome == outcome], edges)
        if counts.any():
            axes.bar(edges[:-1] + 0.5, counts, 0.9, floor, color=color, label=outcome)
        floor = floor + counts
    for kind, color in ((Reflex, "#c02030"), (Fault, INK)):
        ticks = [event.tick for event in watched.events if isinstance(event, kind)]
        for tick in ticks:
            axes.axvline(tick / MINUTE_TICKS, color=color, linewidth=1.0, label=kind.__name__.lower())
    _label(axes, "Episodes in each minute", "robot minutes", "")


def waiting(axes: Axes, watched: Watched) -> None:
    """Draw how long the emulated arm waited and how often the servo held, in total."""
    dilations = [event for event in watched.events if isinstance(event, Dilation)]
    axes.plot(
        [event.tick / MINUTE_TICKS for event in dilations],
        [event.total_s for event in dilations],
        color=BLUE,
        label="the arm waited (s)",
    )
    holds = [event.tick / MINUTE_TICKS for event in watched.events if isinstance(event, Hold)]
    axes.step([0.0, *holds], np.arange(len(holds) + 1), where="post", color=ORANGE, label="holds for a cause")
    _label(axes, "Waiting of the emulated arm and holds, in total", "robot minutes", "")


def _series(watched: Watched, what: str) -> list[tuple[str, list[float], list[int]]]:
    names = dict.fromkeys(name for sample in watched.samples for name in sample.processes)
    return [
        (
            name,
            [sample.elapsed_s / 60.0 for sample in watched.samples if name in sample.processes],
            [getattr(sample.processes[name], what) for sample in watched.samples if name in sample.processes],
        )
        for name in names
    ]


def _label(axes: Axes, title: str, across: str, up: str) -> None:
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    if unique:
        axes.legend(unique.values(), unique.keys(), fontsize=8, frameon=False)
