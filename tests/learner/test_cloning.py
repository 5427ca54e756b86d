"""Behaviour cloning learns a small task, the same way every time."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from poco.episodes import Episode
from poco.errors import ArtifactError
from poco.learner.cloning import Cloned, CloningSettings, clone
from poco.learner.demonstrations import Demonstrations, Recorded, windows
from poco.learner.trained_policy import flow_policy
from poco.specification import Specification

SETTINGS = CloningSettings(steps=600, hidden_sizes=(64, 64), learning_rate=1e-2, validation_interval=150)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data(specification: Specification, demonstrations: tuple[Episode, ...]) -> Demonstrations:
    return Demonstrations(specification, tuple(map(Recorded.of, demonstrations)))


@pytest.fixture(scope="module")
def cloned(data: Demonstrations) -> Cloned:
    return clone(data, SETTINGS)


def test_loss_falls_and_the_policy_does_the_task(data: Demonstrations, cloned: Cloned) -> None:
    """Held-out loss falls below half; sampled chunks are nearer to the demonstrated ones than standing still is."""
    first = clone(data, replace(SETTINGS, steps=1)).curve[0]
    assert [point.step for point in cloned.curve] == [150, 300, 450, 600]
    assert cloned.metrics["validation_loss"] == min(point.validation for point in cloned.curve) < 0.5 * first.validation
    cut = windows(data.episodes, data.specification)
    wanted, valid = torch.from_numpy(cut.chunk), torch.from_numpy(cut.valid).unsqueeze(-1)
    noise = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        sampled = cloned.policy(torch.from_numpy(cut.observation), noise)
    assert float(((sampled - wanted) * valid).square().sum()) < 0.5 * float((wanted * valid).square().sum())


def test_same_seed_same_policy(data: Demonstrations, cloned: Cloned) -> None:
    """Two runs with one seed agree bit for bit, whatever the global generator was; another seed differs."""
    torch.manual_seed(99)
    again = clone(data, SETTINGS)
    assert again.curve == cloned.curve
    for key, value in cloned.policy.state_dict().items():
        assert torch.equal(value, again.policy.state_dict()[key]), key
    other = clone(data, replace(SETTINGS, seed=1, steps=1))
    assert not torch.equal(
        flow_policy(other.policy).velocity_layer.weight, flow_policy(cloned.policy).velocity_layer.weight
    )


def test_validation_holds_out_whole_episodes(cloned: Cloned) -> None:
    """One of twelve episodes is held out: 14 windows each."""
    assert cloned.metrics["validation_windows"] == 14
    assert cloned.metrics["training_windows"] == 11 * 14


def test_normaliser_comes_from_the_training_windows_and_is_bounded(cloned: Cloned) -> None:
    """Statistics follow the data; an observation that never changes keeps a usable scale."""
    assert float(flow_policy(cloned.policy).std.min()) >= 0.01
    assert float(flow_policy(cloned.policy).mean.abs().max()) < 0.5


def test_progress_is_reported_for_every_step(data: Demonstrations) -> None:
    """The callback sees each step once, in order."""
    seen: list[int] = []
    clone(data, replace(SETTINGS, steps=5), lambda step, loss: seen.append(step))
    assert seen == [1, 2, 3, 4, 5]


def test_too_little_data_and_divergence_are_refused(data: Demonstrations) -> None:
    """One episode cannot be split; a loss that is not finite stops the run and names the remedy."""
    with pytest.raises(ArtifactError, match="at least 2"):
        clone(Demonstrations(data.specification, data.episodes[:1]), SETTINGS)
    with pytest.raises(ArtifactError, match="lower the learning rate"):
        clone(data, replace(SETTINGS, learning_rate=1e12))
