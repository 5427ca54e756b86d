"""One policy graph under ONNX Runtime on the robot computer: buffers and weights bound once, one thread, no spinning.

Weights are graph inputs. A Binding holds one full set of them beside the shared buffers, so that changing the policy is
one assignment between two inferences.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnxruntime

from poco.artifact import Artifact, Graph, GraphInput, Tensors
from poco.errors import ArtifactError
from poco.refusal import Reason, Refused

Floats = npt.NDArray[np.float32]

WARM_UP_RUNS = 20
TENSOR_TYPES = {"float32": "tensor(float)", "uint8": "tensor(uint8)"}
NO_FOLDER = "/dev/null/none"
"""Where ONNX Runtime looks for external data, so that a graph can name no file; by default it takes the working directory."""


@dataclass(frozen=True, slots=True)
class Binding:
    """One set of trained tensors bound to the graph; `tensors` keeps the memory alive that ONNX Runtime reads."""

    io: onnxruntime.IOBinding
    tensors: tuple[npt.NDArray[np.generic], ...]


class Session:
    """Runs the chunk policy of an artifact; only the policy process may use it, from one thread."""

    def __init__(self, artifact: Artifact) -> None:
        """Open the graph, bind the artifact's tensors and reproduce its golden vectors; raises ArtifactError."""
        self._artifact = artifact
        self._graph = _policy_graph(artifact)
        self._session = open_graph(artifact, self._graph)
        specification = artifact.specification
        output = self._graph.outputs[0]
        self._observation = self._buffer("observation")
        self._noise = self._buffer("noise") if artifact.manifest.noise_shape is not None else None
        self._output: Floats = np.zeros(output.shape, np.float32)
        self._actions = self._output.reshape(specification.chunk_steps, specification.action_size)
        self._binding = self.prepare(artifact.tensors)
        self.check_golden()

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Shape [T, A] of the noise that `run` takes."""
        return self._actions.shape

    def prepare(self, tensors: Tensors) -> Binding:
        """Bind `tensors` (name to array, as the graph was trained with) beside the buffers, ready for `rebind`.

        The arrays are not copied and must not be written to afterwards. Raises ArtifactError if names, shapes or types
        are not those of the graph. Costs a few microseconds for each tensor; no inference may run meanwhile.
        """
        wanted = {item.source.removeprefix("tensor:"): item for item in self._graph.inputs if _is_tensor(item)}
        if set(wanted) != set(tensors):
            odd = ", ".join(sorted(set(wanted) ^ set(tensors))[:5])
            raise ArtifactError(f"the tensors are not those of the graph ({odd}): they belong to another architecture")
        io = self._session.io_binding()
        kept: list[npt.NDArray[np.generic]] = []
        for key, item in wanted.items():
            tensor = np.ascontiguousarray(tensors[key].T if item.transposed else tensors[key])
            if tensor.shape != item.shape or str(tensor.dtype) != item.dtype:
                raise ArtifactError(
                    f"tensor {key} is {tensor.dtype}{list(tensor.shape)}, the graph wants {item.dtype}{list(item.shape)}: "
                    "it belongs to another architecture"
                )
            kept.append(tensor)
            io.bind_ortvalue_input(item.name, onnxruntime.OrtValue.ortvalue_from_numpy(tensor))
        for item in self._graph.inputs:
            buffer = {"observation": self._observation, "noise": self._noise}.get(_plain(item))
            if buffer is not None:
                io.bind_ortvalue_input(item.name, onnxruntime.OrtValue.ortvalue_from_numpy(buffer))
        output = onnxruntime.OrtValue.ortvalue_from_numpy(self._output)
        io.bind_ortvalue_output(self._graph.outputs[0].name, output)
        return Binding(io, tuple(kept))

    def rebind(self, binding: Binding) -> Binding:
        """Let the next `run` use `binding`, made by `prepare` of this session; return the one in use until now."""
        previous, self._binding = self._binding, binding
        return previous

    def run(self, observation: Floats, noise: Floats) -> Floats:
        """Return the actions [T, A] (a copy) for `observation` [O] and `noise` [T, A]; a graph without noise ignores it.

        Values are passed through as they are, non-finite ones too: the planner refuses those. Raises ValueError only for
        arrays of a wrong size.
        """
        self._observation[...] = observation.reshape(self._observation.shape)
        if self._noise is not None:
            self._noise[...] = noise.reshape(self._noise.shape)
        self._session.run_with_iobinding(self._binding.io)
        return self._actions.copy()

    def warm_up(self) -> None:
        """Run the graph on zeros until ONNX Runtime has planned its memory; call it before the arm is armed."""
        for _ in range(WARM_UP_RUNS):
            self.run(np.zeros(self._observation.size, np.float32), np.zeros(self._actions.shape, np.float32))

    def check_golden(self) -> None:
        """Run the golden vectors of the artifact; raises ArtifactError if this computer does not reproduce the chunks."""
        path, golden = self._artifact.path, self._artifact.golden
        wanted = {"observation", "chunk"} | ({"noise"} if self._noise is not None else set())
        seen = {"images", "state"} if len(self._artifact.manifest.graphs) > 1 else set()
        if set(golden) != wanted | seen:
            raise Refused(
                Reason.GOLDEN,
                f"artifact {path} holds the golden vectors {sorted(golden)}, expected {sorted(wanted | seen)}",
            )
        chunks = golden["chunk"].astype(np.float32)
        cases = len(chunks)
        shapes = {"observation": (cases, self._observation.size), "chunk": (cases, *self._actions.shape)}
        shapes["noise"] = shapes["chunk"]
        if cases == 0 or any(golden[name].shape != shapes[name] for name in wanted):
            raise Refused(Reason.GOLDEN, f"artifact {path} has golden vectors of a wrong shape: export it again")
        observations = golden["observation"].astype(np.float32)
        noises = golden.get("noise", np.zeros_like(chunks)).astype(np.float32)
        actual = np.stack([self.run(*case) for case in zip(observations, noises, strict=True)])
        error, tolerance = float(np.max(np.abs(actual - chunks))), self._artifact.manifest.golden_tolerance
        if not error <= tolerance:
            raise Refused(
                Reason.GOLDEN,
                f"artifact {path} gives chunks that differ from its golden ones by {error:.2e}, "
                f"the tolerance is {tolerance:.0e}: export it again",
            )

    def _buffer(self, source: str) -> Floats:
        (item,) = (item for item in self._graph.inputs if _plain(item) == source)
        return np.zeros(item.shape, np.float32)


def _is_tensor(item: GraphInput) -> bool:
    return item.source.startswith("tensor:")


def _plain(item: GraphInput) -> str:
    """Return the source of an input, "observation" too where an encoder's graph makes it."""
    return item.source.removeprefix("graph:")


def _policy_graph(artifact: Artifact) -> Graph:
    """Return the graph that makes the chunk, whose inputs and output fit the specification; raises ArtifactError.

    It is the only one, or it follows the one of an encoder (`poco.runtime.encoder`) that makes its observation.
    """
    manifest, specification, path = artifact.manifest, artifact.specification, artifact.path
    chunk = (specification.chunk_steps, specification.action_size)
    graphs = 2 if specification.cameras else 1
    if manifest.policy != "chunk" or len(manifest.graphs) != graphs:
        raise ArtifactError(
            f"artifact {path} is a {manifest.policy} policy with {len(manifest.graphs)} graphs and {len(specification.cameras)} "
            f"cameras, this runtime takes a chunk policy with {graphs}: export it again"
        )
    graph = manifest.graphs[-1]
    sizes = {"observation": (specification.observation_size,), "noise": chunk}
    sources = sorted(item.source for item in graph.inputs if not _is_tensor(item))
    observed = "observation" if graphs == 1 else "graph:observation"
    if sources != sorted([observed] if manifest.noise_shape is None else ["noise", observed]):
        raise ArtifactError(
            f"artifact {path} has graph inputs from {sources}: export it with observation and noise only"
        )
    fields = [(item.name, item.shape, sizes[_plain(item)]) for item in graph.inputs if not _is_tensor(item)]
    fields += [(item.name, item.shape, chunk) for item in graph.outputs[:1]]
    if len(graph.outputs) != 1 or manifest.noise_shape not in (None, chunk):
        raise ArtifactError(f"artifact {path} does not give one chunk of {list(chunk)} actions: export it again")
    for name, shape, size in fields:
        if shape[-len(size) :] != size or np.prod(shape) != np.prod(size):
            raise ArtifactError(
                f"artifact {path}: {name} has the shape {list(shape)}, the specification wants {list(size)}: export it again"
            )
    return graph


def open_graph(artifact: Artifact, graph: Graph) -> onnxruntime.InferenceSession:
    """Open `graph` for one thread without spinning; raises ArtifactError if it is not what the manifest says."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", NO_FOLDER)
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(artifact.graphs[graph.name], options, providers=["CPUExecutionProvider"])
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise ArtifactError(f"ONNX Runtime cannot open {graph.file} of artifact {artifact.path} ({reason})") from error
    for kind, actual, declared in (
        ("inputs", session.get_inputs(), graph.inputs),
        ("outputs", session.get_outputs(), graph.outputs),
    ):
        found = {item.name: item for item in actual}
        names = {item.name for item in declared}
        if not names <= set(found) or (kind == "inputs" and names != set(found)):
            raise ArtifactError(
                f"artifact {artifact.path}: {graph.file} has the {kind} {sorted(found)}, not the manifest's"
            )
        for item in declared:
            shape = found[item.name].shape
            same = len(shape) == len(item.shape) and all(
                not isinstance(axis, int) or axis == size for axis, size in zip(shape, item.shape, strict=True)
            )
            if not same or found[item.name].type != TENSOR_TYPES.get(item.dtype):
                raise ArtifactError(
                    f"artifact {artifact.path}: {item.name} of {graph.file} is {found[item.name].type}{shape}, the manifest "
                    f"says {item.dtype}{list(item.shape)}: export it again"
                )
    return session
