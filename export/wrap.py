"""From any chunk policy in ONNX (ACT: observation to actions; Diffusion Policy: with a noise input) to an artifact.

The weights stay in the graph, so such a policy runs but cannot be swapped. It must take observations and give actions as
the specification scales them, in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]

from poco.artifact import Artifact, GraphInput, GraphOutput
from poco.errors import ArtifactError, UsageError
from poco.export.parity import SEED, open_graph
from poco.export.publish import GOLDEN_CASES, ExportedPolicy, publish
from poco.specification import Specification

Floats = npt.NDArray[np.float32]
Shape = tuple[int, ...]
Axes = list[int | str | None]

STANDARD_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
RANDOM_OPERATORS = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}
)
MAX_FILE_BYTES = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Names:
    """Which input and output of the model is what; None means: found by its shape."""

    observation: str | None = None
    noise: str | None = None
    actions: str | None = None


def wrap_model(file: Path, specification: Specification, out: Path, names: Names | None = None) -> Artifact:
    """Check the ONNX model in `file` against `specification` and publish it to the folder `out`; return it read back.

    Raises ArtifactError for a file that is missing, not ONNX, of wrong shapes, with external data, foreign operators,
    random numbers of its own or non-finite output, and UsageError where a flag must say which input or output is what.
    """
    names = names or Names()
    graph = _read_graph(file)
    session = open_graph(graph)
    inputs = _find_inputs(session, specification, names)
    output = _find_output(session, specification, names)
    golden, shape = _golden(session, inputs, output, specification)
    return publish(ExportedPolicy(specification, graph, inputs, GraphOutput(name=output, shape=shape), golden), out)


def _read_graph(file: Path) -> bytes:
    """Return the model's bytes after checking that they are one closed, deterministic ONNX graph."""
    if not file.is_file():
        raise ArtifactError(f"no model at {file}: give the path of an .onnx file")
    if file.stat().st_size > MAX_FILE_BYTES:
        raise ArtifactError(f"model {file} has {file.stat().st_size} bytes, the limit is {MAX_FILE_BYTES}")
    payload = file.read_bytes()
    try:
        model = onnx.load_model_from_string(payload)
    except DecodeError as error:
        raise ArtifactError(f"model {file} is not an ONNX file: export the policy to ONNX first") from error
    if not model.graph.node:
        raise ArtifactError(f"model {file} is not an ONNX file with a graph: export the policy to ONNX first")
    known = STANDARD_DOMAINS | {function.domain for function in model.functions}
    graphs = [model.graph.node, *(function.node for function in model.functions)]
    for node in (node for nodes in graphs for node in _nodes(nodes)):
        if node.domain not in known:
            raise ArtifactError(
                f"model {file} uses the operator {node.domain}.{node.op_type}: export it with standard ONNX operators only"
            )
        if node.op_type in RANDOM_OPERATORS:
            raise ArtifactError(f"model {file} draws its own random numbers ({node.op_type}): make the noise an input")
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in _tensors(model)):
        raise ArtifactError(f"model {file} keeps weights in external data files: save it as one file")
    return payload


def _nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _nodes(graph.node)


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    graphs, nodes = [model.graph], list(_nodes(model.graph.node))
    for function in model.functions:
        nodes += _nodes(function.node)
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            graphs += (attribute.g, *attribute.graphs)
    for graph in graphs:
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)


def _find_inputs(
    session: onnxruntime.InferenceSession, specification: Specification, names: Names
) -> tuple[GraphInput, ...]:
    """Assign observation and noise to the inputs in the only way that flags and shapes allow."""
    shapes = _shapes(session.get_inputs())
    sizes: dict[str, Shape] = {"observation": (specification.observation_size,), "noise": _chunk(specification)}
    if not 1 <= len(shapes) <= len(sizes):
        raise ArtifactError(
            f"the model has the inputs {_listed(shapes)}, a chunk policy takes an observation and possibly noise: "
            "export it with the others fixed"
        )
    given = {"observation": names.observation, "noise": names.noise}
    for source, name in given.items():
        if name is not None and name not in shapes:
            raise UsageError(f"--{source} is {name}, the model has the inputs {_listed(shapes)}: give one of them")
    sources = list(sizes)[: len(shapes)]
    assignments = [
        tuple(
            GraphInput(name=name, source=source, shape=shape)
            for source, name in zip(sources, order, strict=True)
            if given[source] in (None, name) and (shape := _resolve(shapes[name], sizes[source])) is not None
        )
        for order in permutations(shapes)
    ]
    fitting = [inputs for inputs in assignments if len(inputs) == len(shapes)]
    if not fitting:
        raise ArtifactError(
            f"the model has the inputs {_listed(shapes)}, the specification wants an observation [1, "
            f"{specification.observation_size}] and possibly noise [1, {specification.chunk_steps}, "
            f"{specification.action_size}] (only the batch axis may be free): export it for this specification"
        )
    if len(fitting) > 1:
        raise UsageError(
            f"the model has the inputs {_listed(shapes)}: say with --observation which one is the observation"
        )
    return fitting[0]


def _find_output(session: onnxruntime.InferenceSession, specification: Specification, names: Names) -> str:
    shapes = _shapes(session.get_outputs())
    if names.actions is not None and names.actions not in shapes:
        raise UsageError(f"--actions is {names.actions}, the model has the outputs {_listed(shapes)}: give one of them")
    fitting = [
        name
        for name in shapes
        if names.actions in (None, name) and _resolve(shapes[name], _chunk(specification)) is not None
    ]
    if not fitting:
        raise ArtifactError(
            f"the model has the outputs {_listed(shapes)}, the specification wants actions [1, {specification.chunk_steps}, "
            f"{specification.action_size}]: export it for this specification or change chunk_steps"
        )
    if len(fitting) > 1:
        raise UsageError(f"the model has the outputs {_listed(shapes)}: say with --actions which one is the chunk")
    return fitting[0]


def _golden(
    session: onnxruntime.InferenceSession, inputs: tuple[GraphInput, ...], output: str, specification: Specification
) -> tuple[dict[str, Floats], Shape]:
    """Run the model on random cases; return its golden vectors and the true shape of its output."""
    random, chunk = np.random.default_rng(SEED), _chunk(specification)
    golden: dict[str, Floats] = {}
    for item in inputs:
        if item.source == "observation":
            golden["observation"] = random.uniform(-1, 1, (GOLDEN_CASES, *item.shape)).astype(np.float32)
        else:
            golden["noise"] = random.standard_normal((GOLDEN_CASES, *item.shape), dtype=np.float32)
    try:
        results = [
            session.run([output], {item.name: golden[item.source][case] for item in inputs})[0]
            for case in range(GOLDEN_CASES)
        ]
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise ArtifactError(f"the model does not run on the shapes of the specification ({reason})") from error
    shape: Shape = results[0].shape
    if any(result.shape != shape for result in results) or _resolve(list(shape), chunk) is None:
        raise ArtifactError(
            f"the output {output} has the shape {list(shape)}, the specification wants [1, {chunk[0]}, {chunk[1]}]: "
            "export it for this specification or change chunk_steps"
        )
    if not np.all(np.isfinite(results)):
        raise ArtifactError(f"the output {output} is not finite on observations in [-1, 1]: the policy is not sound")
    golden["observation"] = golden["observation"].reshape(GOLDEN_CASES, -1)
    golden["chunk"] = np.stack(results).reshape(GOLDEN_CASES, *chunk)
    if "noise" in golden:
        golden["noise"] = golden["noise"].reshape(GOLDEN_CASES, *chunk)
    return golden, shape


def _shapes(items: list[onnxruntime.NodeArg]) -> dict[str, Axes]:
    for item in items:
        if item.type != "tensor(float)":
            raise ArtifactError(
                f"{item.name} of the model is a {item.type}, must be tensor(float): export it in float32"
            )
    return {item.name: item.shape for item in items}


def _chunk(specification: Specification) -> Shape:
    return specification.chunk_steps, specification.action_size


def _listed(shapes: dict[str, Axes]) -> str:
    return ", ".join(f"{name} {axes}" for name, axes in shapes.items())


def _resolve(axes: Axes, size: Shape) -> Shape | None:
    """Return the fixed shape of `axes` that holds `size` behind axes of 1, None if there is none; a free first axis is 1."""
    leading = len(axes) - len(size)
    if leading < 0:
        return None
    shape = (1,) * leading + size
    free = {0, *range(leading, len(axes))}
    for place, (axis, length) in enumerate(zip(axes, shape, strict=True)):
        if axis != length and (isinstance(axis, int) or place not in free):
            return None
    return shape
