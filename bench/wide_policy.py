"""Widen an exported policy without changing what it does: the same chunks from more parameters, for `poco-bench swap`.

python bench/wide_policy.py --parameters 1e6 --out runs/wide/1M [--policy artifacts/peg_in_hole] [--seed 0]

The units that are added read what the others read, with weights as large as theirs; what they say is multiplied by zero. So the arm
moves as under the narrow policy, while hashes, golden vectors, binding and inference have every parameter to deal with.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from poco.artifact import Artifact, read_artifact
from poco.export.policy import export_policy
from poco.learner.checkpoint import Checkpoint, write_checkpoint
from poco.learner.networks import MAX_WIDTH, Architecture, FlowPolicy

ARTIFACT = Path(__file__).parents[1] / "artifacts" / "peg_in_hole"


def parameters_of(architecture: Architecture, width: int) -> int:
    """Return how many parameters the layers of `architecture` have if each is `width` wide."""
    layers = len(architecture.hidden_sizes)
    outside = architecture.observation_size + 2 * architecture.chunk_size + 2
    return (layers - 1) * width * (width + 1) + width * outside + architecture.chunk_size


def width_for(architecture: Architecture, parameters: float) -> int:
    """Return the width that comes nearest to `parameters`."""
    return min(range(1, MAX_WIDTH + 1), key=lambda width: abs(parameters_of(architecture, width) - parameters))


def widen(artifact: Artifact, parameters: float, seed: int) -> FlowPolicy:
    """Return the policy of `artifact` with about so many parameters; raises ValueError where it would have to be narrower."""
    narrow = msgspec.convert(artifact.manifest.network, Architecture)
    width = width_for(narrow, parameters)
    if width < max(narrow.hidden_sizes):
        raise ValueError(f"{parameters:g} parameters are fewer than the policy has: give more")
    policy = FlowPolicy(msgspec.structs.replace(narrow, hidden_sizes=(width,) * len(narrow.hidden_sizes)))
    random = np.random.default_rng(seed)
    widened = {
        key: torch.from_numpy(_widened(artifact.tensors[key].astype(np.float32), tuple(value.shape), random))
        for key, value in policy.state_dict().items()
    }
    policy.load_state_dict(widened)
    return policy


def _widened(
    tensor: npt.NDArray[np.float32], shape: tuple[int, ...], random: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Return `tensor` in the corner of one of `shape`; rows that are added are random, columns that are added zero."""
    wide = np.zeros(shape, np.float32)
    wide[tuple(slice(size) for size in tensor.shape)] = tensor
    added, columns = wide[tensor.shape[0] :], tensor.shape[1:]
    added[(slice(None), *(slice(size) for size in columns))] = tensor.std() * random.standard_normal(
        (len(added), *columns), dtype=np.float32
    )
    return wide


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", type=float, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--policy", type=Path, default=ARTIFACT)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    artifact = read_artifact(flags.policy)
    policy = widen(artifact, flags.parameters, flags.seed)
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder), Checkpoint(artifact.specification, policy, {}))
        made = export_policy(Path(folder), flags.out)
    count = sum(tensor.size for tensor in made.tensors.values())
    print(f"{flags.out}: {count} parameters, layers of {policy.architecture.hidden_sizes}")


if __name__ == "__main__":
    main()
