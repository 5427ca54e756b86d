"""The chunk critic: an ensemble of networks that value what a chunk will lead to from an observation."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional

from poco.errors import ArtifactError
from poco.learner.networks import MAX_LAYERS, MAX_WIDTH
from poco.learner.remaining import Remaining
from poco.specification import Specification

MAX_HEADS = 32
CriticLoss = Literal["mse", "bce"]
Aggregate = Literal["mean", "min"]


class CriticArchitecture(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that fixes the shapes and the output scale of a ChunkCritic; `steps` is the number of actions it reads."""

    observation_size: int
    steps: int
    action_size: int
    hidden_sizes: tuple[int, ...]
    heads: int
    loss: CriticLoss

    def __post_init__(self) -> None:
        """Refuse sizes that no network has; raises ArtifactError."""
        sizes = (self.observation_size, self.steps, self.action_size, *self.hidden_sizes)
        if not 1 <= len(self.hidden_sizes) <= MAX_LAYERS or not all(1 <= size <= MAX_WIDTH for size in sizes):
            raise ArtifactError(
                f"critic has the sizes {sizes}: give 1 to {MAX_LAYERS} hidden layers and sizes of 1 to {MAX_WIDTH}"
            )
        if not 1 <= self.heads <= MAX_HEADS:
            raise ArtifactError(f"critic has {self.heads} heads, must have 1 to {MAX_HEADS}")

    @classmethod
    def of(
        cls,
        specification: Specification,
        hidden_sizes: tuple[int, ...],
        heads: int,
        loss: CriticLoss,
        clock: bool,
        more: int = 0,
    ) -> CriticArchitecture:
        """Return the architecture that reads the delay_steps + execute_steps actions from an observation on.

        With a clock the time that is over is one more entry of what it observes; `more` are those that a policy adds to it.
        """
        return cls(
            observation_size=specification.observation_size + more + clock,
            steps=specification.delay_steps + specification.execute_steps,
            action_size=specification.action_size,
            hidden_sizes=hidden_sizes,
            heads=heads,
            loss=loss,
        )


class ChunkCritic(nn.Module):
    """Values of actions that begin at an observation; only learner processes call it.

    The critic reads the observation of step k and the actions of steps k ... k + delay_steps + execute_steps - 1. The first
    delay_steps of them were on their way when the policy observed and are part of the state; the others are the executed
    part of the chunk. Actions after it are never executed and are not read. With the loss "bce" the outputs are logits
    of values in 0 to 1.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, architecture: CriticArchitecture, remaining: Remaining | None = None) -> None:
        """With `remaining` it also reads what would remain to the target after each action."""
        super().__init__()
        self.architecture, self.remaining = architecture, remaining
        self.register_buffer("mean", torch.zeros(architecture.observation_size))
        self.register_buffer("std", torch.ones(architecture.observation_size))
        width = architecture.action_size + (0 if remaining is None else remaining.size)
        self.heads = nn.ModuleList(_Head(architecture, architecture.steps * width) for _ in range(architecture.heads))

    def forward(self, observation: Tensor, actions: Tensor) -> Tensor:
        """Return raw outputs [heads, B, N] for `observation` [B, O] and N alternatives `actions` [B, N, steps, A]."""
        state = (observation - self.mean) / self.std
        if self.remaining is not None:
            actions = torch.cat((actions, self.remaining(observation, actions)), dim=-1)
        return torch.stack([head(state, actions.flatten(2)) for head in self.heads])

    def values(self, observation: Tensor, actions: Tensor, aggregate: Aggregate) -> Tensor:
        """Return values [B, N]: mean or minimum of the heads."""
        values: Tensor = self(observation, actions)
        if self.architecture.loss == "bce":
            values = values.sigmoid()
        return values.mean(0) if aggregate == "mean" else values.amin(0)

    def loss(self, raw: Tensor, target: Tensor) -> Tensor:
        """Return the loss [heads, B] of outputs `raw` [heads, B] against `target` [B]: squared error or cross-entropy."""
        target = target.expand_as(raw)
        if self.architecture.loss == "bce":
            entropy: Tensor = functional.binary_cross_entropy_with_logits(raw, target, reduction="none")
            return entropy
        return (raw - target).square()


class _Head(nn.Module):
    """MLP over concat(observation, actions) with LayerNorm after every activation; the first layer is split like the policy's."""

    def __init__(self, architecture: CriticArchitecture, read: int) -> None:
        super().__init__()
        hidden = architecture.hidden_sizes
        self.observation_layer = nn.Linear(architecture.observation_size, hidden[0])
        self.action_layer = nn.Linear(read, hidden[0], bias=False)
        self.hidden_layers = nn.ModuleList(nn.Linear(size, following) for size, following in pairwise(hidden))
        self.norms = nn.ModuleList(nn.LayerNorm(size) for size in hidden)
        self.value_layer = nn.Linear(hidden[-1], 1)

    def forward(self, state: Tensor, actions: Tensor) -> Tensor:
        """Return [B, N] for `state` [B, O] and what is read of the actions [B, N, read]."""
        overwrite = not torch.is_grad_enabled()
        first = self.observation_layer(state).unsqueeze(1) + self.action_layer(actions)
        features = self.norms[0](functional.silu(first, inplace=overwrite))
        for layer, norm in zip(self.hidden_layers, self.norms[1:], strict=True):
            features = norm(functional.silu(layer(features), inplace=overwrite))
        value: Tensor = self.value_layer(features).squeeze(-1)
        return value
