"""The compiler: weights of the active generation become constants of their graph, where that is faster; lowest priority.

Started by the supervisor as `python -m poco.runtime.compiler` with the options of the run. What it leaves in the store
(`poco.runtime.compiled`) gives the golden chunks; the policy process opens it and tries it out. Nobody waits for it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx

from poco.artifact import Artifact, read_artifact, sha256
from poco.errors import ArtifactError, PocoError, exit_with
from poco.owned import write_owned
from poco.runtime.compiled import (
    FACTS,
    GRAPH,
    NICE,
    CompiledFacts,
    CompiledFolder,
    compiled_artifact,
)
from poco.runtime.process_arguments import process_arguments
from poco.runtime.run_events import WeightsCompared
from poco.runtime.run_folder import RunFolder
from poco.runtime.session import Session
from poco.runtime.store import ArtifactStore
from poco.runtime.swap import Weights
from poco.runtime.weights_choice import Comparison, Remembered, compare
from poco.settings import InferenceSettings

POLL_S = 0.1


def with_constants(artifact: Artifact) -> bytes:
    """Return the policy's graph, the last one of `artifact`, as ONNX with its tensors as constants."""
    graph = artifact.manifest.graphs[-1]
    model = onnx.load_model_from_string(artifact.graphs[graph.name])
    tensors = {item.name: artifact.tensors[item.tensor] for item in graph.inputs if item.tensor is not None}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(one, name) for name, one in tensors.items())
    inputs = [item for item in model.graph.input if item.name not in tensors]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    constant: bytes = model.SerializeToString()
    return constant


class Compiler:
    """Compiles generations of one store for one backend; the compiler process, one thread."""

    def __init__(
        self,
        folder: CompiledFolder,
        settings: InferenceSettings,
        told: Callable[[Comparison, dict[str, str]], None],
        clock_ns: Callable[[], int] | None = None,
    ) -> None:
        """`told` hears what was found, once a graph; durations are those of `clock_ns` (None: of the processor for one thread)."""
        self._folder, self._settings, self._told = folder, settings, told
        usual = time.process_time_ns if settings.threads == 1 else time.monotonic_ns
        self._clock_ns = clock_ns or usual
        self._remembered = Remembered(folder.path)
        self._said = set[str]()

    def compile(self, generation: Path) -> Weights:
        """Compile the weights of the generation in that folder, unless they are to stay inputs; return which are to serve.

        Raises ArtifactError where they cannot be compiled or do not give the golden chunks: nothing is left of them then.
        """
        self._forget_others(generation)
        artifact, final = read_artifact(generation), self._folder.of(generation)
        if self._whole(generation, artifact):
            return "compiled"
        beside = final.with_name(final.name + ".part")
        beside.mkdir(mode=0o700)
        try:
            chosen = self._compiled(artifact, beside)
            if chosen == "compiled":
                beside.rename(final)
            return chosen
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def _whole(self, generation: Path, artifact: Artifact) -> bool:
        """Tell whether the weights were compiled in before; what is left of damaged ones is removed."""
        if not self._folder.holds(generation):
            return False
        try:
            self._folder.check(generation, artifact.manifest.graph_hash)
        except ArtifactError:
            shutil.rmtree(self._folder.of(generation))
            return False
        return True

    def _compiled(self, artifact: Artifact, folder: Path) -> Weights:
        """Compile the weights of `artifact` into `folder`, look whether they say the same and whether that is faster."""
        graph_hash, target = artifact.manifest.graph_hash, self._folder.target
        measures = self._settings.weights == "measure"
        found = self._remembered.find(graph_hash, target) if measures else None
        if self._say(graph_hash, found) == "inputs":
            return "inputs"
        backend = self._folder.backend(folder)
        write_owned(folder / GRAPH, backend.compile(with_constants(artifact), folder))
        for file in folder.iterdir():
            file.chmod(0o600)
        compiled = Session(compiled_artifact(artifact.manifest, artifact.path, folder), backend)
        if measures and found is None:
            found = self._compare(artifact, compiled)
            self._remembered.keep(graph_hash, target, found)
            if self._say(graph_hash, found) == "inputs":
                return "inputs"
        files = {file.name: sha256(file.read_bytes()) for file in folder.iterdir()}
        facts = CompiledFacts(graph_hash=graph_hash, target=target, files=files)
        write_owned(folder / FACTS, msgspec.json.encode(facts))
        return "compiled"

    def _say(self, graph_hash: str, found: Comparison | None) -> Weights | None:
        """Tell what was found of a graph, unless it was told before; return which weights are to serve, None if that is open."""
        if found is None:
            return None
        if graph_hash not in self._said:
            self._said.add(graph_hash)
            self._told(found, self._folder.target)
        return found.chosen

    def _compare(self, artifact: Artifact, compiled: Session) -> Comparison:
        """Measure the policy of `artifact` with its weights as inputs against `compiled`, which is the same policy."""
        inputs = Session(artifact, self._folder.backend(self._folder.path))
        observation = np.zeros(artifact.specification.observation_size, np.float32)
        noise = np.zeros(inputs.noise_shape, np.float32)
        for session in (inputs, compiled):
            session.warm_up()
        return compare(lambda: inputs.run(observation, noise), lambda: compiled.run(observation, noise), self._clock_ns)

    def _forget_others(self, generation: Path) -> None:
        """Remove what was compiled of other generations or otherwise, and what a killed process left half done."""
        for folder in self._folder.path.iterdir():
            if folder.is_dir() and folder != self._folder.of(generation):
                shutil.rmtree(folder)


def watch(store: ArtifactStore, compiler: Compiler) -> None:
    """Compile whichever generation is active, each once, until the process that started this one is gone."""
    parent, last = os.getppid(), None
    while os.getppid() == parent:
        generation = store.pointer("wanted") or store.pointer("current")
        if generation is not None and generation != last:
            last = generation
            try:
                compiler.compile(generation)
            except (ArtifactError, OSError) as error:
                print(f"note weights of {generation.name} stay inputs: {error}", flush=True)
        time.sleep(POLL_S)


def main() -> None:
    """Entry point of the compiler process; arguments come from the supervisor."""
    _, options = process_arguments(argparse.ArgumentParser(description=__doc__))
    os.nice(NICE)
    run = RunFolder.open(Path(options.folder))

    def told(found: Comparison, target: dict[str, str]) -> None:
        print(f"note {found.sentence}", flush=True)
        figures = msgspec.structs.asdict(found)
        run.append_event(WeightsCompared(tick=0, chosen=found.chosen, facts=target, **figures))

    try:
        store = ArtifactStore(options.store)
        inference = options.settings.inference
        watch(store, Compiler(CompiledFolder(options.store, inference), inference, told))
    except PocoError as error:
        exit_with(error)


if __name__ == "__main__":
    main()
