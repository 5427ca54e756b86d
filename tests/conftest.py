"""Fixtures shared by the tests of learner, export and session: a small specification, demonstrations and an artifact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from poco.artifact import Artifact
from poco.episodes import Episode
from poco.records import EpisodeEnd, Step, StepKey
from poco.specification import Field, Specification


@pytest.fixture(scope="session")
def specification() -> Specification:
    """A policy of 6 observations that commands 5 steps of 4 actions, one step late."""
    return Specification(
        name="reach",
        robot="fr3",
        rate_hz=20.0,
        chunk_steps=5,
        execute_steps=3,
        delay_steps=1,
        action_space="tip_delta",
        delta_base="commanded_at_attachment",
        gripper="none",
        flange_t_tip=tuple(np.eye(4).ravel().tolist()),
        rest_q=(0.0, 0.0, 0.0, -2.0, 0.0, 2.0, 0.8),
        observation=(
            Field(name="offset", source="target_offset", frame="base", unit="m", low=(-0.1,) * 3, high=(0.1,) * 3),
            Field(name="tip", source="tip_position", frame="base", unit="m", low=(0.0,) * 3, high=(1.0,) * 3),
        ),
        action=(
            Field(name="tip_step", source="tip_step", frame="base", unit="m", low=(-0.006,) * 3, high=(0.006,) * 3),
            Field(name="yaw_step", source="yaw_step", frame="base", unit="rad", low=(-0.06,), high=(0.06,)),
        ),
    )


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
