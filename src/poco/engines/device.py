"""The GPU of this computer as far as engines depend on it, through cuda-python."""

from __future__ import annotations

from typing import Any

import msgspec

from poco.errors import ArtifactError

REMEDY = "install cuda-python and the driver, or choose --inference.backend onnxruntime-cpu"


class Device(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an engine is built for: the GPU's name, its compute capability and the driver; all "none" without a GPU."""

    name: str = "none"
    capability: str = "none"
    driver: str = "none"


def cuda_runtime() -> Any:
    """Return the module of CUDA's runtime interface; raises ArtifactError where cuda-python is not installed."""
    try:
        from cuda.bindings import runtime
    except ImportError:
        raise ArtifactError(f"cuda-python is not installed: {REMEDY}") from None
    return runtime


def checked(answer: tuple[Any, ...], what: str) -> Any:
    """Return the value in an `answer` of CUDA's runtime; raises ArtifactError if it is an error. Not during motion."""
    error, *values = answer
    if int(error) != 0:
        raise ArtifactError(f"{what} failed with {getattr(error, 'name', error)}: {REMEDY}")
    return values[0] if values else None


def device_of(cuda: Any) -> Device:
    """Return the first GPU; raises ArtifactError if there is none."""
    checked(cuda.cudaGetDeviceCount(), "looking for a GPU")
    facts = checked(cuda.cudaGetDeviceProperties(0), "asking the GPU for its name")
    version = checked(cuda.cudaDriverGetVersion(), "asking for the driver")
    name = facts.name.decode() if isinstance(facts.name, bytes) else str(facts.name)
    return Device(
        name=name, capability=f"{facts.major}.{facts.minor}", driver=f"{version // 1000}.{version % 1000 // 10}"
    )
