"""The two calls of `flow` as modules that the exporter traces: one observation, arguments by their sources."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from poco.learner.vla import flow
from poco.learner.vla.flow import Told


class PrefixModule(nn.Module):
    """What is seen and told to keys, values and which positions are real; `state` for SmolVLA only.

    Holds the policy's `model` under that name, so that the weights keep the names they have in a checkpoint.
    """

    def __init__(self, policy: Any) -> None:
        super().__init__()
        self.model = policy.model

    def forward(
        self, pixels: Tensor, image_mask: Tensor, tokens: Tensor, token_mask: Tensor, state: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return key and value f32 [layers, 1, heads, S, d] and pad bool [1, S] of pixels [C, 3, H, W] and tokens [1, L]."""
        made = flow.prefix(self, Told(pixels[None], image_mask[None], tokens, token_mask), state)
        return made.keys, made.values, made.real


class StepModule(nn.Module):
    """The velocity of a chunk on its way from noise; `state` for pi0 only. Holds the policy's `model` under that name."""

    def __init__(self, policy: Any) -> None:
        super().__init__()
        self.model = policy.model

    def forward(
        self, sample: Tensor, time: Tensor, key: Tensor, value: Tensor, pad: Tensor, state: Tensor | None = None
    ) -> Tensor:
        """Return the velocity [1, T, W] of `sample` [1, T, W] at `time` [1]."""
        return flow.velocity(self, flow.Prefix(key, value, pad), sample, time, state)
