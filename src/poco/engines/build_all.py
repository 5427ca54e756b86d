"""The engines of a whole artifact: of the graphs that a robot runs, and no others."""

from __future__ import annotations

from collections.abc import Callable

from poco.artifact import Artifact, Graph, Manifest
from poco.engines.build import Library
from poco.engines.cache import EngineCache, EngineFacts, target_of
from poco.engines.device import Device, cuda_runtime, device_of
from poco.errors import ArtifactError
from poco.vla import CHUNK, STEP


def run_graphs(manifest: Manifest) -> tuple[Graph, ...]:
    """Return the graphs that a robot runs: not the single step where all of them are one graph."""
    in_one = any(graph.name == CHUNK for graph in manifest.graphs)
    return tuple(graph for graph in manifest.graphs if not (in_one and graph.name == STEP))


def build_engines(artifact: Artifact, library: Library, folder: str, told: Callable[[str], None]) -> list[EngineFacts]:
    """Build what the cache in `folder` ("" for the usual one) lacks of the engines of `artifact` for this computer; return all.

    TensorRT-RTX builds without a GPU too, for every GPU that it knows; a robot still builds its own. Raises ArtifactError. Before
    motion; exporter and `poco-runtime`.
    """
    try:
        device = device_of(cuda_runtime())
    except ArtifactError as error:
        if library == "tensorrt":
            raise
        told(f"no GPU here ({error}): what is built shows that the graphs can be, a robot builds for its own GPU")
        device = Device()
    target, cache = target_of(library, device), EngineCache(folder)
    return [
        cache.engine(graph.file, artifact.graphs[graph.name], target, told)[1]
        for graph in run_graphs(artifact.manifest)
    ]
