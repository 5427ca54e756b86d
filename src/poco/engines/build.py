"""From an ONNX graph to a TensorRT engine: `tensorrt`, or `tensorrt_rtx`, which builds without a GPU too; imported at use."""

from __future__ import annotations

from typing import Any, Literal

from poco.errors import ArtifactError

Library = Literal["tensorrt", "tensorrt-rtx"]

ARITHMETIC = "float32 without TF32"
"""What every engine computes in where its graph states float32; part of what a kept engine is found by."""


def load_library(library: Library) -> Any:
    """Return the module of `library`; raises ArtifactError naming what to install."""
    try:
        if library == "tensorrt":
            import tensorrt

            return tensorrt
        try:
            import tensorrt_rtx

            return tensorrt_rtx
        except ImportError:
            import tensorrt_rtx_bindings

            return tensorrt_rtx_bindings
    except (ImportError, OSError) as error:
        package = "tensorrt" if library == "tensorrt" else "tensorrt-rtx"
        raise ArtifactError(
            f"{library} cannot be imported ({error}): pip install {package}, or choose another --inference.backend"
        ) from error


class _Complaints:
    """What the library has to say against a graph, kept for one sentence."""

    def __init__(self, trt: Any) -> None:
        said: list[str] = []

        class Logger(trt.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                    said.append(message)

        self.said, self.logger = said, Logger()

    def sentence(self) -> str:
        return " ".join(self.said[0].split())[:300] if self.said else "without saying why"


def configured(trt: Any, builder: Any) -> Any:
    """Return the configuration of a build in ARITHMETIC.

    TF32, which the library uses unless told otherwise, keeps 10 bits of a factor's mantissa: an error of 1e-3, where golden vectors
    from a CPU are to be reproduced within 1e-4. Who wants it faster exports in half precision, which states its tolerance.
    """
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    return config


def build_engine(library: Library, graph: bytes, where: str, timing: bytes = b"") -> tuple[bytes, bytes]:
    """Return the engine of `graph`, in the precision that the graph states, and the timing cache grown by it.

    Inputs of the graph stay inputs, weights among them. Takes seconds to minutes. Raises ArtifactError naming `where` with what the
    library says. Policy process before motion and exporter.
    """
    trt = load_library(library)
    complaints = _Complaints(trt)
    builder = trt.Builder(complaints.logger)
    if builder is None:
        raise ArtifactError(f"{library} {trt.__version__} cannot build here: {complaints.sentence()}")
    typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = trt.OnnxParser(network, complaints.logger)
    if not parser.parse(graph):
        errors = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors)) or complaints.sentence()
        raise ArtifactError(
            f"{library} {trt.__version__} cannot read {where} ({' '.join(errors.split())[:300]}): use another backend"
        )
    config = configured(trt, builder)
    cache = config.create_timing_cache(timing) if library == "tensorrt" else None
    if cache is not None:
        config.set_timing_cache(cache, False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ArtifactError(
            f"{library} {trt.__version__} cannot build {where} ({complaints.sentence()}): use another backend"
        )
    return bytes(plan), b"" if cache is None else bytes(cache.serialize())
