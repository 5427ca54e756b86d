"""The three calls by which the agent knows a policy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from torch import Tensor, nn


class ChunkPolicy(Protocol):
    """All the agent knows of a policy, besides that it has parameters."""

    @property
    def noise_shape(self) -> tuple[int, int] | None:
        """Shape of the noise that one chunk is made of; none for that of the chunk, [T, A]."""
        ...

    @property
    def rows_max(self) -> int | None:
        """So many rows may be in one sum of losses, for the sake of memory; none for as many as the agent likes."""
        ...

    def encode(self, observation: Tensor) -> Tensor:
        """Return the context [B, ...] of `observation` [B, O]; computed once for all candidates."""
        ...

    def loss(self, context: Tensor, chunk: Tensor, noise: Tensor, time: Tensor, valid: Tensor) -> Tensor:
        """Return the loss [B] of `chunk` [B, T, A], mean over its elements, with one draw of `noise` and of uniform `time` [B]."""
        ...

    def sample(self, context: Tensor, noise: Tensor) -> Tensor:
        """Return chunks [B, T, A] in [-1, 1] made of `noise`, [B, T, A] or [B, *noise_shape]."""
        ...

    def for_critic(self, observation: Tensor) -> Tensor:
        """Return what a critic reads of `observation` [B, O]: itself first, then what else is known of it."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return what the optimizer changes."""
        ...
