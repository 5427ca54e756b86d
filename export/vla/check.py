"""Proof that the graphs of an artifact give what the library gives, from observation and task to the finished sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from poco.artifact import Graph, Tensors
from poco.errors import ArtifactError
from poco.export.parity import open_graph
from poco.export.vla.cases import Inputs, Raw
from poco.learner.vla.adapter import Adapter
from poco.vla import CHUNK, PREFIX, STEP, ParityCase, Schedule, Vla
from poco.vla_numbers import step_size, times

Floats = npt.NDArray[np.float32]
Cache = dict[str, npt.NDArray[np.generic]]

TOLERANCES = {"fp32": 1e-4, "fp16": 1e-2}
"""Largest difference from the library, relative to the range of its actions, by precision."""
LEAST_SENSITIVITY_RATIO = 100.0


class GraphPolicy:
    """The graphs under ONNX Runtime on the CPU, weights bound, for the exporter only."""

    def __init__(
        self, graphs: tuple[Graph, ...], payloads: Mapping[str, bytes], tensors: Tensors, schedule: Schedule
    ) -> None:
        self._graphs = {graph.name: graph for graph in graphs}
        self._sessions = {graph.name: open_graph(payloads[graph.name]) for graph in graphs}
        self._schedule = schedule
        self._weights = {
            name: {item.name: tensors[item.tensor] for item in graph.inputs if item.tensor is not None}
            for name, graph in self._graphs.items()
        }

    def prefix(self, inputs: Inputs) -> Cache:
        """Return what the step takes of the prefix: keys, values and padding."""
        names = [item.name for item in self._graphs[PREFIX].outputs]
        return dict(zip(names, self._run(PREFIX, inputs.arrays), strict=True))

    def steps(self, inputs: Inputs) -> Floats:
        """Return the finished sample [T, W] of prefix and step after step."""
        return self.steps_from(inputs, self.prefix(inputs))

    def steps_from(self, inputs: Inputs, cache: Cache) -> Floats:
        """Return the finished sample [T, W] of step after step."""
        sample = inputs.arrays["noise"].astype(np.float32)
        move = np.float32(step_size(self._schedule))
        for time in times(self._schedule):
            given = {**inputs.arrays, **cache, "sample": sample, "time": np.array([time], np.float32)}
            sample = sample + move * self._run(STEP, given)[0]
        result: Floats = sample[0]
        return result

    def chunk(self, inputs: Inputs) -> Floats:
        """Return the finished sample [T, W] of prefix and the graph of all steps."""
        return self.chunk_from(inputs, self.prefix(inputs))

    def chunk_from(self, inputs: Inputs, cache: Cache) -> Floats:
        """Return the finished sample [T, W] of the graph of all steps."""
        result: Floats = self._run(CHUNK, {**inputs.arrays, **cache})[0][0]
        return result

    def _run(self, name: str, given: Mapping[str, npt.NDArray[np.generic]]) -> list[Any]:
        graph = self._graphs[name]
        wanted = [item.name for item in graph.inputs if item.tensor is None]
        feed = {item: given[item] for item in wanted}
        outputs: list[Any] = self._sessions[name].run(
            [item.name for item in graph.outputs], {**feed, **self._weights[name]}
        )
        return outputs


def library_sample(adapter: Adapter, policy: torch.nn.Module, inputs: Inputs) -> Floats:
    """Return the finished sample [T, W] of the library."""
    case = {name: torch.from_numpy(np.array(array)) for name, array in inputs.arrays.items()}
    with torch.no_grad():
        sample: Floats = adapter.library(policy, case)[0].numpy()
    return sample


def compare(raw: Raw, vla: Vla, inputs: Inputs, expected: Floats, actual: Floats) -> ParityCase:
    """Return how far `actual` is from `expected`, relative to the range of that."""
    masked = [item.key for item, there in zip(vla.cameras, raw.image_mask, strict=True) if item.camera and not there]
    error = error_of(expected, actual)
    return ParityCase(prompt_tokens=inputs.prompt_tokens, masked=masked[0] if masked else None, error=error)


def error_of(expected: Floats, actual: Floats) -> float:
    """Return the largest difference of `actual` from `expected`, relative to the range of that."""
    spread = float(np.max(expected) - np.min(expected))
    return float(np.max(np.abs(actual - expected))) / spread if spread > 0 else float("inf")


def demand(cases: list[ParityCase], tolerance: float) -> None:
    """Raise ArtifactError if a case differs by more than `tolerance`."""
    worst = max(cases, key=lambda case: case.error if case.error == case.error else float("inf"))
    if not worst.error <= tolerance:
        raise ArtifactError(
            f"the exported graphs differ from the library by {worst.error:.2e} of the range of the actions (prompt of "
            f"{worst.prompt_tokens} tokens, masked: {worst.masked}), the tolerance is {tolerance:.0e}: report it, it must not run"
        )
