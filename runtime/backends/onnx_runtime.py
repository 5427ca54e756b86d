"""ONNX Runtime as a backend: on the CPU in the memory of numpy arrays, on a CUDA device with its inputs and outputs left there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from poco.artifact import Graph
from poco.errors import ArtifactError
from poco.runtime.backends.backend import Array, Memory

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
CUDA_REMEDY = "install onnxruntime-gpu and the driver, or choose --inference.backend onnxruntime-cpu"
TENSOR_TYPES = {
    "float32": "tensor(float)",
    "float16": "tensor(float16)",
    "int64": "tensor(int64)",
    "bool": "tensor(bool)",
    "uint8": "tensor(uint8)",
}
OPTIMISED, CONSTANTS = "optimised.onnx", "constants.data"
NO_FOLDER = "/dev/null/none"
"""Where ONNX Runtime looks for external data, so that a graph can name no file; by default it takes the working directory."""


class HostMemory:
    """An array that ONNX Runtime reads and writes in place."""

    def __init__(self, array: Array) -> None:
        self.array = array
        self.value = onnxruntime.OrtValue.ortvalue_from_numpy(array)

    def write(self, values: Array) -> None:
        """Copy `values` in; raises ValueError for another number of elements."""
        self.array[...] = values.reshape(self.array.shape)

    def read(self) -> Array:
        """Return a copy."""
        return self.array.copy()


class DeviceMemory:
    """An array on a CUDA device, kept by ONNX Runtime."""

    def __init__(self, array: Array) -> None:
        self._shape, self._dtype = array.shape, array.dtype
        self.value = onnxruntime.OrtValue.ortvalue_from_numpy(array, "cuda", 0)

    def write(self, values: Array) -> None:
        """Copy `values` to the device; raises ValueError for another number of elements."""
        self.value.update_inplace(np.ascontiguousarray(values.reshape(self._shape), dtype=self._dtype))

    def read(self) -> Array:
        """Return a copy on the host."""
        copied: Array = self.value.numpy()
        return copied


class _Binding:
    def __init__(self, file: str, session: onnxruntime.InferenceSession, memories: Mapping[str, Any]) -> None:
        self._file, self._session, self._memories = file, session, dict(memories)
        self._io = session.io_binding()
        for item in session.get_inputs():
            self._io.bind_ortvalue_input(item.name, memories[item.name].value)
        for item in session.get_outputs():
            if item.name in memories:
                self._io.bind_ortvalue_output(item.name, memories[item.name].value)

    def run(self) -> None:
        try:
            self._session.run_with_iobinding(self._io)
        except Exception as error:
            raise ArtifactError(f"ONNX Runtime cannot run {self._file} ({_reason(error)})") from error


class _Opened:
    def __init__(self, file: str, session: onnxruntime.InferenceSession) -> None:
        self._file, self._session = file, session

    def bind(self, memories: Mapping[str, Memory]) -> _Binding:
        return _Binding(self._file, self._session, memories)


class OnnxRuntimeCpu:
    """The CPU: threads without spinning, so that the servo beside it keeps its time."""

    def __init__(self, threads: int = 1, constants: Path | None = None) -> None:
        """Compute with so many `threads`; graphs may keep constants in files of the folder `constants` (None: in none)."""
        self._threads, self._constants = threads, constants

    @property
    def facts(self) -> dict[str, str]:
        """Version and threads."""
        return {
            "backend": "onnxruntime-cpu",
            "version": onnxruntime.__version__,
            "device": f"{self._threads} thread{'s' if self._threads > 1 else ''}",
        }

    def memory(self, shape: tuple[int, ...], dtype: str) -> HostMemory:
        """Return new memory of zeros."""
        return HostMemory(np.zeros(shape, dtype))

    def constant(self, tensor: Array) -> HostMemory:
        """Return `tensor` itself as memory."""
        return HostMemory(tensor)

    def open(self, where: str, graph: Graph, payload: bytes) -> _Opened:
        """Open `graph`; raises ArtifactError if it is not what the manifest says."""
        return _Opened(graph.file, _open(where, graph, payload, self._threads, [CPU], self._constants))

    def compile(self, payload: bytes, folder: Path) -> bytes:
        """Return the graph in `payload` as optimised for this computer, its larger constants in a file of `folder`.

        A backend with `constants` at that folder opens it. Raises ArtifactError.
        """
        options = _options(self._threads)
        options.optimized_model_filepath = str(folder / OPTIMISED)
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", CONSTANTS)
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
        try:
            onnxruntime.InferenceSession(payload, options, providers=[CPU])
        except Exception as error:
            raise ArtifactError(
                f"ONNX Runtime cannot compile weights in ({_reason(error)}): keep them inputs"
            ) from error
        optimised = folder / OPTIMISED
        compiled = optimised.read_bytes()
        optimised.unlink()
        return compiled


class OnnxRuntimeCuda:
    """A CUDA device under ONNX Runtime; every node must run there."""

    def __init__(self) -> None:
        """Raise ArtifactError if this installation of ONNX Runtime has no CUDA, or there is no device."""
        require_cuda()
        try:
            DeviceMemory(np.zeros(1, np.float32))
        except Exception as error:
            raise ArtifactError(
                f"onnxruntime {onnxruntime.__version__} finds no CUDA device ({_reason(error)}): {CUDA_REMEDY}"
            ) from error

    @property
    def facts(self) -> dict[str, str]:
        """Version and device."""
        return {"backend": "onnxruntime-cuda", "version": onnxruntime.__version__, "device": "cuda:0"}

    def memory(self, shape: tuple[int, ...], dtype: str) -> DeviceMemory:
        """Return new memory of zeros on the device; raises ArtifactError where there is no room."""
        return self.constant(np.zeros(shape, dtype))

    def constant(self, tensor: Array) -> DeviceMemory:
        """Return a copy of `tensor` on the device; raises ArtifactError where there is no room."""
        try:
            return DeviceMemory(tensor)
        except Exception as error:
            raise ArtifactError(
                f"{tensor.nbytes} bytes do not fit on the CUDA device ({_reason(error)}): end what else computes there, or choose "
                "--inference.backend onnxruntime-cpu"
            ) from error

    def open(self, where: str, graph: Graph, payload: bytes) -> _Opened:
        """Open `graph`; raises ArtifactError if it is not what the manifest says or a node of it would run elsewhere."""
        session = _open(where, graph, payload, 1, [(CUDA, cuda_options(graph))])
        if session.get_providers()[0] != CUDA:
            raise ArtifactError(
                f"artifact {where}: {graph.file} does not run on the CUDA device under onnxruntime {onnxruntime.__version__}: "
                "install the CUDA libraries it asks for, or choose --inference.backend onnxruntime-cpu"
            )
        return _Opened(graph.file, session)


def require_cuda() -> None:
    """Raise ArtifactError if this installation of ONNX Runtime has no CUDA; touches no device."""
    if CUDA not in onnxruntime.get_available_providers():
        raise ArtifactError(f"onnxruntime {onnxruntime.__version__} was built without CUDA: {CUDA_REMEDY}")


def cuda_options(graph: Graph) -> dict[str, str]:
    """Return how `graph` runs on a CUDA device: as a CUDA graph where no tensor is bound to it (bound ones move), without TF32.

    TF32 keeps 10 bits of a factor's mantissa, so that golden vectors from a CPU would not be reproduced (`poco.engines.build`).
    """
    fixed = all(item.tensor is None for item in graph.inputs)
    return {"device_id": "0", "enable_cuda_graph": "1" if fixed else "0", "use_tf32": "0"}


def _options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 4
    return options


def _open(
    where: str, graph: Graph, payload: bytes, threads: int, providers: list[Any], constants: Path | None = None
) -> onnxruntime.InferenceSession:
    options = _options(threads)
    folder = NO_FOLDER if constants is None else str(constants)
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
    if providers != [CPU]:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        session = onnxruntime.InferenceSession(payload, options, providers=providers)
    except Exception as error:
        raise ArtifactError(f"ONNX Runtime cannot open {graph.file} of artifact {where} ({_reason(error)})") from error
    for kind, actual, declared in (
        ("inputs", session.get_inputs(), graph.inputs),
        ("outputs", session.get_outputs(), graph.outputs),
    ):
        found = {item.name: item for item in actual}
        names = {item.name for item in declared}
        if not names <= set(found) or (kind == "inputs" and names != set(found)):
            raise ArtifactError(f"artifact {where}: {graph.file} has the {kind} {sorted(found)}, not the manifest's")
        for item in declared:
            shape = found[item.name].shape
            same = len(shape) == len(item.shape) and all(
                not isinstance(axis, int) or axis == size for axis, size in zip(shape, item.shape, strict=True)
            )
            if not same or found[item.name].type != TENSOR_TYPES.get(item.dtype):
                raise ArtifactError(
                    f"artifact {where}: {item.name} of {graph.file} is {found[item.name].type}{shape}, the manifest "
                    f"says {item.dtype}{list(item.shape)}: export it again"
                )
    return session


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
