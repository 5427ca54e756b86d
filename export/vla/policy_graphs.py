"""The graphs of a policy with their inputs and sources: prefix (constant), step (weights as inputs) and all steps in one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch

from poco.artifact import Graph, GraphInput, GraphOutput, Tensors, sha256
from poco.export.vla.graphs import export_module
from poco.export.vla.half import halved
from poco.export.vla.options import Progress
from poco.export.vla.promote import TYPE_NAMES, promote
from poco.export.vla.tidy import optimised, tidied
from poco.export.vla.unroll import unroll
from poco.learner.vla.adapter import Parts, Sizes
from poco.learner.vla.layout import turned
from poco.vla import CHUNK, PREFIX, STEP, Precision, Schedule

VELOCITY = "velocity"


@dataclass(frozen=True, slots=True)
class PolicyGraphs:
    """Graphs as a manifest lists them, their bytes by name, and the tensors that they read as inputs."""

    graphs: tuple[Graph, ...]
    payloads: dict[str, bytes]
    tensors: Tensors


def policy_graphs(
    parts: Parts,
    policy: torch.nn.Module,
    examples: Mapping[str, torch.Tensor],
    schedule: Schedule,
    precision: Precision,
    with_chunk: bool,
    progress: Progress,
) -> PolicyGraphs:
    """Export `policy`, whose weights the step graph and the graph of all steps take as inputs; raises ArtifactError.

    `examples` are inputs of every source; only their shapes and types matter.
    """
    half, given = precision == "fp16", dict(examples)
    carried = tuple(name for name in parts.step_inputs if name not in examples)
    payloads: dict[str, bytes] = {}
    graphs: list[Graph] = []
    with progress.stage("export prefix") as facts:
        prefix = parts.prefix(policy)
        arguments = {name: given[name] for name in parts.prefix_inputs}
        model = export_module(prefix, arguments, carried, optimise=True)
        payloads[PREFIX] = tidied(halved(model, ()) if half else model)
        facts["bytes"] = len(payloads[PREFIX])
    graphs.append(_graph(PREFIX, model, payloads[PREFIX], (), _sources(parts.prefix_inputs, carried)))
    with torch.no_grad():
        made = prefix(*arguments.values())
        given |= dict(zip(carried, made if isinstance(made, tuple) else (made,), strict=True))
    with progress.stage("export step") as facts:
        arguments = {name: given[name] for name in parts.step_inputs}
        model = export_module(parts.step(policy), arguments, (VELOCITY,), optimise=False)
        state = policy.state_dict()
        weights = promote(model, state.keys())
        model = optimised(model)
        step = halved(model, weights) if half else model
        payloads[STEP] = tidied(step)
        facts["bytes"] = len(payloads[STEP])
        facts["remark"] = f"{len(weights)} weights are inputs"
    sources = _sources(parts.step_inputs, carried)
    graphs.append(_graph(STEP, step, payloads[STEP], weights, sources))
    if with_chunk:
        with progress.stage("compose all steps") as facts:
            unrolled = unroll(model, schedule)
            unrolled = halved(unrolled, weights) if half else unrolled
            payloads[CHUNK] = tidied(unrolled)
            facts["bytes"] = len(payloads[CHUNK])
            facts["remark"] = f"{len(unrolled.graph.node):,} nodes"
        graphs.append(_graph(CHUNK, unrolled, payloads[CHUNK], weights, sources | {"noise": "noise"}))
    dtype = np.float16 if half else np.float32
    tensors: Tensors = {item.name: turned(state[item.name].numpy(), item).astype(dtype, order="C") for item in weights}
    return PolicyGraphs(tuple(graphs), payloads, tensors)


def examples_of(sizes: Sizes) -> dict[str, torch.Tensor]:
    """Return example inputs of every source of a policy with these `sizes`."""
    chunk = torch.zeros(1, sizes.chunk, sizes.padded)
    return {
        "pixels": torch.zeros(len(sizes.cameras), 3, sizes.height, sizes.width),
        "image_mask": torch.ones(len(sizes.cameras), dtype=torch.bool),
        "tokens": torch.zeros(1, sizes.tokens, dtype=torch.int64),
        "token_mask": torch.ones(1, sizes.tokens, dtype=torch.bool),
        "state": torch.zeros(1, sizes.padded),
        "sample": chunk,
        "time": torch.ones(1),
    }


def _sources(names: Sequence[str], carried: Sequence[str]) -> dict[str, str]:
    return {name: f"graph:{name}" if name in carried else name for name in names}


def _graph(
    name: str, model: onnx.ModelProto, payload: bytes, weights: Sequence[GraphInput], sources: Mapping[str, str]
) -> Graph:
    promoted = {item.name: item for item in weights}
    inputs = []
    for item in model.graph.input:
        shape, dtype = _shape(item), TYPE_NAMES[item.type.tensor_type.elem_type]
        if item.name in promoted:
            weight = promoted[item.name]
            inputs.append(
                GraphInput(name=item.name, source=weight.source, shape=shape, dtype=dtype, transposed=weight.transposed)
            )
        else:
            inputs.append(GraphInput(name=item.name, source=sources[item.name], shape=shape, dtype=dtype))
    outputs = tuple(
        GraphOutput(name=item.name, shape=_shape(item), dtype=TYPE_NAMES[item.type.tensor_type.elem_type])
        for item in model.graph.output
    )
    return Graph(name=name, file=f"{name}.onnx", sha256=sha256(payload), inputs=tuple(inputs), outputs=outputs)


def _shape(item: Any) -> tuple[int, ...]:
    return tuple(int(axis.dim_value) for axis in item.type.tensor_type.shape.dim)
