"""LeRobot's eager call of the checkpoint that an artifact was exported from; `poco-bench vla --library` starts it.

Runs in an environment with LeRobot (`make test-vla` makes one), with tests/ on the path:

    PYTHONPATH=tests poco-bench vla --policy ARTIFACT --task TEXT --library ".venv-vla/bin/python bench/vla_eager.py CHECKPOINT"

Prints a first line when the artifact's golden chunks are reproduced, then answers every line on standard input with the time of a
call with new frames, through preprocessor, policy and postprocessor. `--tiny` is for checkpoints of tests/vla/tiny.py.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from poco.artifact import Artifact, read_artifact
from poco.errors import ArtifactError, guard
from poco.learner.vla.opening import ADAPTERS
from poco.runtime.benchmarks.vla_library import Ready, Spent
from poco.specification import scale, unscale
from vla import stand_ins
from vla.library import Library
from vla.tiny import Made, tiny_sizes

SAME = 1e-2
"""Golden chunks (-1 ... 1) of the same policy differ by less, in half precision too; those of others by far more."""
WARM_UP_CALLS = 3


class Eager:
    """The library's policy beside the artifact made of it."""

    def __init__(self, artifact: Artifact, checkpoint: Path, tiny: bool) -> None:
        assert artifact.manifest.vla is not None
        self._artifact, self._vla = artifact, artifact.manifest.vla
        made = Made(checkpoint, checkpoint.parent / "vlm", checkpoint.parent / "tokenizer")
        self._library = Library(self._vla.type, checkpoint, tiny_sizes(made) if tiny else nullcontext())
        ADAPTERS[self._vla.type].set_steps(self._library.policy, self._vla.schedule.steps)
        self._sample_actions, self._spent_ns = self._library.policy.model.sample_actions, 0
        self._library.policy.model.sample_actions = self._timed
        self._draw = np.random.default_rng(0)

    def _timed(self, *arguments: Any, **keywords: Any) -> Any:
        began_ns = time.monotonic_ns()
        sample = self._sample_actions(*arguments, **keywords)
        self._spent_ns = time.monotonic_ns() - began_ns
        return sample

    def difference(self) -> float:
        """Return how far the first golden chunk is from the library's (-1 ... 1); raises ArtifactError for another policy."""
        golden, told = self._artifact.golden, self._artifact.specification
        images = golden["images"][0].astype(np.uint8).transpose(0, 2, 3, 1)
        frames = {item.key: image for item, image in zip(self._vla.cameras, images, strict=True) if item.camera}
        state = unscale(told.observation, golden["observation"][0]).astype(np.float32)
        noise = golden["noise"][0].astype(np.float32)
        physical = self._library.actions(state, frames, self._vla.golden_tasks[0], noise)
        chunk = scale(told.action, physical[self._vla.first_action :][: told.chunk_steps])
        difference = float(np.max(np.abs(chunk - golden["chunk"][0])))
        if not difference <= SAME:
            raise ArtifactError(
                f"the library differs from the golden chunks of {self._artifact.path} by {difference:.1e} (limit {SAME:g}): give "
                "the checkpoint that it was exported from"
            )
        return difference

    def call(self, task: str, height: int, width: int) -> Spent:
        """Make one chunk out of new frames."""
        told = self._artifact.specification
        shape = (height, width, 3)
        frames = {item.key: self._draw.integers(0, 256, shape, np.uint8) for item in self._vla.cameras if item.camera}
        observation = self._draw.uniform(-1, 1, told.observation_size)
        noise = self._draw.standard_normal((self._vla.chunk_length, self._vla.width), np.float32)
        began_ns = time.monotonic_ns()
        self._library.actions(unscale(told.observation, observation).astype(np.float32), frames, task, noise)
        return Spent(
            call_ns=time.monotonic_ns() - began_ns,
            sample_actions_ns=self._spent_ns,
            peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        )


def main() -> None:
    """Answer `poco-bench vla`; whatever libraries print goes to standard error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument(
        "--tiny", action="store_true", help="the checkpoint has shrunk sizes, vlm/ and tokenizer/ beside it"
    )
    parser.add_argument("--artifact", type=Path, required=True)
    parser.add_argument("--task", required=True)
    parser.add_argument("--frame", type=int, nargs=2, required=True, metavar=("W", "H"))
    parser.add_argument("--threads", type=int, required=True)
    flags = parser.parse_args()
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    torch.set_num_threads(flags.threads)
    stand_ins.install()
    eager = Eager(read_artifact(flags.artifact), flags.checkpoint, flags.tiny)
    from lerobot import __version__
    from transformers import __version__ as transformers_version

    versions = {"lerobot": __version__, "transformers": transformers_version, "torch": str(torch.__version__)}
    difference = eager.difference()
    width, height = flags.frame
    for _ in range(WARM_UP_CALLS):
        eager.call(flags.task, height, width)
    answers.write(msgspec.json.encode(Ready(versions=versions, difference=difference)) + b"\n")
    for _ in sys.stdin:
        answers.write(msgspec.json.encode(eager.call(flags.task, height, width)) + b"\n")


if __name__ == "__main__":
    guard(main)
