"""Fixtures shared by the tests of learner, export and session: a small specification, demonstrations and an artifact."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest

from poco.artifact import Artifact
from poco.episodes import Episode
from poco.records import EpisodeEnd, Step, StepKey
from poco.specification import Specification
from reach_task import SPECIFICATION

# A suite that was started in the background ignores Ctrl-C, and so would every program that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def specification() -> Specification:
    """A policy of 6 observations that commands 5 steps of 4 actions, one step late."""
    return SPECIFICATION


@pytest.fixture(scope="session")
def demonstrations(specification: Specification) -> tuple[Episode, ...]:
    """Twelve episodes of 15 steps that go a fifth of the way to a target in each step; the action follows from the observation."""
    return tuple(_reach(specification, episode) for episode in range(12))


def _reach(specification: Specification, episode: int) -> Episode:
    offset = np.random.default_rng(episode).uniform(-0.8, 0.8, 3)
    tip, steps = np.zeros(3), []
    for step in range(15):
        motion = offset.copy()
        steps.append(
            Step(
                key=StepKey("arm", 1, episode, step),
                tick=50 * step,
                generation=0,
                chunk_id=1 + step // 3,
                observation=[*offset.tolist(), *tip.tolist()],
                action_policy=[*motion.tolist(), 0.0],
                action_executed=[*motion.tolist(), 0.0],
                reward=float(step == 14),
            )
        )
        offset, tip = offset - 0.2 * motion, tip + 0.2 * motion
    end = EpisodeEnd(
        robot="arm",
        boot_epoch=1,
        episode=episode,
        tick=750,
        final_observation=[*offset.tolist(), *tip.tolist()],
        outcome="success",
        terminated=True,
        truncated=False,
    )
    return Episode(specification, tuple(steps), end)


@pytest.fixture(scope="session")
def checkpoint_folder(specification: Specification, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of an untrained policy with two layers of 16 and a normaliser that matters; leave it as it is."""
    import torch

    from poco.learner.checkpoint import Checkpoint, write_checkpoint
    from poco.learner.networks import Architecture, FlowPolicy

    torch.manual_seed(3)
    policy = FlowPolicy(Architecture.of(specification, (16, 16)))
    policy.mean.copy_(torch.linspace(-0.2, 0.3, specification.observation_size))
    policy.std.copy_(torch.linspace(0.2, 0.9, specification.observation_size))
    folder = tmp_path_factory.mktemp("checkpoint")
    write_checkpoint(folder, Checkpoint(specification, policy, {"success_easy": 0.875}))
    return folder


@pytest.fixture
def artifact(checkpoint_folder: Path, tmp_path: Path) -> Artifact:
    """The artifact of that checkpoint in a folder of its own, free to be damaged."""
    from poco.export.policy import export_policy

    return export_policy(checkpoint_folder, tmp_path / "artifact")
