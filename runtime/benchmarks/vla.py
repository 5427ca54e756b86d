"""How long a vision-language-action policy takes from frames to actions, by stages, and with a prefix that is there already."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import numpy as np

from poco.artifact import read_artifact
from poco.engines.build_all import run_graphs
from poco.errors import UsageError
from poco.noise import NoiseSource
from poco.runtime.backends.choice import open_under
from poco.runtime.benchmarks.outcome import Floats, Measurement, Outcome
from poco.runtime.prompt import check_task
from poco.runtime.vla_session import VlaSession
from poco.settings import InferenceSettings

END_TO_END, REUSED = "end_to_end", "prefix_there"


def run(
    policy: Path, task: str, repeats: int, calls: int, frame: tuple[int, int], inference: InferenceSettings
) -> Outcome:
    """Measure `repeats` times `calls` calls with new frames (height, width) each, and as many with the same ones (us of wall time).

    Raises ArtifactError for a broken artifact or a backend that is not there, UsageError for a policy that is told nothing.
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
    draw, noise = np.random.default_rng(0), NoiseSource(0)
    cameras = len(artifact.cameras)
    samples: dict[str, list[Floats]] = {}
    for repeat in range(repeats):
        spent: dict[str, list[float]] = {}
        for call in range(calls):
            frames = [draw.integers(0, 256, (*frame, 3), np.uint8) for _ in range(cameras)]
            observation = draw.uniform(-1, 1, artifact.specification.observation_size).astype(np.float32)
            made = noise.sample(repeat, call, session.noise_shape)
            for name in (END_TO_END, REUSED):
                began_ns = time.monotonic_ns()
                session.run(observation, made, frames)
                spent.setdefault(name, []).append((time.monotonic_ns() - began_ns) * 1e-3)
                if name == END_TO_END:
                    for stage, stage_ns in session.stages_ns.items():
                        spent.setdefault(stage, []).append(stage_ns * 1e-3)
        for name, values in spent.items():
            samples.setdefault(name, []).append(np.array(values))
    graphs = ", ".join(
        f"{graph.file} {len(artifact.graphs[graph.name]) / 1e6:.1f} MB" for graph in run_graphs(artifact.manifest)
    )
    trained = sum(tensor.nbytes for tensor in artifact.tensors.values()) / 1e6
    steps = artifact.manifest.vla.schedule.steps
    return Outcome(
        "vla",
        f"one call of {policy.name}, {calls} calls with new frames of {frame[1]} x {frame[0]} from {cameras} cameras",
        [Measurement(name, repeated) for name, repeated in samples.items()],
        [(REUSED, END_TO_END)],
        [
            f"computed by {chosen.sentence}; {graphs}, tensors {trained:.1f} MB; `steps` are all {steps} of them",
            f"session opened and golden vectors reproduced in {built_s:.2f} s, warmed up in {warmed_s:.2f} s",
            f"{REUSED}: frames, task and state are those of the call before, as in shadow, so the prefix is not run",
        ],
        {
            "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
            "opened_s": built_s,
            "warm_up_s": warmed_s,
        },
    )
