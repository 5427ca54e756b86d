"""All steps of a chunk as one graph, composed from the graph of one step: what depends on neither sample nor time appears once."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from poco.export.to_onnx import NOISE
from poco.vla import SAMPLE, TIME, Schedule
from poco.vla_numbers import step_size, times

FINISHED = "finished"
"""Name of the output: the finished sample [1, T, W]."""


def unroll(step: onnx.ModelProto, schedule: Schedule) -> onnx.ModelProto:
    """Return the graph from `noise` (in the place of sample and time) to `finished` that takes the steps of `schedule`."""
    graph = step.graph
    moving = _depending(graph, {SAMPLE, TIME})
    fixed = [node for node in graph.node if node.output[0] not in moving]
    repeated = [node for node in graph.node if node.output[0] in moving]
    velocity = graph.output[0].name
    nodes = list(fixed)
    constants = list(graph.initializer)
    constants.append(numpy_helper.from_array(np.array(step_size(schedule), np.float32), "step_size"))
    point = NOISE
    for index, time in enumerate(times(schedule)):
        constants.append(numpy_helper.from_array(np.array([time], np.float32), f"time_{index}"))
        names = {SAMPLE: point, TIME: f"time_{index}"}
        names |= {name: f"{name}_at_{index}" for name in moving if name not in names}
        for node in repeated:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = f"{node.name}_at_{index}"
            copy.input[:] = [names.get(name, name) for name in node.input]
            copy.output[:] = [names.get(name, name) for name in node.output]
            nodes.append(copy)
        moved, last = f"move_{index}", index == schedule.steps - 1
        following = FINISHED if last else f"point_{index + 1}"
        nodes.append(
            helper.make_node("Mul", [names.get(velocity, velocity), "step_size"], [moved], name=f"make_{moved}")
        )
        nodes.append(helper.make_node("Add", [point, moved], [following], name=f"make_{following}"))
        point = following
    shape = [axis.dim_value for axis in graph.input[_place(graph, SAMPLE)].type.tensor_type.shape.dim]
    noise = helper.make_tensor_value_info(NOISE, onnx.TensorProto.FLOAT, shape)
    inputs = [noise, *(item for item in graph.input if item.name not in (SAMPLE, TIME))]
    finished = helper.make_tensor_value_info(FINISHED, onnx.TensorProto.FLOAT, shape)
    unrolled = helper.make_graph(nodes, "chunk", inputs, [finished], constants)
    return helper.make_model(unrolled, opset_imports=step.opset_import, ir_version=step.ir_version)


def _depending(graph: onnx.GraphProto, sources: set[str]) -> set[str]:
    """Return the names of all values of `graph` that depend on `sources`, these included; nodes are in order."""
    found = set(sources)
    for node in graph.node:
        if found.intersection(node.input):
            found.update(node.output)
    return found


def _place(graph: onnx.GraphProto, name: str) -> int:
    return [item.name for item in graph.input].index(name)
