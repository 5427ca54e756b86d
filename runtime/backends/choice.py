"""Which backend a run computes with: the one its settings name, or a refusal; another one only where the settings allow it.

Whether a backend does is known once it has opened the policy, reproduced its golden vectors and warmed up, all before motion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from poco.artifact import Artifact
from poco.engines.build_all import build_engines
from poco.engines.device import cuda_runtime, device_of
from poco.errors import ArtifactError
from poco.runtime.backends.backend import Backend
from poco.runtime.backends.onnx_runtime import OnnxRuntimeCpu, OnnxRuntimeCuda, require_cuda
from poco.runtime.backends.tensor_rt import TensorRt
from poco.settings import InferenceSettings

Policy = TypeVar("Policy")


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


def open_under(settings: InferenceSettings, opened: Callable[[Backend], Policy]) -> tuple[Policy, Chosen]:
    """Return what `opened` makes under the backend that `settings` name, or, where they let it take the place, under the CPU.

    `opened` is to run whatever it opens, and is called again if that fails. Raises ArtifactError with the remedy where the backend
    is not there or cannot run the policy and nothing else may, or where the CPU cannot either.
    """
    try:
        backend = _open(settings)
        return opened(backend), Chosen(backend)
    except ArtifactError as error:
        if settings.backend == "onnxruntime-cpu":
            raise
        if not settings.fall_back:
            raise ArtifactError(f"{error} (or --inference.fall_back true to let the CPU take its place)") from error
        failure = str(error)
    cpu = OnnxRuntimeCpu(settings.threads)
    return opened(cpu), Chosen(cpu, f"in place of {settings.backend}: {failure}")


def build_missing(artifact: Artifact, settings: InferenceSettings, told: Callable[[str], None]) -> None:
    """Build the engines that a run of `artifact` needs and does not find, if `settings` have it so; before any process starts.

    Where one cannot be built `told` hears why if the CPU may take the place of the backend, else ArtifactError is raised; it is
    too where ONNX Runtime was built without the backend and nothing else may take its place.
    """
    if settings.backend == "onnxruntime-cuda" and not settings.fall_back:
        require_cuda()
    if settings.backend not in ("tensorrt", "tensorrt-rtx") or not settings.build_engines:
        return
    try:
        device_of(cuda_runtime())
        build_engines(artifact, settings.backend, settings.engines, told)
    except ArtifactError as error:
        if not settings.fall_back:
            raise
        told(f"no engine for {settings.backend}, the CPU takes its place: {error}")


def open_compiled_under(settings: InferenceSettings, constants: Path) -> OnnxRuntimeCpu:
    """Return a backend of its own for a graph whose weights are constants in the folder `constants`; raises ArtifactError."""
    if settings.backend != "onnxruntime-cpu":
        raise ArtifactError(f"weights cannot be compiled in under {settings.backend} yet: they stay inputs")
    return OnnxRuntimeCpu(settings.threads, constants)


def _open(settings: InferenceSettings) -> Backend:
    match settings.backend:
        case "onnxruntime-cpu":
            return OnnxRuntimeCpu(settings.threads)
        case "onnxruntime-cuda":
            return OnnxRuntimeCuda()
        case "tensorrt" | "tensorrt-rtx" as library:
            return TensorRt(library, settings.engines)
