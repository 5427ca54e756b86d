"""The chunk policy of an artifact on the robot computer: memories and weights bound once, one thread.

Weights are graph inputs. A Binding holds one full set of them beside the shared memories, so that changing the policy is
one assignment between two inferences.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from poco.artifact import Artifact, Graph, GraphInput, Tensors
from poco.errors import ArtifactError
from poco.refusal import Reason, Refused
from poco.runtime.backends.backend import Backend, Binding, Memory
from poco.runtime.backends.onnx_runtime import OnnxRuntimeCpu
from poco.runtime.chunk_session import Floats, Pixels

WARM_UP_RUNS = 20


class Session:
    """Runs a policy of one graph, from observation and noise to the chunk; from one thread."""

    def __init__(self, artifact: Artifact, backend: Backend | None = None) -> None:
        """Open the graph under `backend` (None: the CPU), bind the artifact's tensors and reproduce its golden vectors.

        Raises ArtifactError.
        """
        self._artifact, self._backend = artifact, backend or OnnxRuntimeCpu()
        self._graph = _policy_graph(artifact)
        self._opened = self._backend.open(str(artifact.path), self._graph, artifact.graphs[self._graph.name])
        specification = artifact.specification
        self._shape = specification.chunk_steps, specification.action_size
        inputs = {_plain(item): item for item in self._graph.inputs if item.tensor is None}
        memories = {name: self._backend.memory(item.shape, item.dtype) for name, item in inputs.items()}
        self._observation, self._noise = memories["observation"], memories.get("noise")
        output = self._graph.outputs[0]
        self._output = self._backend.memory(output.shape, output.dtype)
        self._shared = {item.name: memories[name] for name, item in inputs.items()} | {output.name: self._output}
        self._binding = self.prepare(artifact.tensors)
        self.check_golden()

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Shape [T, A] of the noise that `run` takes."""
        return self._shape

    @property
    def taken_in(self) -> None:
        """None: it sees through an encoder, or nothing."""
        return None

    def images_of(self, frames: Sequence[Pixels]) -> None:
        """None, as `taken_in`."""
        return None

    def prepare(self, tensors: Tensors) -> Binding:
        """Bind `tensors` (name to array, as they lie in an artifact) beside the buffers, ready for `rebind`.

        On the CPU contiguous arrays are not copied, and must not be written to afterwards. Raises ArtifactError if names, shapes or
        types are not those of the graph. Costs a few microseconds for each tensor there; no inference may run meanwhile.
        """
        check_names((self._graph,), tensors)
        return self._opened.bind(self._shared | constants_of(self._backend, self._graph, tensors))

    def rebind(self, binding: Binding) -> Binding:
        """Let the next `run` use `binding`, made by `prepare` of this session; return the one in use until now."""
        previous, self._binding = self._binding, binding
        return previous

    def run(self, observation: Floats, noise: Floats, frames: Sequence[Pixels] = ()) -> Floats:
        """Return the actions [T, A] (a copy) for `observation` [O] and `noise` [T, A]; a graph without noise ignores it.

        What cameras show is in the observation already, so `frames` are ignored.

        Values are passed through as they are, non-finite ones too: the planner refuses those. Raises ValueError only for
        arrays of a wrong size.
        """
        self._observation.write(observation)
        if self._noise is not None:
            self._noise.write(noise)
        self._binding.run()
        return self._output.read().reshape(self._shape).astype(np.float32, copy=False)

    def warm_up(self) -> None:
        """Run the graph on zeros until its memory is planned; call it before the arm is armed."""
        for _ in range(WARM_UP_RUNS):
            self.run(
                np.zeros(self._artifact.specification.observation_size, np.float32), np.zeros(self._shape, np.float32)
            )

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
        observed = self._artifact.specification.observation_size
        shapes = {"observation": (cases, observed), "chunk": (cases, *self._shape)}
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


def check_names(graphs: Sequence[Graph], tensors: Tensors) -> None:
    """Raise ArtifactError unless `tensors` are, by name, those that `graphs` take."""
    wanted = {item.tensor for graph in graphs for item in graph.inputs if item.tensor is not None}
    if odd := sorted(wanted ^ set(tensors)):
        raise ArtifactError(
            f"the tensors are not those of the graph ({', '.join(odd[:5])}): they belong to another architecture"
        )


def constants_of(backend: Backend, graph: Graph, tensors: Tensors) -> dict[str, Memory]:
    """Return what `tensors` give to `graph`, as memories of `backend` by input; raises ArtifactError for a wrong shape or type."""
    constants: dict[str, Memory] = {}
    for item in graph.inputs:
        if item.tensor is None:
            continue
        tensor = tensors[item.tensor]
        if tensor.shape != item.shape or str(tensor.dtype) != item.dtype:
            raise ArtifactError(
                f"tensor {item.tensor} is {tensor.dtype}{list(tensor.shape)}, the graph wants {item.dtype}{list(item.shape)}: "
                "it belongs to another architecture"
            )
        constants[item.name] = backend.constant(np.ascontiguousarray(tensor))
    return constants


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
    sources = sorted(item.source for item in graph.inputs if item.tensor is None)
    observed = "observation" if graphs == 1 else "graph:observation"
    if sources != sorted([observed] if manifest.noise_shape is None else ["noise", observed]):
        raise ArtifactError(
            f"artifact {path} has graph inputs from {sources}: export it with observation and noise only"
        )
    fields = [(item.name, item.shape, sizes[_plain(item)]) for item in graph.inputs if item.tensor is None]
    fields += [(item.name, item.shape, chunk) for item in graph.outputs[:1]]
    if len(graph.outputs) != 1 or manifest.noise_shape not in (None, chunk):
        raise ArtifactError(f"artifact {path} does not give one chunk of {list(chunk)} actions: export it again")
    for name, shape, size in fields:
        if shape[-len(size) :] != size or np.prod(shape) != np.prod(size):
            raise ArtifactError(
                f"artifact {path}: {name} has the shape {list(shape)}, the specification wants {list(size)}: export it again"
            )
    return graph
