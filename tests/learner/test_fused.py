"""A layer and its activation in one pass are the two passes, in every precision a learner computes in."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from poco.learner import fused
from poco.learner.fused import linear_silu


@pytest.mark.parametrize("available", [fused.FUSED, False])
@pytest.mark.parametrize(
    ("precision", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)]
)
def test_is_silu_of_the_linear_layer(
    precision: torch.dtype, tolerance: float, available: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Computed again in float64, with oneDNN's product and without it."""
    monkeypatch.setattr(fused, "FUSED", available)
    torch.manual_seed(0)
    features, weight, bias = (torch.randn(*shape).to(precision) for shape in ((9, 24), (16, 24), (16,)))
    with torch.no_grad():
        found = linear_silu(features, weight, bias)
    expected = functional.silu(functional.linear(features.double(), weight.double(), bias.double()))
    assert found.dtype == precision
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)
