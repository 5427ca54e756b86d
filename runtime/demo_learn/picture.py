"""The picture of one demonstration: success with swap marks, who drove, latency, verdict. Drawn after motion has ended."""

from __future__ import annotations

import textwrap
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from poco.runtime import panels
from poco.runtime.demo_learn.figures import AVERAGED, DemoReport, Rate, account, first_chunks_ms, headline, subtitle
from poco.runtime.demo_learn.records import Records
from poco.runtime.demo_learn.story import drivers
from poco.runtime.measures import SUCCESS
from poco.runtime.panels import BLUE, GREEN, GREY, INK, ORANGE
from poco.runtime.plots import styled
from poco.statistics import wilson_interval

EPISODES_MIN = 10


def draw(records: Records, report: DemoReport, path: Path) -> None:
    """Write the PNG of `report` to `path`."""
    with styled():
        figure = plt.figure(figsize=(13.0, 9.5), layout="constrained")
        figure.suptitle(headline(report), fontsize=15, fontweight="bold", x=0.012, ha="left")
        grid = figure.add_gridspec(3, 3, height_ratios=[1.5, 0.6, 1.0])
        upper = figure.add_subplot(grid[0, :])
        upper.set_title(subtitle(report), fontsize=9, fontweight="normal", color=INK)
        success(upper, report)
        lower = figure.add_subplot(grid[1, :], sharex=upper)
        generations(lower, records, report)
        panels.turnaround(figure.add_subplot(grid[2, 0]), records.timing.turnaround_ns, report.turnaround_us)
        first_chunks(figure.add_subplot(grid[2, 1]), report)
        verdict(figure.add_subplot(grid[2, 2]), report)
        figure.savefig(path)
        plt.close(figure)


def success(axes: Axes, report: DemoReport) -> None:
    """Draw every episode, the moving average with its band, the first and last episodes, and where generations became active."""
    count = len(report.outcomes)
    axes.set_ylim(-0.06, 1.06)
    axes.set_xlim(0.0, max(count, EPISODES_MIN) + 0.5)
    axes.set_ylabel("success")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    numbers = np.arange(1, count + 1)
    well = np.array([outcome == SUCCESS for outcome in report.outcomes], dtype=bool)
    axes.plot(numbers[well], np.full(well.sum(), 1.03), "|", color=GREEN, markersize=7)
    axes.plot(numbers[~well], np.full((~well).sum(), -0.03), "|", color=ORANGE, markersize=7)
    if report.curve:
        ends = numbers[AVERAGED - 1 :]
        low, high = np.array([wilson_interval(round(rate * AVERAGED), AVERAGED) for rate in report.curve]).T
        axes.fill_between(ends, low, high, color=BLUE, alpha=0.12, linewidth=0.0)
        axes.plot(ends, report.curve, color=BLUE, linewidth=2.2, label=f"last {AVERAGED} episodes, 95 % interval")
    if report.gain is not None:
        _level(axes, 0.5, report.gain.first, f"first {report.gain.first.episodes}")
        _level(axes, count - report.gain.last.episodes + 0.5, report.gain.last, f"last {report.gain.last.episodes}")
    if report.before_learning >= count > 0:
        axes.text(0.7, 0.03, "as cloned; the critic learns", ha="left", va="bottom", fontsize=8, color=INK)
    elif report.before_learning:
        place = report.before_learning + 0.5
        axes.axvline(place, color=INK, linewidth=1.0, linestyle="--")
        axes.text(place - 0.8, 0.03, "as cloned; the critic learns", ha="right", va="bottom", fontsize=8, color=INK)
        axes.text(place + 0.8, 0.03, "the actor learns, too", ha="left", va="bottom", fontsize=8, color=INK)
    places = [one.active_after for one in report.generations[1:] if one.active_after is not None]
    axes.vlines(places, 0.0, 1.0, color=GREY, linewidth=0.8, linestyle=":", label="a generation became active")
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.06), ncols=2, fontsize=8, frameon=True, edgecolor="none")


def _level(axes: Axes, start: float, rate: Rate, name: str) -> None:
    """Draw the rate of a stretch of episodes as a box of its interval with its value."""
    end = start + rate.episodes
    axes.fill_between([start, end], rate.low, rate.high, color=INK, alpha=0.10, linewidth=0.0)
    axes.plot([start, end], [rate.rate, rate.rate], color=INK, linewidth=1.6)
    said = f"{name}: {rate.rate:.0%} ({rate.low:.0%} to {rate.high:.0%})"
    above = rate.high < 0.85
    place = (rate.high + 0.02, "bottom") if above else (rate.low - 0.02, "top")
    axes.text(
        start + rate.episodes / 2.0, place[0], said, ha="center", va=place[1], fontsize=9, fontweight="bold", color=INK
    )


def generations(axes: Axes, records: Records, report: DemoReport) -> None:
    """Draw which generation drove at the end of every episode, and where one became active or was thrown out."""
    axes.set_title("Generation that drove")
    axes.set_xlabel("episode")
    numbers = drivers(records)
    if not numbers:
        panels.note(axes, "no episode was finished")
        return
    axes.step(np.arange(1, len(numbers) + 1), numbers, where="mid", color=BLUE, linewidth=1.2)
    active = [(one.active_after, one.generation) for one in report.generations[1:] if one.active_after is not None]
    if active:
        axes.plot(*np.array(active).T, "^", color=GREEN, markersize=6, label="became active")
    thrown = [
        (one.driven_after or 0, one.generation)
        for one in report.generations
        if one.refused and one.driven_after is not None
    ]
    if thrown:
        axes.plot(*np.array(thrown).T, "x", color=ORANGE, markersize=6, label="refused on probation")
    axes.set_ylim(min(*axes.get_ylim(), min(numbers) - 1), max(*axes.get_ylim(), max(numbers) + 1))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper left", ncols=2, fontsize=8)


def first_chunks(axes: Axes, report: DemoReport) -> None:
    """Draw how long generations took from their publication to their first chunk, the shadow included."""
    axes.set_title("Generation published to its first chunk")
    spent_s = first_chunks_ms(report.generations) / 1e3
    if not len(spent_s):
        panels.note(axes, "no published generation drove")
        return
    edges = np.geomspace(spent_s.min() * 0.8, spent_s.max() * 1.25, 16)
    axes.hist(spent_s, edges.tolist(), color=BLUE)
    panels.logarithmic(axes, edges[0], edges[-1])
    axes.set_xlabel("s, shadow on live observations included")
    axes.set_ylabel("generations")
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    panels.mark(axes, float(np.median(spent_s)), f"median {np.median(spent_s):.1f} s", INK)


def verdict(axes: Axes, report: DemoReport) -> None:
    """Say what was to be shown and whether it was, and what became of every step."""
    axes.set_axis_off()
    axes.set_title("Verdict")
    rows = [(("reached  " if goal.reached else "missed  "), goal.said, goal.reached) for goal in report.goals]
    top = 0.95
    for word, said, reached in rows:
        color = GREEN if reached else ORANGE
        axes.text(0.0, top, word, color=color, fontweight="bold", va="top", transform=axes.transAxes)
        text = axes.text(0.17, top, _folded(said), color=INK, va="top", transform=axes.transAxes)
        top -= 0.09 * (text.get_text().count("\n") + 1) + 0.02
    for line in account(report):
        folded = _folded(line, 58)
        axes.text(0.0, top, folded, color=GREY, va="top", fontsize=8, transform=axes.transAxes)
        top -= 0.075 * (folded.count("\n") + 1)


def _folded(text: str, width: int = 52) -> str:
    return "\n".join(textwrap.wrap(text, width))
