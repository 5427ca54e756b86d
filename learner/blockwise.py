"""Sums over many states, cut into blocks that stay in a CPU's cache from their first product to their gradient."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor

Rest = TypeVar("Rest")


def blocks(count: int, size: int, threads: int, grain: int = 1) -> list[slice]:
    """Cut `count` states into blocks of at most `size`, at least one for each thread if there are so many states.

    They are as equal as they can be in multiples of `grain`, if `count` is one.
    """
    unit = grain if count % grain == 0 and size >= grain else 1
    units = count // unit
    number = min(units, max(threads, math.ceil(units / (size // unit))))
    ends = [unit * (units * block // number) for block in range(number + 1)]
    return [slice(*pair) for pair in pairwise(ends)]


def mapped(term: Callable[[slice], Rest], parts: Sequence[slice], workers: ThreadPoolExecutor | None) -> list[Rest]:
    """Return what `term` makes of each of the `parts`, in their order, whichever of the `workers` took it."""
    return list(map(term, parts) if workers is None else workers.map(term, parts))


def summed(
    term: Callable[[Tensor, slice], tuple[Tensor, Rest]],
    context: Tensor,
    parameters: Sequence[Tensor],
    parts: Sequence[slice],
    workers: ThreadPoolExecutor | None,
) -> tuple[Tensor, list[Rest]]:
    """Return the sum of the scalar `term(context[part], part)` over `parts`, and what else each term returned.

    The sum has its gradient in `context` and `parameters`: every block's is taken as soon as its term is there and added up
    in the order of the blocks, so that the numbers do not depend on which of the `workers` took which.
    """

    def work(part: slice) -> tuple[Tensor, tuple[Tensor | None, ...], Rest]:
        near = context.detach()[part].requires_grad_()
        value, rest = term(near, part)
        inputs = (near, *parameters)
        if not value.requires_grad:
            return value, (None,) * len(inputs), rest
        return value.detach(), torch.autograd.grad(value, inputs, allow_unused=True), rest

    values, gradients, rests = zip(*mapped(work, parts, workers), strict=True)
    near, *others = zip(*gradients, strict=True)
    whole = None if near[0] is None else torch.cat(near)
    known = [whole, *(None if found[0] is None else torch.stack(found).sum(0) for found in others)]
    total: Tensor = _Known.apply(torch.stack(values).sum(), known, context, *parameters)  # type: ignore[no-untyped-call]
    return total, list(rests)


class _Known(torch.autograd.Function):
    """A value whose gradient was computed along with it."""

    @staticmethod
    def forward(context: Any, value: Tensor, gradients: Sequence[Tensor | None], *inputs: Tensor) -> Tensor:
        context.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(context: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(None if one is None else upstream[0] * one for one in context.gradients)
