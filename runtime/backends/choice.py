"""Which backend a run computes with: the one its settings name, or a refusal; another one only where the settings allow it."""

from __future__ import annotations

from dataclasses import dataclass

from poco.errors import ArtifactError
from poco.runtime.backends.backend import Backend
from poco.runtime.backends.onnx_runtime import OnnxRuntimeCpu, OnnxRuntimeCuda
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


def _open(settings: InferenceSettings) -> Backend:
    match settings.backend:
        case "onnxruntime-cpu":
            return OnnxRuntimeCpu(settings.threads)
        case "onnxruntime-cuda":
            return OnnxRuntimeCuda()
