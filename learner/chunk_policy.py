"""The three calls by which the agent knows a policy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from torch import Tensor, nn


class ChunkPolicy(Protocol):
    """All the agent knows of a policy, besides that it has parameters."""

    def encode(self, observation: Tensor) -> Tensor:
        """Return the context [B, ...] of `observation` [B, O]; computed once for all candidates."""
        ...

    def loss(self, context: Tensor, chunk: Tensor, noise: Tensor, time: Tensor, valid: Tensor) -> Tensor:
        """Return the loss [B] of `chunk` [B, T, A], mean over T * A, with one draw of `noise` [B, T, A] and `time` [B]."""
        ...

    def sample(self, context: Tensor, noise: Tensor) -> Tensor:
        """Return chunks [B, T, A] in [-1, 1]."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return what the optimizer changes."""
        ...
