"""The chunk critic: an ensemble of networks that value what a chunk will lead to from an observation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional

from poco.errors import ArtifactError
from poco.learner.fused import linear_silu
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
        heads = [_layers(architecture, architecture.steps * width) for _ in range(architecture.heads)]
        observed, acted, *hidden, valued = (_Linears(layers) for layers in zip(*heads, strict=True))
        self.observation_layer, self.action_layer, self.value_layer = observed, acted, valued
        self.hidden_layers = nn.ModuleList(hidden)
        self.norms = nn.ModuleList(_Norms(architecture.heads, size) for size in architecture.hidden_sizes)

    def forward(self, observation: Tensor, actions: Tensor) -> Tensor:
        """Return raw outputs [heads, B, N] for `observation` [B, O] and N alternatives `actions` [B, N, steps, A]."""
        state = (observation - self.mean) / self.std
        if self.remaining is not None:
            actions = torch.cat((actions, self.remaining(observation, actions)), dim=-1)
        together = torch.is_grad_enabled() or state.device.type != "cpu"
        return (self._together if together else self._one_by_one)(state, actions.flatten(2))

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
        (states, alternatives, _), heads = actions.shape, self.architecture.heads
        observed, acted = self.observation_layer, self.action_layer
        first = functional.linear(state, observed.weight.flatten(0, 1), observed.bias.flatten()).unsqueeze(1)
        first = first + functional.linear(actions, acted.weight.flatten(0, 1))
        features: Tensor = functional.silu(first).view(states * alternatives, heads, -1).transpose(0, 1)
        first_norm, *norms = self.norms
        features = first_norm(features)
        for layer, norm in zip(self.hidden_layers, norms, strict=True):
            features = norm(functional.silu(layer(features)))
        values: Tensor = self.value_layer(features)
        return values.view(-1, states, alternatives)

    def _one_by_one(self, state: Tensor, actions: Tensor) -> Tensor:
        """Return the same without gradient, one head after another: its features stay in the cache of a CPU."""
        values = torch.empty(self.architecture.heads, *actions.shape[:2], dtype=state.dtype)
        read = torch.cat((state.unsqueeze(1).expand(-1, actions.shape[1], -1), actions), dim=-1).flatten(0, 1)
        first_norm, *norms = self.norms
        for head, valued in enumerate(values):
            weight, bias = _of_head(self.observation_layer, head)
            weight = torch.cat((weight, self.action_layer.weight[head]), dim=1)
            features = _normed(linear_silu(read, weight, bias), first_norm, head)
            for layer, norm in zip(self.hidden_layers, norms, strict=True):
                features = _normed(linear_silu(features, *_of_head(layer, head)), norm, head)
            valued.copy_(functional.linear(features, *_of_head(self.value_layer, head)).view_as(valued))
        return values


def _layers(architecture: CriticArchitecture, read: int) -> list[nn.Linear]:
    """Return the layers of one head, an MLP over concat(observation, actions) with LayerNorm after every activation.

    The first layer is split into two like the policy's: what is multiplied by the observation, and by the actions.
    """
    hidden = architecture.hidden_sizes
    return [
        nn.Linear(architecture.observation_size, hidden[0]),
        nn.Linear(read, hidden[0], bias=False),
        *(nn.Linear(size, following) for size, following in pairwise(hidden)),
        nn.Linear(hidden[-1], 1),
    ]


def _of_head(layer: nn.Module, head: int) -> tuple[Tensor, Tensor]:
    """Return weight and bias of one head of `layer`, which holds those of all heads."""
    weight, bias = layer.parameters()
    return weight[head], bias[head]


def _normed(features: Tensor, norm: nn.Module, head: int) -> Tensor:
    return functional.layer_norm(features, features.shape[-1:], *_of_head(norm, head))


class _Linears(nn.Module):
    """One linear layer of every head: `weight` [heads, out, in], `bias` [heads, out] unless the layers have none."""

    bias: Tensor

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([layer.weight.detach() for layer in layers]))
        if layers[0].bias is not None:
            self.bias = nn.Parameter(torch.stack([layer.bias.detach() for layer in layers]))

    def forward(self, features: Tensor) -> Tensor:
        """Return every head's layer of its `features` [heads, rows, in]."""
        return torch.baddbmm(self.bias.unsqueeze(1), features, self.weight.transpose(1, 2))


class _Norms(nn.Module):
    """One LayerNorm of every head: `weight` and `bias` [heads, W]."""

    def __init__(self, heads: int, size: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(heads, size)), nn.Parameter(torch.zeros(heads, size))

    def forward(self, features: Tensor) -> Tensor:
        """Return every head's LayerNorm of its `features` [heads, rows, W]."""
        normed = functional.layer_norm(features, features.shape[-1:])
        return torch.addcmul(self.bias.unsqueeze(1), normed, self.weight.unsqueeze(1))
