"""A graph as it goes into an artifact: folded, without functions, names of the tracer and what nobody reads."""

from __future__ import annotations

import onnx
import onnx.inliner

from poco.errors import ArtifactError

IR_VERSION = 10
FILE_BYTES_MAX = 2_000_000_000
"""An ONNX file of more cannot hold its weights itself."""


def optimised(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return `model` with its functions inlined and constants folded; inputs and outputs stay."""
    import onnxscript.optimizer

    result: onnx.ModelProto = onnxscript.optimizer.optimize(onnx.inliner.inline_local_functions(model))
    return result


def tidied(model: onnx.ModelProto) -> bytes:
    """Return `model` as bytes without metadata, comments and intermediate shapes; equal models give equal bytes.

    Raises ArtifactError for one that does not go into a file.
    """
    model.ir_version = IR_VERSION
    del model.metadata_props[:], model.functions[:]
    model.doc_string = model.producer_name = model.producer_version = ""
    graph = model.graph
    graph.doc_string = ""
    del graph.value_info[:], graph.metadata_props[:]
    for item in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        item.doc_string = ""
        del item.metadata_props[:]
    used = {domain for node in graph.node for domain in (node.domain,)}
    opsets = [entry for entry in model.opset_import if entry.domain in used | {""}]
    opsets = [onnx.helper.make_opsetid(entry.domain, entry.version) for entry in opsets]
    del model.opset_import[:]
    model.opset_import.extend(opsets)
    if (size := model.ByteSize()) > FILE_BYTES_MAX:
        raise ArtifactError(
            f"the graph {graph.name} has {size / 1e9:.1f} GB, a file holds {FILE_BYTES_MAX / 1e9:.1f}: try --precision fp16"
        )
    payload: bytes = model.SerializeToString(deterministic=True)
    return payload
