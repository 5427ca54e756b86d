"""The picture of a training run: its band is the interval of the last episodes, and nothing that may be missing is missed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from poco.learner import curves
from poco.learner.metrics import EpisodeFigures
from poco.statistics import wilson_interval


def episode(number: int, success: bool, **more: Any) -> EpisodeFigures:
    figures: dict[str, Any] = {"phase": "frozen", "recent_success": 0.0, "verdict": "go_on", "diagnostics": {}, **more}
    return EpisodeFigures(episode=number, steps=10 * number, updates=number, success=success, **figures)


def test_the_band_is_the_interval_of_the_last_twenty_episodes() -> None:
    """After each of 45 episodes: mean success of the last 20, or of as many as there were, and its 95 % Wilson interval."""
    outcomes = [number % 3 > 0 for number in range(45)]
    axes = Figure().subplots()
    curves._success(axes, [episode(number, success) for number, success in enumerate(outcomes, 1)])
    episodes, rates = (np.asarray(one) for one in axes.lines[0].get_data())
    corners = axes.collections[0].get_paths()[0].vertices
    assert episodes.tolist() == list(range(1, 46))
    for end in range(1, 46):
        seen = outcomes[max(0, end - curves.WINDOW) : end]
        assert rates[end - 1] == sum(seen) / len(seen)
        band = [float(height) for place, height in np.asarray(corners) if place == end]
        assert (min(band), max(band)) == pytest.approx(wilson_interval(sum(seen), len(seen)))


@pytest.mark.parametrize(
    "figures",
    [
        [episode(1, success=False)],
        [episode(1, success=True, beliefs=[0.5, 0.6]), episode(2, success=True)],
        [
            episode(
                number,
                success=number % 2 == 0,
                phase="learning",
                verdict="roll_back" if number == 5 else "go_on",
                beliefs=[0.1] * number,
                diagnostics={"clipped_fraction": 0.2, "effective_sample_size": 3.0, "critic_loss": 0.1},
                evaluation={"plain": 0.5, "best_of_8": 0.6, "critic_trust": 0.1},
            )
            for number in range(1, 60)
        ],
    ],
)
def test_whatever_a_run_has_is_drawn(tmp_path: Path, figures: list[EpisodeFigures]) -> None:
    """One failure before any update, successes alone, and a run with everything."""
    curves.draw(figures, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
