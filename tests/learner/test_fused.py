"""oneDNN's products are those of plain torch, in every precision a learner computes in, with their gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from poco.learner import fused
from poco.learner.blockwise import blocks
from poco.learner.fused import GRAIN, filled, linear, linear_silu

ROWS = [9, GRAIN]
AVAILABLE = [fused.FUSED, False]


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("available", AVAILABLE)
@pytest.mark.parametrize(
    ("precision", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)]
)
def test_is_silu_of_the_linear_layer(
    precision: torch.dtype, tolerance: float, available: bool, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Computed again in float64, with oneDNN's product and without it."""
    monkeypatch.setattr(fused, "FUSED", available)
    torch.manual_seed(0)
    features, weight, bias = (torch.randn(*shape).to(precision) for shape in ((rows, 24), (16, 24), (16,)))
    with torch.no_grad():
        found = linear_silu(features, weight, bias)
    expected = functional.silu(functional.linear(features.double(), weight.double(), bias.double()))
    assert found.dtype == precision
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("available", AVAILABLE)
def test_gradients_are_those_of_a_linear_layer(
    available: bool, biased: bool, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values and gradients of inputs, weight and bias as float64 gives them; frozen ones get none."""
    monkeypatch.setattr(fused, "FUSED", available)
    torch.manual_seed(0)
    shapes = ((rows, 24), (16, 24), *(((16,),) if biased else ()))
    inputs = [torch.randn(*shape, requires_grad=True) for shape in shapes]
    doubled = [one.detach().double().requires_grad_() for one in inputs]
    towards = torch.randn(rows, 16)
    found = linear(*inputs)
    expected = functional.linear(*doubled)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    gradients = torch.autograd.grad(found, inputs, towards)
    exact = torch.autograd.grad(expected, doubled, towards.double())
    for one, other in zip(gradients, exact, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5)
    features, weight = inputs[:2]
    torch.autograd.backward(linear(features.detach(), weight).sum())
    assert features.grad is None
    assert weight.grad is not None


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 4))
def test_rows_come_in_grains(rows: int, more: int, threads: int) -> None:
    """Rounded up only where there are so many; whole grains stay whole in every block, and no row is lost."""
    count = filled(rows, rows + more)
    parts = blocks(count, 1024, threads, GRAIN)
    sizes = [part.stop - part.start for part in parts]
    assert rows <= count <= rows + more
    assert [row for part in parts for row in range(count)[part]] == list(range(count))
    assert max(sizes) <= 1024
    if count % GRAIN:
        assert count == rows
    else:
        assert count < rows + GRAIN
        assert not any(size % GRAIN for size in sizes)
        assert len(parts) >= min(threads, count // GRAIN)
