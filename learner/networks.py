"""The flow-matching policy: an MLP that carries noise to an action chunk along straight lines.

Linear path x_t = (1 - t) noise + t chunk with the constant target velocity chunk - noise (Lipman et al. 2023, optimal
transport path), integrated with Euler steps. The first layer of the MLP over concat(observation, chunk, t) is written as the
sum of an observation half and a chunk half, so that the observation half is computed once per Euler chain.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional

from poco.errors import ArtifactError
from poco.specification import Specification

MAX_LAYERS = 16
MAX_WIDTH = 8192
MAX_EULER_STEPS = 100


class Architecture(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that fixes the shapes of a FlowPolicy; two policies of one architecture can replace each other."""

    observation_size: int
    chunk_steps: int
    action_size: int
    hidden_sizes: tuple[int, ...] = (128, 128, 128)
    euler_steps: int = 10

    def __post_init__(self) -> None:
        """Refuse sizes that no network has; raises ArtifactError."""
        sizes = (self.observation_size, self.chunk_steps, self.action_size, *self.hidden_sizes)
        if not 1 <= len(self.hidden_sizes) <= MAX_LAYERS or not all(1 <= size <= MAX_WIDTH for size in sizes):
            raise ArtifactError(
                f"architecture has the sizes {sizes}: give 1 to {MAX_LAYERS} hidden layers and sizes of 1 to {MAX_WIDTH}"
            )
        if not 1 <= self.euler_steps <= MAX_EULER_STEPS:
            raise ArtifactError(f"euler_steps is {self.euler_steps}, must lie between 1 and {MAX_EULER_STEPS}")

    @classmethod
    def of(cls, specification: Specification, hidden_sizes: tuple[int, ...] = (128, 128, 128)) -> Architecture:
        """Return the architecture that fits `specification`."""
        return cls(
            observation_size=specification.observation_size,
            chunk_steps=specification.chunk_steps,
            action_size=specification.action_size,
            hidden_sizes=hidden_sizes,
        )

    @property
    def chunk_size(self) -> int:
        """Number of elements of one flattened chunk."""
        return self.chunk_steps * self.action_size


class FlowPolicy(nn.Module):
    """Observation [B, O] and noise [B, T, A] to an action chunk [B, T, A] in [-1, 1]; learner and exporter call it."""

    mean: Tensor
    std: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        hidden = architecture.hidden_sizes
        self.register_buffer("mean", torch.zeros(architecture.observation_size))
        self.register_buffer("std", torch.ones(architecture.observation_size))
        self.observation_layer = nn.Linear(architecture.observation_size, hidden[0])
        self.chunk_layer = nn.Linear(architecture.chunk_size + 1, hidden[0], bias=False)
        self.hidden_layers = nn.ModuleList(nn.Linear(size, following) for size, following in pairwise(hidden))
        self.velocity_layer = nn.Linear(hidden[-1], architecture.chunk_size)

    noise_shape = None
    """The noise has the shape of the chunk."""

    rows_max = None

    def for_critic(self, observation: Tensor) -> Tensor:
        """Return `observation`, all that there is to see."""
        return observation

    def encode(self, observation: Tensor) -> Tensor:
        """Return the context [B, H] of `observation` [B, O]: the observation half of the first layer."""
        context: Tensor = self.observation_layer((observation - self.mean) / self.std)
        return context

    def velocity(self, context: Tensor, point: Tensor, time: Tensor) -> Tensor:
        """Return the velocity [B, T * A] of the flow at `point` [B, T * A] and `time` [B, 1] in 0 to 1."""
        features = functional.silu(context + self.chunk_layer(torch.cat((point, time), dim=-1)))
        for layer in self.hidden_layers:
            features = functional.silu(layer(features))
        velocity: Tensor = self.velocity_layer(features)
        return velocity

    def loss(self, context: Tensor, chunk: Tensor, noise: Tensor, time: Tensor, valid: Tensor) -> Tensor:
        """Return the flow-matching loss [B]: squared velocity error, masked by `valid` [B, T], mean over T * A.

        `chunk` and `noise` are [B, T, A], `time` is [B] in 0 to 1.
        """
        return flow_loss(self.velocity, context, chunk, noise, time, valid)

    def sample(self, context: Tensor, noise: Tensor) -> Tensor:
        """Return chunks [B, T, A] clamped to [-1, 1]: Euler integration of the flow from `noise` [B, T, A]."""
        steps = self.architecture.euler_steps
        point = noise.flatten(1)
        for step in range(steps):
            time = torch.full((len(point), 1), step / steps, dtype=point.dtype, device=point.device)
            point = point + self.velocity(context, point, time) * (1.0 / steps)
        return point.clamp(-1.0, 1.0).view_as(noise)

    def forward(self, observation: Tensor, noise: Tensor) -> Tensor:
        """Return the chunks [B, T, A] for `observation` [B, O] and `noise` [B, T, A]."""
        return self.sample(self.encode(observation), noise)


def flow_loss(
    velocity: Callable[[Tensor, Tensor, Tensor], Tensor],
    context: Tensor,
    chunk: Tensor,
    noise: Tensor,
    time: Tensor,
    valid: Tensor,
) -> Tensor:
    """Return the loss [B] of a `velocity` field of (context, point [B, T * A], time [B, 1]); see FlowPolicy.loss."""
    time = time.unsqueeze(-1)
    start, end = noise.flatten(1), chunk.flatten(1)
    error = velocity(context, torch.lerp(start, end, time), time) - (end - start)
    return (error.square().view_as(chunk) * valid.unsqueeze(-1)).flatten(1).mean(-1)
