"""Export a SmolVLA of its published size with random weights: time and size of every stage, peak memory, time of the graphs.

Runs in the environment of `make test-vla`: PYTHONPATH=tests .venv-vla/bin/python bench/vla_export.py FOLDER [--out JSON]. Needs
6 GB of memory and 4 GB in FOLDER. A second run with the same FOLDER goes on after what is there: checkpoint, artifact.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from poco.artifact import read_artifact
from poco.export.vla.cases import Inputs
from poco.export.vla.check import GraphPolicy
from poco.export.vla.exporting import export_vla
from poco.export.vla.options import Progress
from vla.tiny import TRUE, Made, make, tiny_sizes
from vla.tiny_artifact import options_of

RUNS = 5


def main() -> None:
    """Make, export and run; prints every stage and writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    lines: list[str] = []

    def tell(line: str) -> None:
        print(line, flush=True)
        lines.append(line)

    progress = Progress(tell)
    made = Made(folder / "checkpoint", folder / "vlm", folder / "tokenizer")
    if not (made.checkpoint / "policy_postprocessor.json").exists():
        with progress.stage("make the checkpoint") as facts:
            made = make("smolvla", folder, sizes=TRUE)
            facts["bytes"] = sum(file.stat().st_size for file in made.checkpoint.iterdir())
    elif not (folder / "artifact" / "manifest.json").exists():
        from vla import stand_ins

        stand_ins.install()
        with tiny_sizes(made):
            export_vla(options_of(made, folder / "artifact"), progress)
    else:
        tell(json.dumps(run(folder / "artifact", progress)))
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    tell(f"peak memory {peak_gb:.1f} GB")
    if arguments.out:
        arguments.out.write_text(json.dumps(lines, indent=2))


def run(folder: Path, progress: Progress) -> dict[str, Any]:
    """Return milliseconds (median of a few) of prefix, one step and the graph of all steps, on one thread."""
    with progress.stage("read the artifact"):
        artifact = read_artifact(folder)
    vla = artifact.manifest.vla
    assert vla is not None
    with progress.stage("open the graphs"):
        policy = GraphPolicy(artifact.manifest.graphs, artifact.graphs, artifact.tensors, vla.schedule)
    golden = artifact.golden
    pixels = golden["images"][0].astype(np.float32) / np.float32(127.5) - np.float32(1.0)
    arrays = {"pixels": pixels, "image_mask": golden["image_mask"][0], "noise": golden["noise"][:1]}
    arrays |= {name: golden[name][:1] for name in ("tokens", "token_mask")}
    arrays["state"] = np.zeros((1, vla.width), np.float32)
    given = Inputs(arrays, np.zeros(vla.state.size, np.float32))
    cache = policy.prefix(given)
    timed: dict[str, Callable[[], object]] = {
        "prefix": lambda: policy.prefix(given),
        "steps": lambda: policy.steps_from(given, cache),
        "chunk": lambda: policy.chunk_from(given, cache),
    }
    result: dict[str, Any] = {}
    for name, call in timed.items():
        times_ms = []
        for _ in range(RUNS):
            begun = time.perf_counter()
            call()
            times_ms.append(1e3 * (time.perf_counter() - begun))
        result[f"{name}_ms"] = round(float(np.median(times_ms)), 1)
    return result


if __name__ == "__main__":
    main()
