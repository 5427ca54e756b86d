"""Pictures of training runs: success with its 95 % band, evaluations, health of the posterior, losses, trust in the critic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from poco.learner.critic_trust import discrimination, expectations
from poco.learner.metrics import EpisodeFigures
from poco.learner.rollouts import wilson

WINDOW = 20
"""Episodes in one average of the success curve."""

TRUST_WINDOW = 50
"""Episodes over which beliefs of the critic are held against outcomes."""

Curve = tuple[str, str]


def draw(figures: list[EpisodeFigures], path: Path) -> None:
    """Draw the curves of one run to the PNG `path`."""
    figure = Figure(figsize=(17, 7), layout="constrained")
    FigureCanvasAgg(figure)
    success, health, trust, losses, values, beliefs = panels = figure.subplots(2, 3).ravel()
    for axes in panels:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _success(success, figures)
    _diagnostics(
        health,
        figures,
        [("clipped_fraction", "clipped fraction"), ("clipped_weight", "share of weight clipped")],
        [0, 1],
    )
    sizes = health.twinx()
    _diagnostics(sizes, figures, [("effective_sample_size", "effective sample size")], None, "tab:green")
    _leave_room(sizes)
    health.set_title("Posterior")
    if not health.get_lines():
        _note(health, "no update of the actor yet")
    _diagnostics(
        losses,
        figures,
        [
            ("bc_loss_mean", "cloning"),
            ("posterior_loss", "clipped posterior term"),
            ("candidate_loss_mean", "candidates, not clipped"),
            ("critic_loss", "critic"),
        ],
        None,
    )
    losses.set_title("Losses")
    if losses.get_lines():
        losses.set_yscale("log")
    _diagnostics(
        values,
        figures,
        [
            ("value_mean", "candidates, mean"),
            ("target_mean", "critic target"),
            ("best_of_8_gain", "best of 8 minus one"),
        ],
        None,
    )
    values.set_title("Values")
    _trust(trust, figures)
    _expectations(beliefs, figures[-TRUST_WINDOW:])
    figure.savefig(path, dpi=110)


def _success(axes: Axes, figures: list[EpisodeFigures]) -> None:
    episodes = [one.episode for one in figures]
    outcomes = [one.success for one in figures]
    rates = [wilson(sum(outcomes[max(0, end - WINDOW) : end]), min(end, WINDOW)) for end in range(1, len(outcomes) + 1)]
    axes.plot(episodes, [rate.rate for rate in rates], label=f"training, last {WINDOW}")
    axes.fill_between(episodes, [rate.low for rate in rates], [rate.high for rate in rates], alpha=0.2)
    evaluated = [one for one in figures if one.evaluation]
    for key, label in (("plain", "evaluation, one sample"), ("best_of_8", "evaluation, best of 8")):
        if evaluated:
            axes.plot(
                [one.episode for one in evaluated], [one.evaluation[key] for one in evaluated], "o--", label=label
            )
    learning = next((one.episode for one in figures if one.phase == "learning"), None)
    if learning is not None:
        axes.axvline(learning, color="grey", linestyle=":", label="actor begins to learn")
    for one in figures:
        if one.verdict == "roll_back":
            axes.axvline(one.episode, color="tab:red", linestyle=":")
    axes.set(ylim=(-0.02, 1.02), xlabel="episode", title="Success and its 95 % interval")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def _leave_room(axes: Axes) -> None:
    """Begin at 0 and leave the upper third to the legend of the axes beneath."""
    if axes.get_lines():
        axes.set_ylim(0.0, 1.5 * axes.dataLim.ymax)


def _trust(axes: Axes, figures: list[EpisodeFigures]) -> None:
    ends = range(1, len(figures) + 1)
    points = [(figures[end - 1].episode, discrimination(figures[max(0, end - TRUST_WINDOW) : end])) for end in ends]
    known = [point for point in points if point[1] is not None]
    if known:
        axes.plot(*np.array(known, np.float64).T, color="tab:purple")
    else:
        _note(axes, "takes successes and failures")
    axes.axhline(0.5, color="grey", linestyle=":")
    axes.set(ylim=(-0.02, 1.02), xlabel="episode", title=f"Critic tells success from failure, last {TRUST_WINDOW}")
    axes.set_ylabel("area under the curve (0.5: guessing)")
    axes.grid(alpha=0.3)


def _note(axes: Axes, text: str) -> None:
    """Say in empty axes what they wait for."""
    axes.text(0.5, 0.6, text, ha="center", color="grey", transform=axes.transAxes)
    axes.set_xticks([])


def _expectations(axes: Axes, figures: list[EpisodeFigures]) -> None:
    for success, label, color in ((True, "succeeded", "tab:green"), (False, "failed", "tab:red")):
        if any(one.success == success for one in figures):
            axes.plot(expectations(figures, success), "o-", markersize=3, label=label, color=color)
    axes.set(
        xlabel="chunk of the episode", ylabel="value", title=f"What the critic expected, last {len(figures)} episodes"
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def _diagnostics(
    axes: Axes, figures: list[EpisodeFigures], curves: list[Curve], limits: list[float] | None, color: str | None = None
) -> None:
    for key, label in curves:
        points = [(one.episode, one.diagnostics[key]) for one in figures if key in one.diagnostics]
        if points:
            episodes, values = np.array(points).T
            axes.plot(episodes, values, label=label, linewidth=1, color=color)
    if limits is not None:
        axes.set_ylim(limits[0] - 0.02, limits[1] + 0.02)
    axes.set_xlabel("episode")
    if color is not None:
        axes.set_ylabel(curves[0][1], color=color)
        return
    axes.grid(alpha=0.3)
    if axes.get_lines():
        axes.legend(fontsize=8)
