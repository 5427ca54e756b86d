"""torch modules to ONNX models by the dynamo exporter, shapes fixed, inputs and outputs named after their sources."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Mapping

import onnx
import torch

from poco.errors import ArtifactError

OPSET = 18


def export_module(
    module: torch.nn.Module, inputs: Mapping[str, torch.Tensor], outputs: tuple[str, ...], *, optimise: bool
) -> onnx.ModelProto:
    """Return `module`, called with `inputs` in their order, as an ONNX model with these names; raises ArtifactError.

    Without `optimise` the weights keep the names of the state dict, so that they can become inputs.
    """
    quiet = io.StringIO()
    try:
        with torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stdout(quiet):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                tuple(inputs.values()),
                input_names=list(inputs),
                output_names=list(outputs),
                opset_version=OPSET,
                dynamo=True,
                optimize=optimise,
                verbose=False,
            )
            assert program is not None
            return program.model_proto
    except Exception as error:  # the exporter raises what any operator raises
        reason = " ".join(str(error).split())[:300]
        raise ArtifactError(
            f"torch cannot export {type(module).__name__} of this policy ({reason}): report it"
        ) from error
