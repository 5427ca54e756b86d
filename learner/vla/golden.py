"""The golden vectors of a vision-language-action artifact under another expert, as the learner computes them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from poco.learner.vla.flow import Told
from poco.learner.vla.policy import VlaPolicy
from poco.specification import Specification
from poco.vla import Vla
from poco.vla_numbers import actions, normalise, padded, physical_state

Tensors = dict[str, npt.NDArray[np.generic]]


def golden_of(
    policy: VlaPolicy, golden: Mapping[str, npt.NDArray[np.generic]], vla: Vla, told: Specification
) -> Tensors:
    """Return the samples [N, T, W] and chunks [N, T, A] that the expert of `policy` makes of the cases in `golden`.

    Images, tokens, observations and noise are those of the cases; `vla` and `told` are the artifact's.
    """
    pixels = golden["images"].astype(np.float32) / np.float32(255.0) * np.float32(2.0) - np.float32(1.0)
    there = golden["image_mask"].astype(np.bool_)
    pixels[~there] = -1.0
    physical = [physical_state(told, row) for row in golden["observation"].astype(np.float32)]
    state = np.concatenate([padded(normalise(vla.state, row), vla.width) for row in physical])
    words = (golden["tokens"], golden["token_mask"])
    seen = Told(*(torch.from_numpy(np.array(one)).to(policy.device) for one in (pixels, there, *words)))
    noise = torch.from_numpy(golden["noise"].astype(np.float32)).to(policy.device)
    whole = policy.integrated(seen, torch.from_numpy(state).to(policy.device), noise).numpy(force=True)
    chunks = [actions(vla, told, one, row) for one, row in zip(whole, physical, strict=True)]
    return {"sample": whole, "chunk": np.stack(chunks)}
