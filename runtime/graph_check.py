"""The first look at a graph that this robot has never run: a child process with little memory, little time and no keys.

Started by the gate as `python -m poco.runtime.graph_check FOLDER`. Leaves with code 0, or prints reason and sentence as JSON.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import onnx

from poco.artifact import read_artifact
from poco.errors import ArtifactError
from poco.refusal import Reason, Refused
from poco.runtime.allowance import allowed_bytes, allowed_s, bytes_of

MEMORY_BYTES = 8 << 30
CPU_S = 50.0
"""Memory and processor time for a policy without weights; more by its size (`allowance`)."""

FILES_OPEN = 64
NODES_MAX = 200_000
OPSET_MAX = 24
_NAMES = """
Abs Add And ArgMax ArgMin AveragePool BatchNormalization Cast Ceil Clip Concat Constant ConstantOfShape Conv
ConvTranspose Cos CumSum Div Dropout Einsum Elu Equal Erf Exp Expand Flatten Floor Gather GatherElements GatherND Gelu
Gemm GlobalAveragePool Greater GreaterOrEqual GroupNormalization HardSigmoid HardSwish Identity InstanceNormalization IsNaN
LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax MatMul Max MaxPool Mean Min Mish Mod Mul Neg Not OneHot
Or PRelu Pad Pow RMSNormalization Range Reciprocal ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Relu
Reshape Resize Round ScatterElements ScatterND Shape Sigmoid Sign Sin Size Slice Softmax Softplus Softsign Split Sqrt
Squeeze Sub Sum Swish Tan Tanh Tile TopK Transpose Trilu Unsqueeze Where Xor
"""
OPERATORS = frozenset(_NAMES.split())
"""Tensor arithmetic only: no control flow, no sequences, no strings, no files, no random numbers of the graph's own."""


def check_operators(graph: bytes) -> None:
    """Raise Refused for a graph with anything but the operators above, or with data outside itself."""
    try:
        model = onnx.load_model_from_string(graph)
    except Exception as error:  # the parser's classes share no base with ours
        raise Refused(Reason.GRAPH, f"the graph is not ONNX ({' '.join(str(error).split())[:200]})") from error
    for entry in model.opset_import:
        if entry.domain not in ("", "ai.onnx") or entry.version > OPSET_MAX:
            raise Refused(
                Reason.OPERATOR,
                f"the graph uses the operators of {entry.domain!r} v{entry.version}, up to ai.onnx v{OPSET_MAX} are allowed",
            )
    if model.functions or model.graph.sparse_initializer:
        raise Refused(Reason.OPERATOR, "the graph has functions or sparse data of its own: export it without")
    if len(model.graph.node) > NODES_MAX:
        raise Refused(Reason.TOO_LARGE, f"the graph has {len(model.graph.node)} nodes, the limit is {NODES_MAX}")
    for node in model.graph.node:
        if node.op_type not in OPERATORS or node.domain not in ("", "ai.onnx"):
            raise Refused(
                Reason.OPERATOR, f"the graph uses the operator {node.op_type}, which is not on the list of allowed ones"
            )
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            raise Refused(Reason.OPERATOR, f"the operator {node.op_type} holds a graph of its own: export it unrolled")
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise Refused(Reason.OPERATOR, f"the tensor {tensor.name} lies in another file: export one file")


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from model.graph.initializer
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def limits_for(policy_bytes: int) -> dict[int, int]:
    """Return the limits of this process, by resource, that leave what opening a policy of `policy_bytes` needs and no more."""
    return {
        resource.RLIMIT_AS: allowed_bytes(MEMORY_BYTES, policy_bytes),
        resource.RLIMIT_CPU: round(allowed_s(CPU_S, policy_bytes)),
        resource.RLIMIT_NOFILE: FILES_OPEN,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
    }


def main() -> None:
    """Examine the artifact in the folder that is the only argument."""
    folder = Path(sys.argv[1])
    for what, limit in limits_for(bytes_of([folder])).items():
        resource.setrlimit(what, (limit, limit))
    from poco.runtime.encoder import encoder_of
    from poco.runtime.opening import open_session

    try:
        artifact = read_artifact(folder)
        for graph in artifact.graphs.values():
            check_operators(graph)
        encoder_of(artifact)
        open_session(artifact).warm_up()
    except ArtifactError as error:
        reason = error.reason if isinstance(error, Refused) else Reason.GRAPH
        print(json.dumps({"reason": reason, "sentence": str(error)}), flush=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
