"""Weights of a graph become its inputs, named by their keys in the state dict; a transposition of one moves into the input."""

from __future__ import annotations

from collections.abc import Collection

import onnx
from onnx import helper

from poco.artifact import GraphInput

TYPE_NAMES = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.FLOAT16: "float16",
    onnx.TensorProto.INT64: "int64",
    onnx.TensorProto.BOOL: "bool",
}


def promote(model: onnx.ModelProto, keys: Collection[str]) -> tuple[GraphInput, ...]:
    """Turn every initializer of `model` whose name is one of `keys` into an input, in place; return these inputs.

    A weight of two axes that is only ever read through a transposition is an input of the transposed shape.
    """
    graph = model.graph
    promoted: list[GraphInput] = []
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    kept, doomed = [], set()
    renamed: dict[str, str] = {}
    outputs = {item.name for item in graph.output}
    for tensor in graph.initializer:
        if tensor.name not in keys:
            kept.append(tensor)
            continue
        users = readers.get(tensor.name, [])
        if not users:
            continue
        shape = tuple(tensor.dims)
        turned = len(shape) == 2 and all(_turns(node) and node.output[0] not in outputs for node in users)
        if turned:
            shape = shape[::-1]
            for node in users:
                renamed[node.output[0]] = tensor.name
                doomed.add(node.output[0])
        graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, shape))
        promoted.append(
            GraphInput(
                name=tensor.name,
                source=f"tensor:{tensor.name}",
                shape=shape,
                dtype=TYPE_NAMES[tensor.data_type],
                transposed=turned,
            )
        )
    nodes = [node for node in graph.node if node.output[0] not in doomed]
    for node in nodes:
        for place, name in enumerate(node.input):
            node.input[place] = renamed.get(name, name)
    values = [item for item in graph.value_info if item.name not in doomed]
    for field, items in ((graph.initializer, kept), (graph.node, nodes), (graph.value_info, values)):
        copies = [_copy(item) for item in items]
        del field[:]
        field.extend(copies)
    return tuple(promoted)


def _turns(node: onnx.NodeProto) -> bool:
    if node.op_type != "Transpose":
        return False
    order = [list(attribute.ints) for attribute in node.attribute if attribute.name == "perm"]
    return order in ([], [[1, 0]])


def _copy(item: onnx.NodeProto | onnx.TensorProto | onnx.ValueInfoProto) -> onnx.NodeProto:
    copy = type(item)()
    copy.CopyFrom(item)
    return copy
