"""CPU time of the policy session against raw ONNX Runtime on the same graph, and of torch eager where it is asked for."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import onnxruntime

from poco.artifact import Artifact, read_artifact
from poco.errors import UsageError
from poco.noise import NoiseSource
from poco.runtime.benchmarks.outcome import Floats, Measurement, Outcome
from poco.runtime.benchmarks.program import Program
from poco.runtime.compiler import with_constants
from poco.runtime.session import Session
from poco.runtime.weights_choice import interleaved

Array = npt.NDArray[np.generic]


def run(policy: Path, repeats: int, pairs: int, torch_program: Path | None) -> Outcome:
    """Measure `repeats` times `pairs` inferences of each in turns (us of CPU time).

    Raises ArtifactError for a broken artifact, UsageError or PocoError if the torch program is missing or fails.
    """
    artifact = read_artifact(policy)
    session = Session(artifact)
    session.warm_up()
    observation = np.zeros(artifact.specification.observation_size, np.float32)
    noise = NoiseSource(0).sample(0, 0, session.noise_shape)
    calls: dict[str, Callable[[], object]] = {
        "session": lambda: session.run(observation, noise),
        "raw_onnxruntime": raw_inference(artifact, observation, noise),
        "weights_compiled_in": raw_inference(artifact, observation, noise, compiled_in=True),
    }
    torch_eager = None if torch_program is None else TorchEager(torch_program, policy)
    subjects: dict[str, list[Floats]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, spent_us in zip(calls, interleaved(list(calls.values()), pairs, time.process_time_ns), strict=True):
            subjects[name].append(spent_us)
        if torch_eager is not None:
            subjects.setdefault("torch_eager", []).append(torch_eager.measure(pairs))
    if torch_eager is not None:
        torch_eager.end()
    return Outcome(
        "inference",
        f"CPU time of one inference of {policy.name}, {pairs} of each in turns, one thread",
        [Measurement(name, repeated) for name, repeated in subjects.items()],
        [("session", name) for name in subjects if name != "session"],
        [
            "session copies observation, noise and chunk as well; raw_onnxruntime runs what is bound already",
            "weights_compiled_in is raw with the weights as constants, which ONNX Runtime may pack; new ones need a new session",
        ],
    )


def raw_inference(
    artifact: Artifact, observation: Array, noise: Array, compiled_in: bool = False
) -> Callable[[], Array]:
    """Return a call that only runs the graph of `artifact` on buffers that are bound once, and returns its output buffer.

    With `compiled_in` the weights are constants of the graph instead of inputs.
    """
    (graph,) = artifact.manifest.graphs
    model = with_constants(artifact) if compiled_in else artifact.graphs[graph.name]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    kept: list[Array] = []  # ONNX Runtime reads this memory
    for item in graph.inputs:
        if compiled_in and item.tensor is not None:
            continue
        given = {"observation": observation, "noise": noise}
        bound = given[item.source].reshape(item.shape) if item.tensor is None else artifact.tensors[item.tensor]
        kept.append(bound)
        binding.bind_ortvalue_input(item.name, onnxruntime.OrtValue.ortvalue_from_numpy(bound))
    chunk = np.zeros(graph.outputs[0].shape, np.float32)
    binding.bind_ortvalue_output(graph.outputs[0].name, onnxruntime.OrtValue.ortvalue_from_numpy(chunk))

    def infer(kept: list[Array] = kept) -> Array:
        session.run_with_iobinding(binding)
        return chunk

    for _ in range(20):
        infer()
    return infer


class TorchEager:
    """The program bench/torch_eager.py in a process of its own, since no robot process imports torch."""

    def __init__(self, program: Path, policy: Path) -> None:
        if not program.is_file():
            raise UsageError(f"--torch {program} does not exist: name bench/torch_eager.py of a source checkout")
        self._program = Program([sys.executable, str(program), str(policy)])

    def measure(self, count: int) -> Floats:
        """Return the CPU time (us) of `count` inferences [count]; raises PocoError if the program ends."""
        return np.array(msgspec.json.decode(self._program.ask(str(count)), type=list[int])) * 1e-3

    def end(self) -> None:
        """Let the program end."""
        self._program.end()
