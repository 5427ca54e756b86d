"""TensorRT as a backend: engines on a CUDA device, inputs and outputs at addresses there, runs recorded as CUDA graphs.

Memories, copies and recordings go through cuda-python on one stream. A binding is recorded at its second run: in the first one the
library finishes what it does only once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from poco.artifact import Graph, GraphInput, GraphOutput
from poco.engines.build import Library, load_library
from poco.engines.cache import EngineCache, target_of
from poco.engines.device import checked, cuda_runtime, device_of
from poco.errors import ArtifactError
from poco.runtime.backends.backend import Array, Memory


class CudaMemory:
    """An array on the device."""

    def __init__(self, cuda: Any, stream: Any, array: Array) -> None:
        self._cuda, self._stream = cuda, stream
        self.shape, self.dtype, self._bytes = array.shape, array.dtype, array.nbytes
        self.address = int(checked(cuda.cudaMalloc(max(1, array.nbytes)), f"asking the GPU for {array.nbytes} bytes"))
        self.write(array)

    def write(self, values: Array) -> None:
        """Copy `values` to the device; raises ValueError for another number of elements."""
        self._staged = np.ascontiguousarray(values.reshape(self.shape), dtype=self.dtype)
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._copy(self.address, self._staged.ctypes.data, kind)

    def read(self) -> Array:
        """Return a copy on the host, once the stream has come to it."""
        values: Array = np.empty(self.shape, self.dtype)
        self._copy(values.ctypes.data, self.address, self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost)
        checked(self._cuda.cudaStreamSynchronize(self._stream), "waiting for the GPU")
        return values

    def _copy(self, to: int, source: int, kind: Any) -> None:
        checked(self._cuda.cudaMemcpyAsync(to, source, self._bytes, kind, self._stream), "copying to or from the GPU")

    def __del__(self) -> None:
        if hasattr(self, "address"):
            self._cuda.cudaStreamSynchronize(self._stream)
            self._cuda.cudaFree(self.address)


class _Binding:
    """An engine's context with everything at its addresses; recorded once, then launched."""

    def __init__(self, cuda: Any, stream: Any, context: Any, memories: Mapping[str, CudaMemory]) -> None:
        self._cuda, self._stream, self._context, self._memories = cuda, stream, context, dict(memories)
        self._runs, self._recorded = 0, None

    def run(self) -> None:
        self._runs += 1
        if self._recorded is not None:
            checked(self._cuda.cudaGraphLaunch(self._recorded, self._stream), "launching the recorded engine")
            return
        for name, memory in self._memories.items():
            self._context.set_tensor_address(name, memory.address)
        if self._runs == 2:
            self._recorded = self._record()
        if self._recorded is None:
            self._enqueue()
        else:
            checked(self._cuda.cudaGraphLaunch(self._recorded, self._stream), "launching the recorded engine")

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(int(self._stream)):
            raise ArtifactError("TensorRT did not take the engine's inputs: report this with the artifact")

    def _record(self) -> Any:
        """Return the run as a CUDA graph; None where the library does something that cannot be recorded."""
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        checked(self._cuda.cudaStreamBeginCapture(self._stream, mode), "beginning to record")
        taken = self._context.execute_async_v3(int(self._stream))
        error, graph = self._cuda.cudaStreamEndCapture(self._stream)
        if not taken or int(error) != 0:
            return None
        recorded = checked(self._cuda.cudaGraphInstantiate(graph, 0), "making the recorded run ready")
        self._cuda.cudaGraphDestroy(graph)
        return recorded

    def __del__(self) -> None:
        if self._recorded is not None:
            self._cuda.cudaGraphExecDestroy(self._recorded)


class _Opened:
    def __init__(self, cuda: Any, stream: Any, engine: Any) -> None:
        self._cuda, self._stream, self._engine = cuda, stream, engine
        self._context = engine.create_execution_context()

    def bind(self, memories: Mapping[str, Memory]) -> _Binding:
        ours = {name: memory for name, memory in memories.items() if isinstance(memory, CudaMemory)}
        return _Binding(self._cuda, self._stream, self._context, ours)


class TensorRt:
    """A CUDA device under TensorRT or TensorRT-RTX; engines come from the cache, where they were built before the run."""

    def __init__(self, library: Library, engines: str = "") -> None:
        """Find library and device; raises ArtifactError naming what is missing and what to do."""
        self._trt, self._cuda = load_library(library), cuda_runtime()
        self._target = target_of(library, device_of(self._cuda))
        self._cache = EngineCache(engines)
        self._stream = checked(self._cuda.cudaStreamCreate(), "making a stream on the GPU")
        self._logger = self._trt.Logger(self._trt.Logger.ERROR)
        self._runtime = self._trt.Runtime(self._logger)

    @property
    def facts(self) -> dict[str, str]:
        """Library, version, device and driver."""
        device = self._target.device
        return {
            "backend": self._target.library,
            "version": self._target.version,
            "device": f"{device.name} with driver {device.driver}",
        }

    def memory(self, shape: tuple[int, ...], dtype: str) -> CudaMemory:
        """Return new memory of zeros on the device."""
        return CudaMemory(self._cuda, self._stream, np.zeros(shape, dtype))

    def constant(self, tensor: Array) -> CudaMemory:
        """Return a copy of `tensor` on the device."""
        return CudaMemory(self._cuda, self._stream, tensor)

    def open(self, where: str, graph: Graph, payload: bytes) -> _Opened:
        """Load the engine of `graph`; raises ArtifactError if there is none for this GPU, or it is not what is declared."""
        plan, _ = self._cache.engine(graph.file, payload, self._target)
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise ArtifactError(
                f"the engine of {graph.file} of artifact {where} cannot be loaded by {self._target.library} "
                f"{self._target.version} on {self._target.device.name}: delete it in {self._cache.folder}, or choose another "
                "--inference.backend"
            )
        self._check(where, graph, engine)
        return _Opened(self._cuda, self._stream, engine)

    def _check(self, where: str, graph: Graph, engine: Any) -> None:
        names = {engine.get_tensor_name(index) for index in range(engine.num_io_tensors)}
        ends: list[GraphInput | GraphOutput] = [*graph.inputs, *graph.outputs]
        declared = {item.name: item for item in ends}
        if names != set(declared):
            odd = ", ".join(sorted(names ^ set(declared))[:5])
            raise ArtifactError(
                f"artifact {where}: the engine of {graph.file} does not take and give what is declared ({odd})"
            )
        for name, item in declared.items():
            shape, dtype = (
                tuple(engine.get_tensor_shape(name)),
                np.dtype(self._trt.nptype(engine.get_tensor_dtype(name))),
            )
            if shape != item.shape or dtype != np.dtype(item.dtype):
                raise ArtifactError(
                    f"artifact {where}: {name} of the engine of {graph.file} is {dtype}{list(shape)}, the manifest says "
                    f"{item.dtype}{list(item.shape)}: export it again"
                )
