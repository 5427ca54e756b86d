"""The chunk critic: an ensemble of networks that value what a chunk will lead to from an observation."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, Literal, cast

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
        return self._together(state, actions.flatten(2))

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

    def _together(self, state: Tensor, actions: Tensor) -> Tensor:
        """Return [heads, B, N] for `state` [B, O] and what is read of the actions [B, N, read], a layer of all heads at once."""
        heads, (states, alternatives, _) = [cast(_Head, head) for head in self.heads], actions.shape
        activated = functools.partial(functional.silu, inplace=not torch.is_grad_enabled())
        weight, bias = _stacked(head.observation_layer for head in heads)
        first = functional.linear(state, weight.flatten(0, 1), bias.flatten()).unsqueeze(1)
        first = first + functional.linear(actions, torch.cat([head.action_layer.weight for head in heads]))
        features = activated(first).view(states * alternatives, len(heads), -1).transpose(0, 1)
        features = _normalised(features, *_stacked(head.norms[0] for head in heads))
        for layer in range(len(heads[0].hidden_layers)):
            features = activated(_linear(features, *_stacked(head.hidden_layers[layer] for head in heads)))
            features = _normalised(features, *_stacked(head.norms[layer + 1] for head in heads))
        return _linear(features, *_stacked(head.value_layer for head in heads)).view(-1, states, alternatives)


class _Head(nn.Module):
    """Weights of an MLP over concat(observation, actions) with LayerNorm after every activation.

    The first layer is split like the policy's.
    """

    def __init__(self, architecture: CriticArchitecture, read: int) -> None:
        super().__init__()
        hidden = architecture.hidden_sizes
        self.observation_layer = nn.Linear(architecture.observation_size, hidden[0])
        self.action_layer = nn.Linear(read, hidden[0], bias=False)
        self.hidden_layers = nn.ModuleList(nn.Linear(size, following) for size, following in pairwise(hidden))
        self.norms = nn.ModuleList(nn.LayerNorm(size) for size in hidden)
        self.value_layer = nn.Linear(hidden[-1], 1)


def _stacked(layers: Iterable[Any]) -> tuple[Tensor, Tensor]:
    """Return the weights [heads, ...] and biases [heads, W] of one layer of every head."""
    pairs = [(layer.weight, layer.bias) for layer in layers]
    return torch.stack([weight for weight, _ in pairs]), torch.stack([bias for _, bias in pairs])


def _linear(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return every head's linear layer of its `features` [heads, rows, W]."""
    return torch.baddbmm(bias.unsqueeze(1), features, weight.transpose(1, 2))


def _normalised(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return every head's LayerNorm of its `features` [heads, rows, W]."""
    return torch.addcmul(bias.unsqueeze(1), functional.layer_norm(features, features.shape[-1:]), weight.unsqueeze(1))
