"""The pictures of a run: an overview and one figure each for timing, joints and limits. Called after motion has ended."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from poco.clock import TICK_S
from poco.runtime import panels
from poco.runtime.measures import LIMIT_KINDS, STAGES, SUCCESS, Recording, Report, headline, limit_shares
from poco.runtime.panels import BLUE, GREY, INK, JOINT_COLORS, ORANGE

Floats = npt.NDArray[np.float64]
Draw = Callable[[Recording, Report], Figure]

POINTS_PER_LINE = 1500
ERROR_AXIS_MIN_MRAD = 0.1
JOINT_AXIS_MIN_RAD = 1e-3


def styled() -> AbstractContextManager[None]:
    """Return the style of every picture, to draw in."""
    return plt.rc_context(
        {
            "figure.dpi": 110,
            "font.size": 9,
            "axes.titlesize": 10,
            "axes.titlelocation": "left",
            "axes.titleweight": "bold",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "#e6e6e6",
            "axes.axisbelow": True,
            "legend.frameon": False,
        }
    )


def draw_all(recording: Recording, report: Report, folder: Path) -> list[Path]:
    """Draw every picture of `recording` into `folder`; return their paths, the overview first."""
    paths = []
    with styled():
        for name, draw in PICTURES.items():
            figure = draw(recording, report)
            paths.append(folder / name)
            figure.savefig(paths[-1])
            plt.close(figure)
    return paths


def overview(recording: Recording, report: Report) -> Figure:
    """Draw what one looks at first: episodes, timing, tip paths and use of limits."""
    figure = plt.figure(figsize=(13.0, 9.0), layout="constrained")
    grid = figure.add_gridspec(3, 6, height_ratios=[0.32, 1.0, 1.0])
    figure.suptitle(headline(report), fontsize=15, fontweight="bold", x=0.012, ha="left")
    strip = figure.add_subplot(grid[0, :])
    panels.episode_strip(strip, report)
    strip.set_title(subtitle(report), fontsize=9, fontweight="normal", color=INK)
    panels.turnaround(figure.add_subplot(grid[1, :3]), recording.turnaround_ns(), report.turnaround_us)
    panels.latency(
        figure.add_subplot(grid[1, 3:]), recording.chunks, report.deadline_ms, ("inference", "planning", "total")
    )
    panels.tip_paths(figure.add_subplot(grid[2, :2]), recording, report, 0, 2)
    panels.tip_paths(figure.add_subplot(grid[2, 2:4]), recording, report, 0, 1)
    panels.limit_table(figure.add_subplot(grid[2, 4:]), report)
    return figure


def subtitle(report: Report) -> str:
    """Return in one line what ran on what."""
    facts = report.facts
    return (
        f"{facts.robot} arm at {facts.host}, {facts.pacing} pacing, speed {facts.speed:g}; {Path(facts.artifact).name} "
        f"generation {facts.generation}; {facts.started_utc}; {facts.computer.cores} x {facts.computer.cpu}"
    )


def turnaround(recording: Recording, report: Report) -> Figure:
    """Draw the histogram of turnaround and that of the period between states."""
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(9.0, 7.0), layout="constrained")
    panels.turnaround(upper, recording.turnaround_ns(), report.turnaround_us)
    lower.set_title(f"Period between states as the host received them ({report.facts.pacing} pacing)")
    periods = np.maximum(recording.periods_ns() / 1e3, 1.0)
    if report.period_us is None:
        panels.note(lower, "the arm did not move")
        return figure
    edges = np.geomspace(periods.min() * 0.9, periods.max() * 1.1, 120)
    counts, _, _ = lower.hist(periods, edges.tolist(), color=BLUE)
    panels.logarithmic(lower, edges[0], edges[-1])
    panels.counted(lower, float(np.max(counts)))
    lower.set_xlabel("µs")
    panels.mark(lower, report.period_us.p50, f"p50 {report.period_us.p50:.0f}", INK)
    panels.mark(lower, report.period_us.p99, f"p99 {report.period_us.p99:.0f}", INK, 0.89)
    return figure


def latency(recording: Recording, report: Report) -> Figure:
    """Draw the latency of every stage and the age of the observations the arm moved by."""
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(9.0, 7.0), layout="constrained")
    panels.latency(upper, recording.chunks, report.deadline_ms, STAGES)
    lower.set_title("Chunk age: ticks since the observation the arm moves by")
    if report.chunk_age_ms is None:
        panels.note(lower, "no chunk was followed")
        return figure
    ages = recording.chunk_ages()
    lower.hist(ages, range(int(ages.min()), int(ages.max()) + 6, 5), color=BLUE)
    lower.margins(x=0.1, y=0.2)
    lower.set_xlabel("ms of robot time")
    lower.set_ylabel("ticks")
    panels.mark(lower, report.chunk_age_ms.p99, f"p99 {report.chunk_age_ms.p99:.0f}", INK)
    return figure


def joints(recording: Recording, report: Report) -> Figure:
    """Draw commanded against measured joints: the first kept episode that succeeded, else the first, else the whole run."""
    figure, grid = plt.subplots(4, 2, figsize=(13.0, 10.0), sharex=True, layout="constrained")
    windows = panels.windows(recording)
    kept = [episode for episode in report.episodes if episode.episode in windows]
    order = sorted(kept, key=lambda episode: episode.outcome != SUCCESS)
    rows = windows[order[0].episode] if order else slice(None)
    ticks = recording.ticks[rows]
    name = f"episode {order[0].episode} ({order[0].outcome})" if order else "the whole run"
    figure.suptitle(f"Commanded against measured joints, {name}", fontsize=12, fontweight="bold", x=0.012, ha="left")
    axes = grid.T.ravel()
    if len(ticks) == 0:
        for panel in axes:
            panels.note(panel, "no tick was recorded")
        return figure
    seconds = (ticks["state"]["tick"] - ticks["state"]["tick"][0]) * TICK_S
    ids = ticks["command"]["chunk_id"]
    seams = seconds[1:][(np.diff(ids) != 0) & (ids[1:] > 0)]
    for joint, panel in enumerate(axes[:7]):
        panel.set_title(f"joint {joint + 1} (rad)")
        panel.vlines(seams, 0.0, 1.0, transform=panel.get_xaxis_transform(), color="#dddddd", linewidth=0.8)
        panel.grid(visible=False, axis="x")
        panel.plot(seconds, ticks["command"]["q"][:, joint], color=ORANGE, linewidth=1.6, label="commanded")
        panel.plot(seconds, ticks["state"]["q"][:, joint], color=BLUE, linewidth=0.9, label="measured")
        middle = float(ticks["state"]["q"][0, joint])
        panel.update_datalim([(0.0, middle - JOINT_AXIS_MIN_RAD), (0.0, middle + JOINT_AXIS_MIN_RAD)])
        panel.ticklabel_format(useOffset=False)
    axes[0].plot([], [], color="#cccccc", label="chunk seam")
    axes[0].legend(ncols=3, fontsize=8, loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.0)
    error = (ticks["command"]["q"] - ticks["state"]["q"]) * 1e3
    for joint, color in enumerate(JOINT_COLORS):
        axes[7].plot(seconds, error[:, joint], color=color, linewidth=0.9, label=str(joint + 1))
    axes[7].set_title("commanded minus measured (mrad), by joint")
    axes[7].legend(ncols=7, fontsize=7, loc="upper right", handlelength=1.0, columnspacing=0.8)
    reach = max(ERROR_AXIS_MIN_MRAD, float(np.abs(error).max())) * 1.3
    axes[7].set_ylim(-reach, reach)
    for panel in (axes[3], axes[7]):
        panel.set_xlabel("s of robot time")
    return figure


def limits(recording: Recording, report: Report) -> Figure:
    """Draw over the whole run how much of each of the arm's limits the commands used, by the joint that used most."""
    figure, grid = plt.subplots(4, 1, figsize=(13.0, 10.0), sharex=True, layout="constrained")
    figure.suptitle(
        "Use of the arm's limits by the commands (backward differences at 1 ms, largest of seven joints)",
        fontsize=12,
        fontweight="bold",
        x=0.012,
        ha="left",
    )
    motions = recording.motions()
    for kind, panel in zip(LIMIT_KINDS, grid, strict=True):
        use = report.limits[kind]
        if use is None:
            panels.note(panel, "the arm did not move")
            continue
        joint = int(np.argmax(use.per_joint)) + 1
        panel.set_title(f"{kind}: at most {use.largest:.0%} (joint {joint})")
        panel.axhline(1.0, color=ORANGE, linewidth=1.2)
        for share, word, side in zip(
            panels.margins_of(kind) or (), ("planner", "servo"), ("top", "center"), strict=False
        ):
            panel.axhline(share, color=GREY, linewidth=0.8, linestyle="--")
            panel.text(1.005, share, word, color=GREY, fontsize=8, va=side, transform=panel.get_yaxis_transform())
        panel.text(1.005, 1.0, "arm", color=ORANGE, fontsize=8, va="center", transform=panel.get_yaxis_transform())
        panel.set_ylim(0.0, max(1.1, use.largest * 1.1))
        panel.yaxis.set_major_formatter(PercentFormatter(1.0))
    origin = int(recording.ticks["state"]["tick"][0]) if len(recording.ticks) else 0
    for motion in motions:
        seconds = (recording.ticks["state"]["tick"][motion] - origin) * TICK_S
        for kind, shares in limit_shares(recording.ticks["command"]["q"][motion]).items():
            x, y = thin(seconds, shares.max(axis=1))
            grid[LIMIT_KINDS.index(kind)].plot(x, y, color=BLUE, linewidth=0.8)
    grid[-1].set_xlabel("s of robot time")
    return figure


def thin(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return at most POINTS_PER_LINE points that keep every local maximum of `y` [n]: the largest of each stretch."""
    stretch = -(-len(y) // POINTS_PER_LINE)
    if stretch <= 1:
        return x, y
    whole = len(y) // stretch * stretch
    tail = [y[whole:].max()] if whole < len(y) else []
    return x[::stretch], np.concatenate([y[:whole].reshape(-1, stretch).max(axis=1), tail])


PICTURES: dict[str, Draw] = {
    "report.png": overview,
    "turnaround.png": turnaround,
    "latency.png": latency,
    "joints.png": joints,
    "limits.png": limits,
}
