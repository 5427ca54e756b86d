"""A linear layer and its activation in one pass, for what a learner computes without gradient."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

FUSED: bool = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # type: ignore[no-untyped-call]
"""Whether this torch brings oneDNN's product with an activation applied to it while it is still in the cache."""

PRECISIONS = torch.float32, torch.bfloat16


def linear_silu(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return silu(`features` W^T + b), [rows, out], without gradient; any learner process may call it."""
    if FUSED and features.device.type == "cpu" and features.dtype in PRECISIONS:
        activated: Tensor = torch.ops.mkldnn._linear_pointwise(features, weight, bias, "swish", [], "")
        return activated
    return functional.silu(functional.linear(features, weight, bias), inplace=True)
