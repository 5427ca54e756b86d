"""What the E-step finds and the M-step minimises: weighted candidates, and their clipped loss (arXiv 2604.01860)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Posterior:
    """Result of the E-step for B states: candidate chunks [B, N, T, A], their values and weights [B, N]."""

    chunks: Tensor
    values: Tensor
    weights: Tensor

    @classmethod
    def joined(cls, parts: Sequence[Posterior]) -> Posterior:
        """Return the posteriors of parts of a batch as one."""
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in cls.__slots__))


def posterior_weights(values: Tensor, eta: float) -> Tensor:
    """Return w = softmax(Q / eta) over the candidates of each state, [B, N]."""
    return torch.softmax(values / eta, dim=-1)


def clipped_loss(losses: Tensor, weights: Tensor, clip: float) -> Tensor:
    """Return sum_j w_j min(L_j, clip) for each state [B]; a candidate beyond the clip has no gradient."""
    return (weights * losses.clamp(max=clip)).sum(-1)
