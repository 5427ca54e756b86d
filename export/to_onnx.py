"""The graph of a FlowPolicy, written node by node: the Euler steps unrolled, every trained tensor a graph input.

Building the graph directly keeps it small and its inputs named after the tensors of the checkpoint, so that one graph serves
every generation of an architecture and a swap is a rebinding of inputs.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from poco.artifact import GraphInput, GraphOutput
from poco.learner.networks import Architecture

OPSET = 18
IR_VERSION = 10
OBSERVATION, NOISE, CHUNK = "observation", "noise", "chunk"


def tensor_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Return name and shape of every trained tensor and normaliser statistic of the graph."""
    hidden = architecture.hidden_sizes
    shapes: dict[str, tuple[int, ...]] = {
        "mean": (architecture.observation_size,),
        "std": (architecture.observation_size,),
        "observation_layer.weight": (hidden[0], architecture.observation_size),
        "observation_layer.bias": (hidden[0],),
        "chunk_layer.weight": (hidden[0], architecture.chunk_size + 1),
    }
    for index in range(len(hidden) - 1):
        shapes[f"hidden_layers.{index}.weight"] = (hidden[index + 1], hidden[index])
        shapes[f"hidden_layers.{index}.bias"] = (hidden[index + 1],)
    shapes["velocity_layer.weight"] = (architecture.chunk_size, hidden[-1])
    shapes["velocity_layer.bias"] = (architecture.chunk_size,)
    return shapes


def graph_inputs(architecture: Architecture) -> tuple[GraphInput, ...]:
    """Return the inputs of the graph: observation [1, O], noise [1, T, A] and every tensor."""
    noise = (1, architecture.chunk_steps, architecture.action_size)
    return (
        GraphInput(name=OBSERVATION, source=OBSERVATION, shape=(1, architecture.observation_size)),
        GraphInput(name=NOISE, source=NOISE, shape=noise),
        *(
            GraphInput(name=key, source=f"tensor:{key}", shape=shape)
            for key, shape in tensor_shapes(architecture).items()
        ),
    )


def graph_output(architecture: Architecture) -> GraphOutput:
    """Return the output of the graph: the chunk [1, T, A]."""
    return GraphOutput(name=CHUNK, shape=(1, architecture.chunk_steps, architecture.action_size))


def flow_graph(architecture: Architecture) -> bytes:
    """Return the serialized ONNX model of a FlowPolicy of `architecture`; equal architectures give equal bytes."""
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, onnx.TensorProto] = {}

    def constant(name: str, value: float | list[int] | list[list[float]]) -> str:
        dtype = np.int64 if name.endswith("_shape") else np.float32
        constants[name] = numpy_helper.from_array(np.array(value, dtype=dtype), name)
        return name

    def node(operator: str, *inputs: str, name: str, **attributes: int) -> str:
        nodes.append(helper.make_node(operator, list(inputs), [name], name=f"make_{name}", **attributes))
        return name

    def silu(value: str) -> str:
        return node("Mul", value, node("Sigmoid", value, name=f"{value}_gate"), name=f"{value}_active")

    def linear(value: str, layer: str, bias: str, name: str) -> str:
        return node("Gemm", value, f"{layer}.weight", bias, name=name, transB=1)

    steps = architecture.euler_steps
    centred = node("Div", node("Sub", OBSERVATION, "mean", name="centred"), "std", name="normalised")
    context = linear(centred, "observation_layer", "observation_layer.bias", "context")
    point = node("Reshape", NOISE, constant("flat_shape", [1, architecture.chunk_size]), name="point_0")
    step_size = constant("step_size", 1.0 / steps)
    for step in range(steps):
        timed = node("Concat", point, constant(f"time_{step}", [[step / steps]]), name=f"timed_{step}", axis=1)
        features = silu(linear(timed, "chunk_layer", context, f"features_{step}_0"))
        for index in range(len(architecture.hidden_sizes) - 1):
            layer = f"hidden_layers.{index}"
            features = silu(linear(features, layer, f"{layer}.bias", f"features_{step}_{index + 1}"))
        velocity = linear(features, "velocity_layer", "velocity_layer.bias", f"velocity_{step}")
        moved = node("Mul", velocity, step_size, name=f"move_{step}")
        point = node("Add", point, moved, name=f"point_{step + 1}")
    bounded = node("Clip", point, constant("lowest", -1.0), constant("highest", 1.0), name="bounded")
    output = graph_output(architecture)
    node("Reshape", bounded, constant("chunk_shape", list(output.shape)), name=CHUNK)
    graph = helper.make_graph(
        nodes,
        "flow_policy",
        [
            helper.make_tensor_value_info(item.name, TensorProto.FLOAT, item.shape)
            for item in graph_inputs(architecture)
        ],
        [helper.make_tensor_value_info(output.name, TensorProto.FLOAT, output.shape)],
        list(constants.values()),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    serialized: bytes = model.SerializeToString(deterministic=True)
    return serialized
