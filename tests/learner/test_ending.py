"""`compare` and `train` asked to end by SIGTERM or killed: nothing they started outlives them, and repeating them goes on."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from poco.learner import training_state
from poco.learner.metrics import read_figures
from poco.learner.training_commands import compare
from programs import Program, kill, wait_gone
from recipes import reach_recipe

TESTS = Path(__file__).parents[1]
ENDLESS = 1_000_000


@pytest.fixture(autouse=True)
def in_the_background_of_a_script(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Programs are started as a shell without job control starts them there: SIGINT is ignored. They find the reach task."""
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)


def recipe(folder: Path, **changes: Any) -> Path:
    file = folder / "reach.yaml"
    file.write_text(yaml.safe_dump(msgspec.to_builtins(reach_recipe(**changes))))
    return file


def checkpoints(run: Path) -> int:
    """Return the episodes of the newest checkpoint in `run`, 0 if there is none."""
    states = run / "states"
    return training_state.read_header(states).progress.episodes if training_state.has_state(states) else 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_runs_of_a_comparison_end_with_it(tmp_path: Path, number: signal.Signals) -> None:
    """SIGTERM ends both runs at a checkpoint of their last episode, SIGKILL at once; both times the rest follows when repeated."""
    file, out = recipe(tmp_path), tmp_path / "out"
    runs = [out / "reach" / method / "seed-0" for method in ("poco", "bc")]
    words: list[str | Path] = [
        "--configs",
        file,
        "--methods",
        "poco",
        "bc",
        "--seeds",
        "0",
        "--jobs",
        "2",
        "--episodes",
        str(ENDLESS),
    ]
    program = Program("poco-learner", "compare", "--out", out, *words, folder=tmp_path)
    program.until(lambda: all(map(checkpoints, runs)))
    children = [child for child, _ in program.started()]
    assert len(children) == 2
    program.process.send_signal(number)
    assert program.wait() == (130 if number == signal.SIGTERM else -signal.SIGKILL), program.err
    wait_gone(children)
    figures = [read_figures(run) for run in runs]
    if number == signal.SIGTERM:
        for run, known in zip(runs, figures, strict=True):
            assert checkpoints(run) == len(known)
            assert f"stopped after episode {len(known)}: go on with" in (run / "run.log").read_text()
    episodes = max(map(len, figures)) + 3
    compare(out, (file,), ("poco", "bc"), (0,), episodes=episodes, evaluation_episodes=2, jobs=2)
    for run in runs:
        assert [one.episode for one in read_figures(run)] == list(range(1, episodes + 1))


def test_sigterm_ends_training_and_its_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends after an episode, with a checkpoint, and leaves neither a worker nor a temporary folder of one."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    out = tmp_path / "out"
    words: list[str | Path] = [
        "--config",
        recipe(tmp_path, evaluation_interval=0),
        "--episodes",
        str(ENDLESS),
        "--workers",
        "2",
    ]
    program = Program("poco-learner", "train", "--out", out, *words, folder=tmp_path)
    program.until(lambda: checkpoints(out) > 0)
    workers = [child for child, command in program.started() if "poco.learner.environment_worker" in command]
    assert len(workers) == 2
    program.process.send_signal(signal.SIGTERM)
    assert program.wait() == 130, program.err
    wait_gone(workers)
    assert checkpoints(out) == len(read_figures(out))
    assert not list(temporary.glob("poco-worker-*"))


def test_a_worker_that_hangs_does_not_outlive_a_killed_learner(tmp_path: Path) -> None:
    """It would never notice that its socket has closed."""
    hanging = tmp_path / "hanging"
    file = recipe(tmp_path, evaluation_interval=0, environment={"trouble": "hang", "once": str(hanging)})
    program = Program(
        "poco-learner", "train", "--out", tmp_path / "out", "--config", file, "--workers", "1", folder=tmp_path
    )
    program.until(hanging.exists)
    workers = list(program.children().values())
    assert len(workers) == 1
    kill(program.process.pid)
    program.wait()
    wait_gone(workers)
