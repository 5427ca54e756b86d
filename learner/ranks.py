"""Ranks of one data-parallel learner, as torchrun starts them: each takes its part of every batch, their gradients are averaged."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True, slots=True)
class Ranks:
    """Which of how many ranks this process is."""

    rank: int = 0
    count: int = 1

    def part(self, drawn: Tensor) -> Tensor:
        """Return the rows for this rank's part of a batch among those drawn for all ranks with the same generator."""
        rows = len(drawn) // self.count
        return drawn[self.rank * rows : (self.rank + 1) * rows]

    def agree(self, wish: bool) -> bool:
        """Whether all ranks wish it; all of them must ask."""
        if self.count == 1:
            return wish
        wishes = torch.tensor(float(wish))
        distributed.all_reduce(wishes, distributed.ReduceOp.MIN)
        return bool(wishes)

    def averaged(self, loss: Callable[..., Any], parameters: Sequence[nn.Parameter]) -> Callable[..., Any]:
        """Return `loss` such that its gradient in `parameters` becomes the mean of all ranks', which start from those of rank 0."""
        if self.count == 1:
            return loss
        return DistributedDataParallel(_Loss(loss, parameters), find_unused_parameters=True)


ALONE = Ranks()


class _Loss(nn.Module):
    """A function and the parameters it depends on, in the form that DistributedDataParallel wants."""

    def __init__(self, loss: Callable[..., Any], parameters: Sequence[nn.Parameter]) -> None:
        super().__init__()
        self._loss, self._parameters_of_all = loss, nn.ParameterList(parameters)

    def forward(self, *arguments: Any) -> Any:
        """Return what the function returns."""
        return self._loss(*arguments)


@contextmanager
def joined() -> Iterator[Ranks]:
    """Join the ranks that torchrun has started, on the CPU; alone without torchrun."""
    if "WORLD_SIZE" not in os.environ:
        yield ALONE
        return
    distributed.init_process_group("gloo")
    try:
        yield Ranks(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
