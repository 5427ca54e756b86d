"""LeRobot's flow policies (SmolVLA, pi0, pi0.5) as two calls: the prefix of what is seen and told, the velocity of a chunk.

The prefix is what the frozen part of the network makes of images, prompt and, for SmolVLA, the state: keys and values that every
step of the flow attends to. The velocity is the library's own `denoise_step`, through which gradients flow into the expert.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

FROZEN = ("model.vlm_with_expert.vlm.", "model.paligemma_with_expert.paligemma.")
"""What the names of the tensors begin with that make the prefix."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """Keys and values [layers, B, heads, S, d] of B prefixes, and which of their S positions are real [B, S]."""

    keys: Tensor
    values: Tensor
    real: Tensor

    @property
    def bytes_each(self) -> int:
        """Size of one of the B prefixes."""
        return sum(part.nbytes for part in (self.keys, self.values, self.real)) // max(1, len(self.real))

    def one(self, row: int) -> Prefix:
        """Return a copy of the prefix with the number `row`."""
        part = slice(row, row + 1)
        return Prefix(self.keys[:, part].clone(), self.values[:, part].clone(), self.real[part].clone())

    def rows(self, index: Tensor) -> Prefix:
        """Return the prefixes with the numbers `index`; where there is only one, without copying it."""
        if len(self.real) == 1:
            count = len(index)
            wide = (self.keys.shape[0], count, *self.keys.shape[2:])
            return Prefix(self.keys.expand(wide), self.values.expand(wide), self.real.expand(count, -1))
        return Prefix(self.keys[:, index], self.values[:, index], self.real[index])

    @classmethod
    def joined(cls, parts: list[Prefix]) -> Prefix:
        """Return the prefixes of all `parts`, which are as long as each other, as one; of a single one without copying it."""
        if len(parts) == 1:
            return parts[0]
        keys, values = (torch.cat([getattr(part, name) for part in parts], dim=1) for name in ("keys", "values"))
        return cls(keys, values, torch.cat([part.real for part in parts]))


@dataclass(frozen=True, slots=True)
class Told:
    """What B prefixes are made of: images [B, C, 3, H, W] in -1 ... 1 with their mask [B, C], tokens [B, L] with theirs [B, L]."""

    images: Tensor
    image_mask: Tensor
    tokens: Tensor
    token_mask: Tensor

    def rows(self, part: slice) -> Told:
        """Return that of the rows `part`."""
        return Told(self.images[part], self.image_mask[part], self.tokens[part], self.token_mask[part])


@torch.no_grad()
def prefix(policy: Any, told: Told, state: Tensor | None) -> Prefix:
    """Return what the frozen part of the library's `policy` makes of `told` and, SmolVLA's only, the `state` [B, W].

    Of the policy only its `model` is looked at, here and below.
    """
    model, module = policy.model, sys.modules[type(policy.model).__module__]
    pictures, masks = list(told.images.unbind(1)), list(told.image_mask.unbind(1))
    sees_state = hasattr(model, "vlm_with_expert")
    more = {"state": state} if sees_state else {}
    embedded, real, causal = model.embed_prefix(pictures, masks, told.tokens, told.token_mask, **more)
    mask = module.make_att_2d_masks(real, causal)
    if not sees_state:
        mask = module.prepare_attention_masks_4d(mask)
        model.paligemma_with_expert.paligemma.model.language_model.config._attn_implementation = "eager"
    body = model.vlm_with_expert if sees_state else model.paligemma_with_expert
    _, cache = body.forward(
        attention_mask=mask,
        position_ids=torch.cumsum(real, dim=1) - 1,
        past_key_values=None,
        inputs_embeds=[embedded, None],
        use_cache=True,
    )
    keys, values = zip(*((layer.keys, layer.values) for layer in cache.layers), strict=True)
    return Prefix(torch.stack(keys), torch.stack(values), real)


def velocity(policy: Any, before: Prefix, sample: Tensor, time: Tensor, state: Tensor | None) -> Tensor:
    """Return the velocity [B, T, W] of `sample` [B, T, W] at `time` [B] (1 is noise) after the prefixes `before`.

    `state` [B, W] is read by pi0 only.
    """
    from transformers import DynamicCache

    cache = DynamicCache()
    for layer, (keys, values) in enumerate(zip(before.keys, before.values, strict=True)):
        cache.update(keys, values, layer)
    more = {"state": state} if reads_state(policy) else {}
    found: Tensor = policy.model.denoise_step(
        prefix_pad_masks=before.real, past_key_values=cache, x_t=sample, timestep=time, **more
    )
    return found


def reads_state(policy: Any) -> bool:
    """Whether the state is an input of every step of the library's `policy`, as pi0's is."""
    return not hasattr(policy.model, "vlm_with_expert") and hasattr(policy.model, "state_proj")


def trained(policy: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Return the parameters of the steps by their names in a checkpoint: all but those that make the prefix or do nothing.

    SmolVLA's projection of the state makes the prefix.
    """
    state_is_prefix = not reads_state(policy)
    for name, parameter in policy.named_parameters():
        if not name.startswith(FROZEN) and "lm_head" not in name and not (state_is_prefix and "state_proj" in name):
            yield name, parameter
