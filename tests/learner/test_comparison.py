"""Methods are trained, resumed, measured and shown side by side by the real programs; a second call finds nothing to do."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
import yaml

from poco.errors import PocoError, UsageError
from poco.learner.comparison import Candidate, Measure, missing
from poco.learner.comparison_report import WINDOW, band, rows, running_success
from poco.learner.evaluation import Evaluation, keep_evaluation
from poco.learner.metrics import EpisodeFigures, read_figures
from poco.learner.training_commands import compare, train
from poco.learner.training_state import read_header
from poco.statistics import wilson_interval
from recipes import reach_recipe

TESTS = Path(__file__).parents[1]


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe file of the reach task, which the programs started find too."""
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    file = tmp_path / "reach.yaml"
    file.write_text(yaml.safe_dump(msgspec.to_builtins(reach_recipe())))
    return file


def test_compare_trains_resumes_measures_and_draws(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One run is new, one broken off: both reach the same steps and are measured in their own mode; again costs nothing."""
    out = tmp_path / "out"
    broken = out / "reach" / "qc" / "seed-3"
    train(broken, recipe, method="qc", episodes=2, seed=3)
    capsys.readouterr()
    for _ in range(2):
        compare(out, (recipe,), ("poco", "qc"), (3,), steps=40, episodes=100, evaluation_episodes=4, jobs=2)
    printed = capsys.readouterr().out
    assert printed == 2 * (out / "comparison.md").read_text()
    found = json.loads((out / "comparison.json").read_text())
    assert [(row["label"], row["best_of"], row["episodes"]) for row in found] == [("poco", 1, 4), ("qc", 4, 4)]
    for row in found:
        assert 40 <= row["steps"][0] < 55
        assert row["mean"] == row["successes"][0] / 4
    assert [figures.episode for figures in read_figures(broken)] == list(range(1, len(read_figures(broken)) + 1))
    assert (out / "comparison.png").stat().st_size > 10_000
    recipe.write_text(yaml.safe_dump(msgspec.to_builtins(reach_recipe(batch=9))))
    with pytest.raises(UsageError, match="another recipe or seed"):
        compare(out, (recipe,), ("qc",), (3,), steps=40, episodes=100, evaluation_episodes=4)


def test_all_fresh_episodes_count_alike(recipe: Path, tmp_path: Path) -> None:
    """Mean and interval are of the same episodes, also where one seed was measured in more of them than the other."""
    candidates = []
    for seed, successes, episodes in ((0, 1, 2), (1, 8, 8)):
        folder, rate = tmp_path / str(seed), successes / episodes
        train(folder, recipe, episodes=2, seed=seed)
        steps = read_header(folder / "states").progress.steps
        counts = {"seed": 0, "steps": steps, "episodes": episodes, "successes": successes}
        keep_evaluation(folder, Evaluation(task="reach", best_of=1, rate=rate, low=0.0, high=1.0, **counts))
        candidates.append(Candidate("poco", seed, folder, reach_recipe(), ()))
    (row,) = rows(candidates)
    assert (row.mean, row.rates) == (0.9, (0.5, 1.0))
    assert (row.low, row.high) == pytest.approx(wilson_interval(9, 10))


def test_a_failing_run_is_named_and_the_others_go_on(recipe: Path, tmp_path: Path) -> None:
    """A start that is not there fails its runs with the sentence of the program, at the end."""
    with pytest.raises(PocoError, match=r"2 of 2 runs failed, the first: bc with seed 0 .*no checkpoint at absent-0"):
        compare(tmp_path / "out", (recipe,), ("bc",), (0, 1), start="absent-{seed}", jobs=2)


def test_what_is_missing(tmp_path: Path) -> None:
    """A new run is trained as it was asked for; modes are the method's own and, except for Q-chunking, those asked for."""
    settings = reach_recipe()
    candidate = Candidate("poco", 0, tmp_path, settings, ("--config", "a.yaml"))
    assert missing(candidate, Measure(100, (8,)))[:5] == ("train", "--out", str(tmp_path), "--config", "a.yaml")
    assert Measure(100, (8, 1)).modes(candidate) == (1, 8)
    agent = msgspec.structs.replace(settings.agent, method="qc")
    other = Candidate("qc", 0, tmp_path, msgspec.structs.replace(settings, agent=agent), ())
    assert Measure(100, (8, 1)).modes(other) == (settings.agent.candidates,)


def figures(successes: list[bool], steps_per_episode: int) -> list[EpisodeFigures]:
    return [
        EpisodeFigures(
            episode=number,
            steps=number * steps_per_episode,
            updates=0,
            phase="learning",
            success=success,
            recent_success=0.0,
            verdict="go_on",
            diagnostics={},
        )
        for number, success in enumerate(successes, 1)
    ]


def test_curves_over_seeds() -> None:
    """Means over the last episodes; the band is the interval of the episodes of all seeds, as far as all runs go."""
    steps, success, counts = running_success(figures([False] * WINDOW + [True] * WINDOW, 10))
    assert steps[-1] == 20 * WINDOW
    assert success[[0, WINDOW - 1, WINDOW + 4, -1]].tolist() == [0.0, 0.0, 5 / WINDOW, 1.0]
    assert counts[[0, WINDOW - 1, -1]].tolist() == [1, WINDOW, WINDOW]
    runs = [figures([True] * 30, 10), figures([False] * 50, 10)]
    grid, mean, low, high = band(runs)
    assert (grid[0], grid[-1]) == (10.0, 300.0)
    assert np.all(mean == 0.5)
    assert (low[-1], high[-1]) == wilson_interval(WINDOW, 2 * WINDOW)
    assert low[0] < low[-1]
    _, mean, low, high = band(runs[:1])
    assert np.all(mean == 1.0)
    assert low[-1] == wilson_interval(WINDOW, WINDOW)[0]
    assert np.all((low > 0.2) & (low < high))
