"""A stand-in for a GPU on computers without one: CUDA's memory and stream in host memory, engines run by ONNX Runtime.

It shows that the backend asks for the right things in the right order, that what one graph leaves the next one reads, and how often
anything is copied. What a real driver and TensorRT make of it can only be seen on a GPU.
"""

from __future__ import annotations

import ctypes
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime

KINDS = {
    "tensor(float)": np.float32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
    "tensor(uint8)": np.uint8,
    "tensor(float16)": np.float16,
}


class Code(IntEnum):
    """What every call of CUDA's runtime answers with."""

    good = 0
    refused = 900


class Cuda:
    """CUDA's runtime as far as the backend uses it; `copied` counts bytes each way, `launched` runs of recordings.

    Engines are taken `runs` times more, None for ever.
    """

    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)

    def __init__(self) -> None:
        self.records = True
        self.copied = {1: 0, 2: 0}
        self.launched = 0
        self.runs: int | None = None
        self.recording: list[Any] | None = None
        self._held: dict[int, Any] = {}

    @property
    def held(self) -> int:
        """How many pieces of memory were asked for and not given back."""
        return len(self._held)

    def cudaGetDeviceCount(self) -> tuple[Any, ...]:
        return Code.good, 1

    def cudaGetDeviceProperties(self, number: int) -> tuple[Any, ...]:
        return Code.good, SimpleNamespace(name=b"Stand-in", major=8, minor=9)

    def cudaDriverGetVersion(self) -> tuple[Any, ...]:
        return Code.good, 13050

    def cudaStreamCreate(self) -> tuple[Any, ...]:
        return Code.good, 1

    def cudaStreamSynchronize(self, stream: int) -> tuple[Any, ...]:
        return (Code.good,)

    def cudaMalloc(self, count: int) -> tuple[Any, ...]:
        piece = ctypes.create_string_buffer(count + 64)
        address = -(-ctypes.addressof(piece) // 64) * 64
        self._held[address] = piece
        return Code.good, address

    def cudaFree(self, address: int) -> tuple[Any, ...]:
        del self._held[address]
        return (Code.good,)

    def cudaMemcpyAsync(self, to: int, source: int, count: int, kind: int, stream: int) -> tuple[Any, ...]:
        assert (to if kind == 1 else source) in self._held
        ctypes.memmove(to, source, count)
        self.copied[kind] += count
        return (Code.good,)

    def cudaStreamBeginCapture(self, stream: int, mode: int) -> tuple[Any, ...]:
        self.recording = []
        return (Code.good,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[Any, ...]:
        recorded, self.recording = self.recording, None
        return (Code.good if self.records else Code.refused), recorded

    def cudaGraphInstantiate(self, graph: Any, flags: int) -> tuple[Any, ...]:
        return Code.good, list(graph)

    def cudaGraphDestroy(self, graph: Any) -> tuple[Any, ...]:
        return (Code.good,)

    def cudaGraphExecDestroy(self, recorded: Any) -> tuple[Any, ...]:
        return (Code.good,)

    def cudaGraphLaunch(self, recorded: Any, stream: int) -> tuple[Any, ...]:
        self.launched += 1
        for run in recorded:
            run()
        return (Code.good if self.takes() else Code.refused,)

    def takes(self) -> bool:
        """Whether one more run is taken."""
        if self.runs is not None:
            self.runs -= 1
        return self.runs is None or self.runs >= 0


class Context:
    """An engine's execution context: addresses by name, and a run that reads and writes there."""

    def __init__(self, cuda: Cuda, session: onnxruntime.InferenceSession) -> None:
        self._cuda, self._session = cuda, session
        self._addresses: dict[str, int] = {}

    def set_tensor_address(self, name: str, address: int) -> None:
        self._addresses[name] = address

    def execute_async_v3(self, stream: int) -> bool:
        addresses = dict(self._addresses)
        if self._cuda.recording is not None:
            self._cuda.recording.append(lambda: self._run(addresses))
        else:
            self._run(addresses)
        return self._cuda.recording is not None or self._cuda.takes()

    def _run(self, addresses: dict[str, int]) -> None:
        inputs = {item.name: _at(addresses[item.name], item) for item in self._session.get_inputs()}
        outputs = self._session.get_outputs()
        for item, value in zip(outputs, self._session.run([item.name for item in outputs], inputs), strict=True):
            _at(addresses[item.name], item)[...] = value


class Engine:
    """An engine that is an ONNX graph."""

    def __init__(self, cuda: Cuda, plan: bytes) -> None:
        self._cuda, self._session = cuda, onnxruntime.InferenceSession(plan, providers=["CPUExecutionProvider"])
        self._ends = {item.name: item for item in (*self._session.get_inputs(), *self._session.get_outputs())}
        self.num_io_tensors = len(self._ends)

    def get_tensor_name(self, index: int) -> str:
        return str(list(self._ends)[index])

    def get_tensor_shape(self, name: str) -> list[int]:
        return list(self._ends[name].shape)

    def get_tensor_dtype(self, name: str) -> Any:
        return KINDS[self._ends[name].type]

    def create_execution_context(self) -> Context:
        return Context(self._cuda, self._session)


def library(cuda: Cuda) -> Any:
    """A module in place of TensorRT whose engines are ONNX graphs."""
    runtime = SimpleNamespace(
        deserialize_cuda_engine=lambda plan: None if plan == b"of another GPU" else Engine(cuda, plan)
    )
    logger = type("Logger", (), {"ERROR": 1, "__init__": lambda self, level: None})
    return SimpleNamespace(__version__="0", Logger=logger, Runtime=lambda _: runtime, nptype=lambda kind: kind)


def _at(address: int, item: Any) -> Any:
    dtype = np.dtype(KINDS[item.type])
    count = int(np.prod(item.shape, dtype=np.int64))
    held = (ctypes.c_char * (count * dtype.itemsize)).from_address(address)
    return np.frombuffer(memoryview(held), dtype).reshape(item.shape)
