"""The whole update as one graph of kernels on a GPU: batch, losses, gradients, step and averages, without the host in between.

A POCO update is some thousand small kernels; started one by one they take longer than they compute. So the update is run once for
every phase while the GPU records it (CUDA graph), and from then on a single call starts all of it. An insane update changes nothing
there either: whether it counts is decided on the device.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from poco.learner.agent import Agent
from poco.learner.agent_settings import Phase
from poco.learner.windows import Batch

WARMING_ROUNDS = 3
"""So many updates that change nothing come before a capture: libraries set themselves up in them."""


class CapturedUpdate:
    """Updates of `agent`, whose shapes must be fixed; the learner process that owns the agent owns it.

    `sample` draws a batch with `generator` and `follow` is told the phase after every update; all three must work on the agent's
    device and always in the same memory. On a CPU nothing is captured, everything else is the same.
    """

    def __init__(
        self, agent: Agent, sample: Callable[[], Batch], generator: torch.Generator, follow: Callable[[Phase], None]
    ) -> None:
        self._agent, self._sample, self._generator, self._follow = agent, sample, generator, follow
        self._allowed = torch.ones((), dtype=torch.bool, device=agent.device)
        self._graphs: dict[Phase, tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        self._names: dict[Phase, list[str]] = {}

    def take(self, count: int, phase: Phase) -> list[dict[str, float]]:
        """Take `count` updates and return the diagnostics of those that were not refused; the others count in `agent.refused`."""
        if count < 1:
            return []
        update = self._replayed if self._agent.device.type == "cuda" else self._followed
        found = torch.stack([update(phase) for _ in range(count)]).tolist()
        accepted = [dict(zip(self._names[phase], row[1:], strict=True)) for row in found if row[0]]
        self._agent.refused += count - len(accepted)
        return accepted

    def _once(self, phase: Phase) -> Tensor:
        """Take one update; return on the device whether it was accepted, then its diagnostics."""
        figures = self._agent.descend(self._sample(), phase, self._generator)
        sane = self._agent.sane(figures)
        self._agent.step(sane & self._allowed)
        self._names[phase] = list(figures)
        return torch.stack([sane.float(), *(figure.float() for figure in figures.values())])

    def _followed(self, phase: Phase) -> Tensor:
        row = self._once(phase)
        self._follow(phase)
        return row

    def _replayed(self, phase: Phase) -> Tensor:
        if phase not in self._graphs:
            self._graphs[phase] = self._captured(phase)
        graph, row = self._graphs[phase]
        graph.replay()
        return row.clone()

    def _captured(self, phase: Phase) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        before = self._generator.get_state()
        self._allowed.fill_(False)
        beside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(WARMING_ROUNDS):
                self._once(phase)
        torch.cuda.current_stream().wait_stream(beside)
        self._generator.set_state(before)
        self._allowed.fill_(True)
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self._generator)
        with torch.cuda.graph(graph):
            row = self._followed(phase)
        return graph, row
