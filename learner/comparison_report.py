"""What a comparison found, as table, JSON and picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from poco.durable import write_durably
from poco.learner.comparison import Candidate
from poco.learner.metrics import EpisodeFigures, read_figures
from poco.learner.rollouts import wilson

WINDOW = 20
"""Training episodes in one average of the success."""

GRID = 200

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Row:
    """One method in one acting mode over its seeds; `mean` is the success of all fresh episodes, however many
    each seed has of them, `low` and `high` bound its 95 % Wilson interval."""

    label: str
    best_of: int
    seeds: tuple[int, ...]
    steps: tuple[int, ...]
    updates: tuple[int, ...]
    successes: tuple[int, ...]
    episodes: int
    rates: tuple[float, ...]
    mean: float
    low: float
    high: float
    worst: float

    @property
    def mode(self) -> str:
        """How the policy acted."""
        return "plain sample" if self.best_of == 1 else f"best of {self.best_of}"


def rows(candidates: Sequence[Candidate]) -> list[Row]:
    """Return one row for each method and acting mode that at least one seed was measured in."""
    found: dict[tuple[str, int], list[Candidate]] = {}
    for candidate in candidates:
        for best_of in candidate.evaluations:
            found.setdefault((candidate.label, best_of), []).append(candidate)
    return [_row(label, best_of, measured) for (label, best_of), measured in found.items()]


def _row(label: str, best_of: int, measured: list[Candidate]) -> Row:
    evaluations = [one.evaluations[best_of] for one in measured]
    episodes = sum(one.episodes for one in evaluations)
    pooled = wilson(sum(one.successes for one in evaluations), episodes)
    rates = tuple(one.rate for one in evaluations)
    return Row(
        label=label,
        best_of=best_of,
        seeds=tuple(one.seed for one in measured),
        steps=tuple(one.steps for one in evaluations),
        updates=tuple(read_figures(one.folder)[-1].updates for one in measured),
        successes=tuple(one.successes for one in evaluations),
        episodes=episodes,
        rates=rates,
        mean=pooled.rate,
        low=pooled.low,
        high=pooled.high,
        worst=min(rates),
    )


def markdown(found: Sequence[Row]) -> str:
    """Return the rows as a table in Markdown."""
    lines = [
        "| method | acting | seeds | control steps | updates | fresh episodes | success | 95 % | per seed | worst seed |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in found:
        per_seed = ", ".join(f"{rate:.0%}" for rate in row.rates)
        cells = (
            row.label,
            row.mode,
            str(len(row.seeds)),
            f"{np.mean(row.steps):.0f}",
            f"{np.mean(row.updates):.0f}",
            str(row.episodes),
            f"{row.mean:.1%}",
            f"{row.low:.1%} to {row.high:.1%}",
            per_seed,
            f"{row.worst:.0%}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write(candidates: Sequence[Candidate], folder: Path) -> list[Row]:
    """Write comparison.md, comparison.json and comparison.png into `folder` and return the rows."""
    found = rows(candidates)
    write_durably(folder / "comparison.md", markdown(found).encode())
    write_durably(folder / "comparison.json", json.dumps([asdict(row) for row in found], indent=2).encode() + b"\n")
    draw(candidates, found, folder / "comparison.png")
    return found


def draw(candidates: Sequence[Candidate], found: Sequence[Row], path: Path) -> None:
    """Draw learning curves beside final success to the PNG `path`."""
    figure = Figure(figsize=(14, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    curves, bars = figure.subplots(1, 2, width_ratios=(3, 2))
    labels = list(dict.fromkeys(one.label for one in candidates))
    for number, label in enumerate(labels):
        runs = [read_figures(one.folder) for one in candidates if one.label == label]
        _curve(curves, runs, label, f"C{number}")
    curves.set(ylim=(-0.02, 1.02), xlabel="control steps", ylabel=f"success, mean of {WINDOW} training episodes")
    curves.set_title("While learning: mean over seeds, 95 % interval of its episodes; dots are evaluations")
    curves.yaxis.set_major_formatter(PercentFormatter(1.0))
    curves.grid(alpha=0.3)
    curves.legend(fontsize=8)
    _bars(bars, found, labels)
    figure.savefig(path, dpi=110)


def running_success(figures: Sequence[EpisodeFigures]) -> tuple[Floats, Floats, Floats]:
    """Return control steps, mean success of the last WINDOW episodes and how many there were, after each episode."""
    outcomes = np.array([one.success for one in figures], np.float64)
    sums = np.concatenate([[0.0], np.cumsum(outcomes)])
    ends = np.arange(1, len(outcomes) + 1)
    starts = np.maximum(0, ends - WINDOW)
    counts = (ends - starts).astype(np.float64)
    return np.array([one.steps for one in figures], np.float64), (sums[ends] - sums[starts]) / counts, counts


def band(runs: Sequence[Sequence[EpisodeFigures]]) -> tuple[Floats, Floats, Floats, Floats]:
    """Return a grid of control steps that all `runs` reached, mean success there and its 95 % bounds.

    The bounds are the Wilson interval of the last WINDOW episodes of all runs together, as for the fresh episodes.
    """
    curves = [running_success(figures) for figures in runs]
    grid = np.linspace(max(steps[0] for steps, *_ in curves), min(steps[-1] for steps, *_ in curves), GRID)
    mean = np.mean([np.interp(grid, steps, success) for steps, success, _ in curves], axis=0)
    counts = np.sum([np.interp(grid, steps, count) for steps, _, count in curves], axis=0)
    bounds = [wilson(round(rate * count), round(count)) for rate, count in zip(mean, counts, strict=True)]
    return grid, mean, np.array([one.low for one in bounds]), np.array([one.high for one in bounds])


def _curve(axes: Axes, runs: Sequence[Sequence[EpisodeFigures]], label: str, color: str) -> None:
    grid, mean, low, high = band(runs)
    axes.plot(grid, mean, color=color, label=f"{label} ({len(runs)} {'seed' if len(runs) == 1 else 'seeds'})")
    axes.fill_between(grid, low, high, color=color, alpha=0.15, linewidth=0)
    points = [(one.steps, one.evaluation["plain"]) for figures in runs for one in figures if one.evaluation]
    if points:
        axes.plot(*np.array(points).T, "o", color=color, markersize=4, alpha=0.6)


def _bars(axes: Axes, found: Sequence[Row], labels: Sequence[str]) -> None:
    for place, row in enumerate(found):
        color = f"C{labels.index(row.label)}"
        axes.bar(place, row.mean, color=color, alpha=0.35 if row.best_of == 1 else 0.2)
        axes.errorbar(
            place, row.mean, [[max(0.0, row.mean - row.low)], [max(0.0, row.high - row.mean)]], color=color, capsize=5
        )
        beside = place + 0.06 * (np.arange(len(row.rates)) - (len(row.rates) - 1) / 2)
        axes.plot(beside, row.rates, "o", color=color, markersize=4)
        axes.annotate(f"{100 * row.mean:.3g}%", (place, max(row.high, *row.rates) + 0.015), ha="center")
    axes.set_xticks(range(len(found)), [f"{row.label}\n{row.mode}" for row in found], fontsize=8)
    axes.set(ylim=(0.0, 1.1), ylabel="success")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_title("Fresh episodes after learning: 95 % interval, dots are seeds")
    axes.grid(axis="y", alpha=0.3)
