"""Ranks of one data-parallel learner, as torchrun starts them: each takes its part of every batch, their gradients are averaged.

What they tell each other are numbers and bytes of their own, never objects that would have to be unpickled.
"""

from __future__ import annotations

import atexit
import gc
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

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes for all."""
        return self.rank == 0

    def part(self, drawn: Tensor) -> Tensor:
        """Return the rows for this rank's part of a batch among those drawn for all ranks with the same generator: every count-th.

        So the first rows of a batch are shared out as evenly as the whole of it.
        """
        return drawn[self.rank :: self.count].contiguous()

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of all ranks' `values`, of one shape; all of them must ask."""
        if self.count > 1:
            values = values.clone()
            distributed.all_reduce(values)
        return values

    def gathered(self, values: Tensor) -> list[Tensor]:
        """Return what each rank has for `values` [n], whose length may differ; all of them must ask."""
        lengths = torch.zeros(self.count, dtype=torch.int64)
        lengths[self.rank] = len(values)
        lengths = self.total(lengths)
        table = values.new_zeros(self.count, int(lengths.max()))
        table[self.rank, : len(values)] = values
        return [row[:length] for row, length in zip(self.total(table), lengths.tolist(), strict=True)]

    def told(self, teller: int, say: Callable[[], bytes]) -> bytes:
        """Return what rank `teller` says, which alone calls `say`; all of them must listen."""
        spoken = say() if self.rank == teller else b""
        if self.count == 1:
            return spoken
        said = self.gathered(
            torch.frombuffer(bytearray(spoken), dtype=torch.uint8) if spoken else torch.empty(0).byte()
        )
        return said[teller].numpy().tobytes()

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


def device_of_rank(device: str) -> str:
    """Return the GPU of this rank on its computer where torchrun was asked for `device` cuda; otherwise what was asked for."""
    local = os.environ.get("LOCAL_RANK")
    return device if device != "cuda" or local is None else f"cuda:{local}"


class _Loss(nn.Module):
    """A function and the parameters it depends on, in the form that DistributedDataParallel wants."""

    def __init__(self, loss: Callable[..., Any], parameters: Sequence[nn.Parameter]) -> None:
        super().__init__()
        self._loss, self._parameters_of_all = loss, nn.ParameterList(parameters)

    def forward(self, *arguments: Any) -> Any:
        """Return what the function returns."""
        return self._loss(*arguments)


@contextmanager
def joined(device: str = "cpu") -> Iterator[Ranks]:
    """Join the ranks that torchrun has started, through gloo and, for what is on a GPU, NCCL; alone without torchrun.

    Gloo's threads end with the last that refers to the group, an averaged loss in some cycle; one that is at work when the
    interpreter ends aborts the process. So cycles are collected before.
    """
    if "WORLD_SIZE" not in os.environ:
        yield ALONE
        return
    atexit.register(gc.collect)
    distributed.init_process_group("gloo" if device == "cpu" else "cpu:gloo,cuda:nccl")
    try:
        yield Ranks(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
