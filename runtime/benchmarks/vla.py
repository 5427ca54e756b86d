"""How long a vision-language-action policy takes from frames to actions, by stages, against the library's eager call."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from poco.artifact import Artifact, read_artifact
from poco.engines.build_all import run_graphs
from poco.errors import UsageError
from poco.noise import NoiseSource
from poco.runtime.backends.choice import open_under
from poco.runtime.benchmarks.outcome import Floats, Measurement, Outcome
from poco.runtime.benchmarks.vla_library import EagerLibrary
from poco.runtime.prompt import check_task
from poco.runtime.vla_session import VlaSession
from poco.settings import InferenceSettings

END_TO_END, REUSED, GRAPHS = "end_to_end", "prefix_there", "prefix_and_steps"
LIBRARY, SAMPLE_ACTIONS = "library", "library_sample_actions"
PAIRS = [(REUSED, END_TO_END)]
LIBRARY_PAIRS = [(END_TO_END, LIBRARY), (GRAPHS, SAMPLE_ACTIONS)]


def run(
    policy: Path,
    task: str,
    repeats: int,
    calls: int,
    frame: tuple[int, int],
    inference: InferenceSettings,
    library: str | None,
) -> Outcome:
    """Measure `repeats` times `calls` calls with new frames (height, width) each, and as many with the same ones (us of wall time).

    `library` is the command of bench/vla_eager.py or bench/lerobot_async.py, whose calls alternate with ours. Raises ArtifactError
    for a broken artifact or a backend that is not there, UsageError for a policy told nothing, PocoError if the program ends.
    """
    artifact = read_artifact(policy)
    if artifact.manifest.vla is None:
        raise UsageError(f"--policy {policy} is not told a task in words: measure it with poco-bench inference")
    check_task(artifact, task)
    before_s = time.monotonic()
    session, chosen = open_under(inference, lambda backend: VlaSession(artifact, task, backend))
    built_s = time.monotonic() - before_s
    session.warm_up()
    warmed_s = time.monotonic() - before_s - built_s
    eager = None if library is None else EagerLibrary(library, policy, task, frame, inference.threads)
    turns = _Turns(session, artifact, frame, eager)
    samples: dict[str, list[Floats]] = {}
    for repeat in range(repeats):
        for name, values in turns.repeat(repeat, calls).items():
            samples.setdefault(name, []).append(np.array(values))
    notes = [
        *_facts(artifact, chosen.sentence),
        f"session opened and golden vectors reproduced in {built_s:.2f} s, warmed up in {warmed_s:.2f} s",
        f"{REUSED}: frames, task and state are those of the call before, as in shadow, so the prefix is not run",
    ]
    more = {
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        "opened_s": built_s,
        "warm_up_s": warmed_s,
    }
    if eager is not None:
        eager.end()
        versions = ", ".join(f"{name} {version}" for name, version in eager.ready.versions.items())
        notes.append(
            f"{LIBRARY}: {versions}, {eager.ready.how}, {inference.threads} thread(s), from frames to actions through its own "
            f"processors; its golden chunks are {eager.ready.difference:.1e} from ours in -1 ... 1; {SAMPLE_ACTIONS} is the model "
            "in it"
        )
        more["library_peak_memory_mb"] = turns.library_peak_memory_bytes / 1e6
    return Outcome(
        "vla",
        f"one call of {policy.name}, {calls} calls with new frames of {frame[1]} x {frame[0]} from {len(artifact.cameras)} cameras",
        [Measurement(name, repeated) for name, repeated in samples.items()],
        PAIRS + (LIBRARY_PAIRS if eager else []),
        notes,
        more,
    )


class _Turns:
    """Calls of the session, in turns with those of the library where there is one."""

    def __init__(
        self, session: VlaSession, artifact: Artifact, frame: tuple[int, int], eager: EagerLibrary | None
    ) -> None:
        self._session, self._artifact, self._frame, self._eager = session, artifact, frame, eager
        self._draw, self._noise = np.random.default_rng(0), NoiseSource(0)
        self.library_peak_memory_bytes = 0

    def repeat(self, number: int, calls: int) -> dict[str, list[float]]:
        """Return the durations (us) of `calls` calls, by what was timed; each side goes first in every other call."""
        spent: dict[str, list[float]] = {}
        for call in range(calls):
            ours_first = call % 2 == 0
            for ours in (ours_first, not ours_first):
                noise = self._noise.sample(number, call, self._session.noise_shape)
                for name, duration_us in (self._stages(noise) if ours else self._library()).items():
                    spent.setdefault(name, []).append(duration_us)
        return spent

    def _library(self) -> dict[str, float]:
        """Return how long (us) a call of the library takes, and the model in it; nothing without a library."""
        if self._eager is None:
            return {}
        theirs = self._eager.call()
        self.library_peak_memory_bytes = theirs.peak_memory_bytes
        return {LIBRARY: theirs.call_ns * 1e-3, SAMPLE_ACTIONS: theirs.sample_actions_ns * 1e-3}

    def _stages(self, noise: npt.NDArray[np.float32]) -> dict[str, float]:
        """Return how long (us) a call with new frames takes and each stage of it, and a call with the same ones."""
        session, draw = self._session, self._draw
        frames = [draw.integers(0, 256, (*self._frame, 3), np.uint8) for _ in self._artifact.cameras]
        observation = draw.uniform(-1, 1, self._artifact.specification.observation_size).astype(np.float32)
        spent: dict[str, float] = {}
        for name in (END_TO_END, REUSED):
            began_ns = time.monotonic_ns()
            session.run(observation, noise, frames)
            spent[name] = (time.monotonic_ns() - began_ns) * 1e-3
            if name == END_TO_END:
                spent |= {stage: stage_ns * 1e-3 for stage, stage_ns in session.stages_ns.items()}
        return spent | {GRAPHS: spent["prefix"] + spent["steps"]}


def _facts(artifact: Artifact, chosen: str) -> list[str]:
    assert artifact.manifest.vla is not None
    graphs = ", ".join(
        f"{graph.file} {len(artifact.graphs[graph.name]) / 1e6:.1f} MB" for graph in run_graphs(artifact.manifest)
    )
    trained_mb = sum(tensor.nbytes for tensor in artifact.tensors.values()) / 1e6
    steps = artifact.manifest.vla.schedule.steps
    return [f"computed by {chosen}; {graphs}, tensors {trained_mb:.1f} MB; `steps` are all {steps} of them"]
