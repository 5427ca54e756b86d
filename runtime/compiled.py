"""Weights that were compiled into their graph as constants: what the compiler process leaves in the store, and how it is opened.

```
compiled/<generation>-<key>/facts.json       this module's CompiledFacts, written last
compiled/<generation>-<key>/policy.onnx      the graph, optimised for this computer
compiled/<generation>-<key>/constants.data   its larger constants
```
The key is made of what they depend on, so that another library, computer or setting finds nothing. They are for their owner
alone: what computes is code.
"""

from __future__ import annotations

import os
import platform
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import msgspec

from poco.artifact import MANIFEST, Artifact, Graph, Manifest, Tensors, parse_manifest, sha256
from poco.errors import ArtifactError
from poco.owned import check_owner
from poco.runtime.backends.backend import Backend
from poco.runtime.backends.choice import open_compiled_under
from poco.runtime.backends.onnx_runtime import OnnxRuntimeCpu
from poco.runtime.run_folder import host_facts
from poco.runtime.session import Session
from poco.runtime.swap import Bound
from poco.runtime.weights import map_tensors
from poco.settings import InferenceSettings

FOLDER, FACTS, GRAPH = "compiled", "facts.json", "policy.onnx"
NICE = 19


class CompiledFacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was compiled: the graph whose weights are in it by hash, for which `target`, and the sha256 of every file."""

    graph_hash: str
    target: dict[str, str]
    files: dict[str, str]


def target_of(backend: Backend) -> dict[str, str]:
    """Return what compiled weights, and how fast they are, depend on beside their graph: library, version, device, computer."""
    return {**backend.facts, "computer": platform.node(), "processor": host_facts().cpu}


def without_weights(manifest: Manifest) -> Graph:
    """Return the policy's graph, the last one of `manifest`, as it is once its weights are compiled in."""
    graph = manifest.graphs[-1]
    return msgspec.structs.replace(graph, inputs=tuple(item for item in graph.inputs if item.tensor is None))


def compiled_artifact(manifest: Manifest, golden: Path, folder: Path) -> Artifact:
    """Return the policy of `manifest` with the compiled graph in `folder`, and golden vectors from the folder `golden`.

    Raises ArtifactError where those cannot be read. Compiler and policy process.
    """
    vectors: Tensors = {}
    for item in manifest.tensors:
        if item.role == "golden":
            vectors |= map_tensors(golden / item.file)
    graph = without_weights(manifest)
    compiled = msgspec.structs.replace(manifest, graphs=(*manifest.graphs[:-1], graph))
    return Artifact(folder, compiled, {graph.name: (folder / GRAPH).read_bytes()}, {}, vectors)


class CompiledFolder:
    """Where the compiled weights of a store's generations lie, for one backend, computer and setting; both processes."""

    def __init__(self, store: Path, settings: InferenceSettings) -> None:
        """Make the folder, for its owner alone; raises ArtifactError for a backend that cannot compile weights in."""
        self.path, self._settings = store / FOLDER, settings
        self.path.mkdir(mode=0o700, exist_ok=True)
        self.target = target_of(self.backend(self.path))
        self._key = sha256(msgspec.json.encode((self.target, settings.weights), order="sorted"))[:12]

    def backend(self, constants: Path) -> OnnxRuntimeCpu:
        """Return a backend of its own for graphs whose constants lie in `constants`."""
        return open_compiled_under(self._settings, constants)

    def of(self, generation: Path) -> Path:
        """Return where the compiled weights of the generation in the folder `generation` lie, if they do."""
        return self.path / f"{generation.name}-{self._key}"

    def holds(self, generation: Path) -> bool:
        """Tell whether they lie there; costs a look at the disk."""
        return (self.of(generation) / FACTS).is_file()

    def check(self, generation: Path, graph_hash: str) -> None:
        """Raise ArtifactError unless they are whole, their owner's alone and of the graph with that hash."""
        folder = self.of(generation)
        for path in (folder, folder / FACTS):
            check_owner(path)
        try:
            facts = msgspec.json.decode((folder / FACTS).read_bytes(), type=CompiledFacts)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ArtifactError(f"{folder / FACTS} is not readable ({error}): delete {folder}") from error
        if (facts.graph_hash, facts.target) != (graph_hash, self.target):
            raise ArtifactError(f"{folder} was compiled for another graph or computer: delete it")
        for name, digest in facts.files.items():
            check_owner(folder / name)
            if sha256((folder / name).read_bytes()) != digest:
                raise ArtifactError(f"{folder / name} is damaged (its sha256 is another one): delete {folder}")

    def open(self, generation: Path) -> Bound:
        """Return the compiled weights of the generation in the folder `generation`, checked and warmed up; raises ArtifactError.

        Takes as long as the weights are large, but leaves Python's lock to others in the meantime.
        """
        manifest = parse_manifest((generation / MANIFEST).read_bytes(), str(generation))
        self.check(generation, manifest.graph_hash)
        folder = self.of(generation)
        artifact = compiled_artifact(manifest, generation, folder)
        session = Session(artifact, self.backend(folder))
        session.warm_up()
        return Bound(session, session.prepare({}), artifact)


class CompiledWeights:
    """Opens beside the inference, in a thread of low priority, what the compiler process leaves; policy process only."""

    def __init__(self, folder: CompiledFolder) -> None:
        self._folder = folder
        self._thread = ThreadPoolExecutor(1, "compiled", initializer=_lower_priority)
        self._generation = Path()
        self._opening: Future[Bound] | None = None
        self._given = False

    def ready(self, generation: Path) -> Bound | None:
        """Return the compiled weights of the generation in that folder, once, when they are open; None before and after.

        Costs a look at the disk. Raises, once, what opening them raised.
        """
        if generation != self._generation:
            self._generation, self._opening, self._given = generation, None, False
        if self._opening is None:
            if not self._given and self._folder.holds(generation):
                self._given = True
                self._opening = self._thread.submit(self._folder.open, generation)
            return None
        if not self._opening.done():
            return None
        opened, self._opening = self._opening, None
        return opened.result()


def _lower_priority() -> None:
    """Let the calling thread run only where nobody else wants to."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
