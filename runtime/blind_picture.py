"""The picture of a blind evaluation: success of each policy with its interval, and how it came about trial after trial."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

if TYPE_CHECKING:
    from poco.runtime.blind_evaluation import Evaluation


def draw(found: Evaluation, path: Path) -> None:
    """Draw `found` to the PNG `path`."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    bars, course = figure.subplots(1, 2, width_ratios=(2, 3))
    for place, one in enumerate(found.contestants):
        color, trials = f"C{place}", len(one.outcomes)
        width = 1.2 * (len(found.contestants) - place)  # so that one line does not hide another that is the same
        if not trials:
            continue
        bars.bar(place, one.rate, color=color, alpha=0.4)
        bars.errorbar(place, one.rate, [[one.rate - one.low], [one.high - one.rate]], color=color, capsize=6)
        bars.annotate(f"{one.successes} of {trials}", (place, 0.02), ha="center")
        course.plot(
            range(trials + 1),
            [0, *np.cumsum(one.outcomes)],
            "o-",
            markersize=3,
            linewidth=width,
            color=color,
            label=one.letter,
        )
    names = [f"{one.letter}\n{one.name}" for one in found.contestants]
    bars.set_xticks(range(len(names)), names)
    bars.set(ylim=(0.0, 1.05), ylabel="success", title="Success and its 95 % interval")
    bars.yaxis.set_major_formatter(PercentFormatter(1.0))
    course.set_ylim(bottom=0.0)
    course.set(xlabel="trial of the policy", ylabel="successes so far", title="Trial after trial, in blind order")
    for axis in (course.xaxis, course.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    course.legend()
    for axes in (bars, course):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
