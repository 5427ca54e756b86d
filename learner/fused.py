"""oneDNN's matrix products for the learner's hot path on a CPU, with and without gradient.

Plain torch hands products in float32 to MKL, which takes twice as long on processors that Intel did not make (bench/RESULTS.md).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

FUSED: bool = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # type: ignore[no-untyped-call]
"""Whether this torch brings oneDNN's product with an activation applied to it while it is still in the cache."""

PRECISIONS = torch.float32, torch.bfloat16

GRAIN = 64
"""oneDNN makes a kernel for every new number of rows, half a millisecond each: only multiples of this one go to it."""


def filled(rows: int, available: int) -> int:
    """Return `rows` rounded up to whole grains, or themselves where fewer are `available` than that."""
    whole = rows + -rows % GRAIN
    return whole if whole <= available else rows


def linear_silu(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return silu(`features` W^T + b), [rows, out], without gradient; any learner process may call it."""
    if _taken(features) and features.dtype in PRECISIONS:
        activated: Tensor = torch.ops.mkldnn._linear_pointwise(features, weight, bias, "swish", [], "")
        return activated
    return functional.silu(functional.linear(features, weight, bias), inplace=True)


def linear(features: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return `features` W^T + b, [rows, out], with gradient; any learner process may call it."""
    if _taken(features) and features.dtype == torch.float32:
        product: Tensor = _Linear.apply(features, weight, bias)  # type: ignore[no-untyped-call]
        return product
    return functional.linear(features, weight, bias)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        context.save_for_backward(features, weight)
        return _product(features, weight, bias)

    @staticmethod
    def backward(context: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        (features, weight), (gradient,) = context.saved_tensors, upstream
        wanted_features, wanted_weight, wanted_bias = context.needs_input_grad
        return (
            _product(gradient, weight.t()) if wanted_features else None,
            _product(gradient.t(), features.t()) if wanted_weight else None,
            gradient.sum(0) if wanted_bias else None,
        )


def _taken(features: Tensor) -> bool:
    return FUSED and features.device.type == "cpu" and len(features) % GRAIN == 0


def _product(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return `left` `right`^T + b."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")
    return product
