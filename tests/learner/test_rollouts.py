"""Success rates carry the right interval; episodes are reset, acted in, recorded and read back as they happened."""

from __future__ import annotations

import signal
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from poco.errors import ArtifactError, UsageError
from poco.learner import rollouts
from poco.learner.acting import chunk_actor
from poco.learner.cloning_commands import clone
from poco.learner.data_commands import make_data
from poco.learner.demonstrations import read_demonstrations
from poco.learner.evaluation import Subject
from poco.learner.networks import Architecture, FlowPolicy
from poco.learner.training_commands import TASK, evaluate
from programs import Program


@pytest.mark.parametrize(
    ("successes", "episodes", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (50, 100, 0.4038, 0.5962), (90, 100, 0.8256, 0.9448)],
)
def test_wilson_interval_matches_the_published_values(successes: int, episodes: int, low: float, high: float) -> None:
    """Bounds agree with tabulated 95 % Wilson score intervals."""
    rate = rollouts.wilson(successes, episodes)
    assert (rate.successes, rate.episodes, rate.rate) == (successes, episodes, successes / episodes)
    assert rate.low == pytest.approx(low, abs=1e-4)
    assert rate.high == pytest.approx(high, abs=1e-4)


def test_unknown_environments_and_parameters_are_refused() -> None:
    """A task nobody registered and a parameter the task lacks give one sentence."""
    for task, parameters in (("poco/Absent-v0", {}), ("no.such.module:poco/X-v0", {}), (TASK, {"colour": "red"})):
        with pytest.raises(UsageError, match="cannot be made"):
            rollouts.make_environment(task, **parameters)


def test_policy_of_another_specification_is_refused() -> None:
    """A checkpoint whose specification hash differs from the environment's does not act in it."""
    environment = rollouts.make_environment(TASK)
    other = msgspec.structs.replace(rollouts.specification_of(environment), name="other")
    with pytest.raises(ArtifactError, match="train again"):
        Subject(Path("checkpoint"), FlowPolicy(Architecture.of(other)), other).actor(environment, 1, 0)


def test_same_seed_same_episodes_with_policy_and_operator() -> None:
    """Two runs with one seed take the same steps; another seed does not."""
    environment = rollouts.make_environment(TASK, episode_steps=10)
    specification = rollouts.specification_of(environment)
    torch.manual_seed(0)
    policy = FlowPolicy(Architecture.of(specification, (8,)))
    runs = []
    for seed in (4, 4, 5):
        actor = chunk_actor(policy, None, specification, 1, seed)
        ((*_, last),) = (list(rolled.steps) for rolled in rollouts.roll(environment, actor, range(1), seed))
        runs.append(last.observation)
    assert runs[0] == runs[1] != runs[2]


def test_the_three_commands_end_in_a_measured_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """make-data, clone and evaluate leave readable episodes, a curve, figures and a checkpoint with its success rate."""
    data, out = tmp_path / "data", tmp_path / "checkpoint"
    make_data(data, episodes=3, noise=0.1)
    read = read_demonstrations(data)
    assert len(read.episodes) == 3
    assert all(episode.end.outcome == "success" and episode.rewards[-1] == 1.0 for episode in read.episodes)
    assert np.ptp([episode.observations[0] for episode in read.episodes], axis=0).max() > 0
    clone(data, out, steps=20, hidden_sizes=(16,))
    assert {item.name for item in out.iterdir()} == {"policy.safetensors", "training.json", "loss.png"}
    with pytest.raises(UsageError, match="already holds a policy"):
        clone(data, out, steps=20, hidden_sizes=(16,))
    evaluate(out, episodes=1)
    figures = [msgspec.json.decode(line) for line in capsys.readouterr().out.splitlines()]
    assert [figure.get("episodes") for figure in figures] == [3, None, 1]
    from poco.learner.checkpoint import read_checkpoint

    metrics = read_checkpoint(out).metrics
    assert metrics["evaluation_episodes_easy"] == 1.0
    assert metrics["success_easy"] == figures[-1]["rate"]
    assert metrics["training_steps"] == 20.0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_recording_that_is_stopped_says_how_to_go_on(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM leave whole episodes, say how many, and the same command goes on behind them."""
    data = tmp_path / "data"
    program = Program("poco-learner", "make-data", "--episodes", "100000", "--out", data, folder=tmp_path)
    program.until(lambda: len(list(data.glob("*.safetensors"))) >= 2)
    program.process.send_signal(number)
    assert program.wait() == 130
    kept = len(read_demonstrations(data).episodes)
    assert f"{data} holds {kept} whole episodes, go on with the same command and --resume" in program.err
    last = max(int(file.stem) for file in data.glob("*.safetensors"))
    make_data(data, episodes=last + 2, only_successes=False, resume=True)
    assert sorted(file.name for file in data.glob("*.safetensors"))[-1] == f"{last + 1:06}.safetensors"


def test_impossible_requests_are_refused(tmp_path: Path) -> None:
    """A folder that is in use is not mixed into, and no episodes are no measurement."""
    (tmp_path / "old.safetensors").write_bytes(b"")
    with pytest.raises(UsageError, match="not an empty folder"):
        make_data(tmp_path, episodes=1)
    with pytest.raises(UsageError, match="--episodes is 0"):
        make_data(tmp_path / "new", episodes=0)
    with pytest.raises(UsageError, match="--episodes is 0"):
        evaluate(tmp_path, episodes=0)
