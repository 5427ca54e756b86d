"""The panels that the pictures of a run are composed of; each draws into axes it is given. Called after motion has ended."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from poco.clock import TICK_S
from poco.kinematics import forward
from poco.limits import PLANNING_MARGINS, STEP_MARGINS
from poco.runtime.measures import LIMIT_KINDS, SUCCESS, Recording, Report, latency_ms
from poco.runtime.run_folder import ChunkRecord, EpisodeEnded, EpisodeStarted
from poco.statistics import Percentiles

Floats = npt.NDArray[np.float64]

INK, BLUE, GREEN, ORANGE, GREY = "#333333", "#3b6fb6", "#2a9d6f", "#d9622b", "#9a9a9a"
STAGE_COLORS = {"sense": GREY, "inference": BLUE, "planning": GREEN, "total": INK}
STAGE_NAMES = {"sense": "sensing"}
JOINT_COLORS = ("#3b6fb6", "#d9622b", "#2a9d6f", "#b8459b", "#8a6d3b", "#e0a526", "#5b5bd6")
POINTS_PER_PATH = 400
PATH_AXIS_MIN_MM = 5.0


def note(axes: Axes, text: str) -> None:
    """Say in the middle of empty axes why there is nothing to see."""
    axes.text(0.5, 0.5, text, ha="center", va="center", color=GREY, transform=axes.transAxes)
    axes.set_xticks([])
    axes.set_yticks([])


def mark(axes: Axes, x: float, label: str, color: str, height: float = 0.98) -> None:
    """Draw a labelled vertical line at `x`, the label at `height` of the axes."""
    axes.axvline(x, color=color, linewidth=1.0, linestyle="--")
    paper = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.0}
    axes.annotate(
        label,
        (x, height),
        (4.0, 0.0),
        xycoords=axes.get_xaxis_transform(),
        textcoords="offset points",
        color=color,
        va="top",
        fontsize=8,
        bbox=paper,
        in_layout=False,
    )


def logarithmic(axes: Axes, low: float, high: float) -> None:
    """Give `axes` a logarithmic x axis from `low` to `high` with plain numbers at its ticks."""
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    steps = (1.0, 2.0, 5.0) if high < 1000.0 * low else (1.0,)
    if high < 2.0 * low:
        axes.xaxis.set_major_locator(MaxNLocator(6))
    else:
        axes.xaxis.set_major_locator(LogLocator(subs=steps))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def counted(axes: Axes, most: float) -> None:
    """Give `axes` a logarithmic y axis of counts up to `most` with room for labels above."""
    axes.set_yscale("log")
    axes.set_ylim(0.7, max(most, 1.0) ** 1.35 * 3.0)
    axes.set_ylabel("ticks")


def turnaround(axes: Axes, turnaround_ns: npt.NDArray[np.int64], spread: Percentiles | None) -> None:
    """Draw how long the servo took from state to command, one value a tick [n]."""
    axes.set_title("Servo turnaround: state received to command sent")
    if spread is None:
        note(axes, "no tick was recorded")
        return
    values = np.maximum(turnaround_ns / 1e3, 1.0)
    edges = np.geomspace(min(values.min(), 800.0) * 0.9, max(values.max(), 1100.0) * 1.2, 90)
    counts, _, _ = axes.hist(values, edges.tolist(), color=BLUE)
    logarithmic(axes, edges[0], edges[-1])
    counted(axes, float(np.max(counts)))
    axes.set_xlabel("µs")
    for name, value, height in (("p50", spread.p50, 0.98), ("p99", spread.p99, 0.90), ("p99.9", spread.p99_9, 0.82)):
        mark(axes, value, f"{name} {value:.0f}", INK, height)
    mark(axes, 1000.0, "1 ms", ORANGE, 0.74)


def latency(axes: Axes, chunks: list[ChunkRecord], deadline_ms: float, stages: tuple[str, ...]) -> None:
    """Draw how long the stages of a chunk took, with the time after which it would have been late."""
    axes.set_title("Chunk latency: woken to published")
    if not chunks:
        note(axes, "no chunk was planned")
        return
    values = {stage: np.maximum(latency_ms(chunks, stage), 1e-3) for stage in stages}
    low = min(float(value.min()) for value in values.values())
    high = max(float(value.max()) for value in values.values())
    edges = np.geomspace(low * 0.9, max(high, deadline_ms) * 2.0, 70)
    for stage, value in values.items():
        color = STAGE_COLORS[stage]
        axes.hist(value, edges.tolist(), histtype="stepfilled", color=color, alpha=0.25)
        axes.hist(
            value,
            edges.tolist(),
            histtype="step",
            color=color,
            label=f"{STAGE_NAMES.get(stage, stage)} (p50 {np.median(value):.2f} ms)",
        )
    logarithmic(axes, edges[0], edges[-1])
    axes.set_xlabel("ms")
    axes.set_ylabel("chunks")
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.margins(y=0.35)
    if deadline_ms > 0.0:
        mark(axes, deadline_ms, "deadline", ORANGE)
    axes.legend(loc="upper left", fontsize=8)


def episode_strip(axes: Axes, report: Report) -> None:
    """Draw one box an episode: green with its duration where it succeeded, orange with its outcome elsewhere."""
    axes.set_axis_off()
    if not report.episodes:
        note(axes, "no episode was started")
        return
    for place, episode in enumerate(report.episodes):
        color = {SUCCESS: GREEN, "unfinished": GREY, "discarded": GREY}.get(episode.outcome, ORANGE)
        axes.add_patch(Rectangle((place + 0.04, 0.0), 0.92, 1.0, color=color))
        if len(report.episodes) <= 30:
            word = f"{episode.ticks * TICK_S:.1f} s" if episode.ticks else ""
            axes.text(place + 0.5, 0.5, word, ha="center", va="center", color="white", fontsize=8)
            axes.text(place + 0.5, -0.12, str(episode.episode), ha="center", va="top", color=GREY, fontsize=7)
    axes.set_xlim(0.0, max(len(report.episodes), 10))
    axes.set_ylim(-0.4, 1.0)


def windows(recording: Recording) -> dict[int, slice]:
    """Return the rows of the ticks of every episode that is kept whole; without its end, all from its start."""
    numbers = recording.ticks["state"]["tick"]
    ends = {event.episode: event.tick for event in recording.of_kind(EpisodeEnded)}
    found = {}
    for event in recording.of_kind(EpisodeStarted):
        first = int(np.searchsorted(numbers, event.tick))
        ended = event.episode in ends
        last = int(np.searchsorted(numbers, ends[event.episode], side="right")) if ended else len(numbers)
        if last > first and numbers[0] <= event.tick:
            found[event.episode] = slice(first, last)
    return found


def tip_path(recording: Recording, rows: slice) -> Floats:
    """Return measured tip positions [n, 3] (m, base frame) of `rows`, evenly thinned."""
    q = recording.ticks["state"]["q"][rows]
    chosen = q[:: max(1, len(q) // POINTS_PER_PATH)]
    tip = recording.facts.specification.tip
    return np.array([forward(np.ascontiguousarray(row), tip)[0] for row in chosen]).reshape(-1, 3)


def tip_paths(axes: Axes, recording: Recording, report: Report, horizontal: int, vertical: int) -> None:
    """Draw the measured tip path of every episode, seen along the third axis of the base frame."""
    names = "xyz"
    axes.set_title(f"Tip path, {'side' if vertical == 2 else 'top'} view")
    outcomes = {episode.episode: episode.outcome for episode in report.episodes}
    paths = [(outcomes[episode], tip_path(recording, rows)) for episode, rows in windows(recording).items()]
    if not paths:
        note(axes, "no episode was recorded")
        return
    start = paths[0][1][0, [horizontal, vertical]] * 1e3
    axes.update_datalim([start - PATH_AXIS_MIN_MM, start + PATH_AXIS_MIN_MM])  # for an arm that stood still
    for outcome, path in paths:
        color = GREEN if outcome == SUCCESS else ORANGE
        axes.plot(path[:, horizontal] * 1e3, path[:, vertical] * 1e3, color=color, linewidth=0.9, alpha=0.6)
        axes.plot(path[-1, horizontal] * 1e3, path[-1, vertical] * 1e3, "o", color=color, markersize=3)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xlabel(f"{names[horizontal]} (mm)")
    axes.set_ylabel(f"{names[vertical]} (mm)")


def limit_table(axes: Axes, report: Report) -> None:
    """Draw the largest use of every limit by every joint as a coloured table."""
    axes.set_title("Largest use of the arm's limits (%)")
    uses = [report.limits[kind] for kind in LIMIT_KINDS]
    if any(use is None for use in uses):
        note(axes, "the arm did not move")
        return
    table = np.array([use.per_joint for use in uses if use is not None]) * 100.0
    axes.imshow(table, cmap="YlGnBu", vmin=0.0, vmax=130.0, aspect="auto")
    for (row, column), value in np.ndenumerate(table):
        color = "white" if value > 65.0 else INK
        weight = "bold" if value > 100.0 else "normal"
        axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=color, fontweight=weight, fontsize=9)
    axes.set_xticks(range(7), [f"joint {joint}" for joint in range(1, 8)], fontsize=8)
    axes.set_yticks(range(len(LIMIT_KINDS)), LIMIT_KINDS)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def margins_of(kind: str) -> tuple[float, float] | None:
    """Return the share of the arm's limit that planner and `step()` keep to; None for position, whose margin is in rad."""
    if kind == "position":
        return None
    return float(getattr(PLANNING_MARGINS, kind)), float(getattr(STEP_MARGINS, kind))
