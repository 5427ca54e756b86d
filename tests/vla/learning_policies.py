"""Tiny policies of every type as the learner has them, and what they can be told."""

from __future__ import annotations

from pathlib import Path

import torch

from poco.learner.vla.network import VlaNetwork
from poco.learner.vla.opening import open_vla
from poco.learner.vla.policy import VlaPolicy
from poco.vla import PolicyType
from vla import tiny


def network_of(made: tiny.Made, kind: PolicyType) -> VlaNetwork:
    """Return what the learner must know of the checkpoint `made`."""
    return VlaNetwork(
        checkpoint=str(made.checkpoint),
        task=tiny.TASK,
        tokenizer=str(made.tokenizer),
        vlm=str(made.vlm) if kind == "smolvla" else None,
    )


def learning_policy(kind: PolicyType, folder: Path) -> VlaPolicy:
    """Make a tiny checkpoint of the type `kind` in `folder` and return it as the learner has it."""
    made = tiny.make(kind, folder)
    with tiny.tiny_sizes(made):
        return open_vla(network_of(made, kind), tiny.specification())


def drawn(policy: VlaPolicy, rows: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Return observations, chunks, noise, times and which actions are real, for `rows` rows."""
    generator = torch.Generator().manual_seed(seed)
    told = tiny.specification()
    return {
        "observation": torch.rand(rows, told.observation_size, generator=generator) * 2 - 1,
        "chunk": torch.rand(rows, told.chunk_steps, told.action_size, generator=generator) * 2 - 1,
        "noise": torch.randn(rows, *policy.noise_shape, generator=generator),
        "time": torch.rand(rows, generator=generator),
        "valid": (torch.arange(told.chunk_steps) < torch.tensor([[8], [3], [1]] * rows)[:rows]).float(),
    }
