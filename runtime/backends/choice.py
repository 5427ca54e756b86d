"""Which backend a run computes with: the one its settings name, or a refusal; another one only where the settings allow it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from poco.artifact import Artifact
from poco.engines.build_all import build_engines
from poco.engines.device import cuda_runtime, device_of
from poco.errors import ArtifactError
from poco.runtime.backends.backend import Backend
from poco.runtime.backends.onnx_runtime import OnnxRuntimeCpu, OnnxRuntimeCuda
from poco.runtime.backends.tensor_rt import TensorRt
from poco.settings import InferenceSettings


@dataclass(frozen=True, slots=True)
class Chosen:
    """The backend of a run; `remark` says why it is not the one that was asked for, "" if it is."""

    backend: Backend
    remark: str = ""

    @property
    def sentence(self) -> str:
        """What computes, in a few words."""
        facts = ", ".join(self.backend.facts.values())
        return f"{facts} ({self.remark})" if self.remark else facts


def choose_backend(settings: InferenceSettings) -> Chosen:
    """Return the backend that `settings` name; raises ArtifactError with the remedy if it is not there and nothing else may be."""
    try:
        return Chosen(_open(settings))
    except ArtifactError as error:
        if not settings.fall_back:
            raise ArtifactError(f"{error} (or --inference.fall_back true to let the CPU take its place)") from error
        return Chosen(OnnxRuntimeCpu(settings.threads), f"in place of {settings.backend}: {error}")


def build_missing(artifact: Artifact, settings: InferenceSettings, told: Callable[[str], None]) -> None:
    """Build the engines that a run of `artifact` needs and does not find, if `settings` have it so; before any process starts.

    Raises ArtifactError where one cannot be built and nothing may take the place of the backend.
    """
    if settings.backend not in ("tensorrt", "tensorrt-rtx") or not settings.build_engines:
        return
    try:
        device_of(cuda_runtime())
        build_engines(artifact, settings.backend, settings.engines, told)
    except ArtifactError:
        if not settings.fall_back:
            raise


def _open(settings: InferenceSettings) -> Backend:
    match settings.backend:
        case "onnxruntime-cpu":
            return OnnxRuntimeCpu(settings.threads)
        case "onnxruntime-cuda":
            return OnnxRuntimeCuda()
        case "tensorrt" | "tensorrt-rtx" as library:
            return TensorRt(library, settings.engines)
