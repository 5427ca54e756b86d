"""Half precision: arithmetic and weights of a graph in float16, what goes in and out beside the weights in float32."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence

import onnx

from poco.artifact import GraphInput


def halved(model: onnx.ModelProto, weights: Sequence[GraphInput]) -> onnx.ModelProto:
    """Return `model` in float16; the inputs `weights` become float16, every other input and output keeps its type."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    promoted = {item.name for item in weights}
    kept = [item.name for item in (*model.graph.input, *model.graph.output) if item.name not in promoted]
    with contextlib.redirect_stdout(io.StringIO()):
        result: onnx.ModelProto = convert_float_to_float16(model, keep_io_types=kept, disable_shape_infer=False)
    return result
