"""Which graphs of a vision-language-action artifact run on the robot, and whether they fit each other and the specification."""

from __future__ import annotations

from poco.artifact import Artifact, Graph
from poco.errors import ArtifactError
from poco.vla import CHUNK, IMAGE_MASK, PIXELS, PREFIX, SAMPLE, STEP, TIME, TOKEN_MASK, TOKENS, Vla

OUT_OF = "graph:"
NOISE, STATE = "noise", "state"


def graphs_of(artifact: Artifact, vla: Vla) -> tuple[Graph, Graph]:
    """Return the prefix graph and the one that moves: all steps in one where the artifact has that, else the single step.

    Raises ArtifactError unless every input is known, of the shape that the artifact's rules ask for, and what the one graph gives
    is what the other takes.
    """
    path, specification = artifact.path, artifact.specification
    graphs = {graph.name: graph for graph in artifact.manifest.graphs}
    if not {PREFIX, STEP} <= set(graphs) <= {PREFIX, STEP, CHUNK}:
        raise ArtifactError(
            f"artifact {path} has the graphs {', '.join(graphs)}, such a policy has {PREFIX}, {STEP} and possibly {CHUNK}: "
            "export it again"
        )
    sizes = (specification.observation_size, specification.action_size)
    if (vla.state.size, vla.action.size) != sizes or vla.first_action + specification.chunk_steps > vla.chunk_length:
        raise ArtifactError(
            f"artifact {path}: its model has a state of {vla.state.size}, actions of {vla.action.size} and chunks of "
            f"{vla.chunk_length}, the specification {sizes[0]}, {sizes[1]} and {specification.chunk_steps} after "
            f"{vla.first_action}: export it for this specification"
        )
    chunk = (1, vla.chunk_length, vla.width)
    if artifact.manifest.noise_shape != chunk[1:]:
        raise ArtifactError(
            f"artifact {path} takes noise of {artifact.manifest.noise_shape}, not {chunk[1:]}: export it again"
        )
    _check(artifact, vla, graphs[PREFIX], {PIXELS, IMAGE_MASK, TOKENS, TOKEN_MASK}, {STATE})
    given = {f"{OUT_OF}{item.name}" for item in graphs[PREFIX].outputs}
    _check(artifact, vla, graphs[STEP], {SAMPLE, TIME} | given, {STATE})
    if CHUNK in graphs:
        _check(artifact, vla, graphs[CHUNK], {NOISE} | given, {STATE})
    mover = graphs.get(CHUNK, graphs[STEP])
    if len(mover.outputs) != 1 or mover.outputs[0].shape != chunk:
        raise ArtifactError(
            f"artifact {path}: {mover.file} gives {', '.join(str(list(item.shape)) for item in mover.outputs)}, expected one "
            f"{list(chunk)}: export it again"
        )
    return graphs[PREFIX], mover


def _check(artifact: Artifact, vla: Vla, graph: Graph, needed: set[str], possible: set[str]) -> None:
    """Raise ArtifactError unless `graph` takes what is `needed`, nothing but that and what is `possible`, in the right shapes."""
    cameras, length, width = len(vla.cameras), vla.prompt.length, vla.width
    known: dict[str, tuple[tuple[int, ...], str]] = {
        TOKENS: ((1, length), "int64"),
        TOKEN_MASK: ((1, length), "bool"),
        STATE: ((1, width), "float32"),
        SAMPLE: ((1, vla.chunk_length, width), "float32"),
        NOISE: ((1, vla.chunk_length, width), "float32"),
        TIME: ((1,), "float32"),
        IMAGE_MASK: ((cameras,), "bool"),
        PIXELS: ((cameras, 3, vla.cameras[0].height, vla.cameras[0].width), "float32"),
    }
    (prefix,) = (item for item in artifact.manifest.graphs if item.name == PREFIX)
    known |= {f"{OUT_OF}{item.name}": (item.shape, item.dtype) for item in prefix.outputs}
    taken = {item.source: item for item in graph.inputs if item.tensor is None}
    if not needed <= set(taken) <= needed | possible:
        raise ArtifactError(
            f"artifact {artifact.path}: {graph.file} takes {', '.join(sorted(taken))}, expected {', '.join(sorted(needed))}: "
            "export it again"
        )
    for source, item in taken.items():
        shape, dtype = known.get(source, ((), ""))
        if (item.shape, item.dtype) != (shape, dtype):
            raise ArtifactError(
                f"artifact {artifact.path}: {item.name} of {graph.file} is {item.dtype}{list(item.shape)}, its {source} is "
                f"{dtype}{list(shape)}: export it again"
            )


def golden_shapes(artifact: Artifact, vla: Vla) -> dict[str, tuple[int, ...]]:
    """Return name and shape, without the axis of the cases, of what the golden vectors of a vision-language-action policy hold."""
    specification, chunk = artifact.specification, (vla.chunk_length, vla.width)
    return {
        "observation": (specification.observation_size,),
        "images": (len(vla.cameras), 3, vla.cameras[0].height, vla.cameras[0].width),
        IMAGE_MASK: (len(vla.cameras),),
        NOISE: chunk,
        TOKENS: (vla.prompt.length,),
        TOKEN_MASK: (vla.prompt.length,),
        "sample": chunk,
        "chunk": (specification.chunk_steps, specification.action_size),
    }
