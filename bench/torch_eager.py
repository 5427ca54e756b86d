"""CPU time of the demo policy's architecture in torch eager; `poco-bench inference --torch bench/torch_eager.py` starts it.

python bench/torch_eager.py ARTIFACT prints a first line when the golden vectors are reproduced, then answers each number N
on standard input with the CPU times (ns) of N inferences as a JSON list.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

from poco.artifact import read_artifact
from poco.errors import ArtifactError, guard
from poco.learner.networks import Architecture, FlowPolicy


def load(folder: Path) -> tuple[FlowPolicy, torch.Tensor, torch.Tensor]:
    """Return the policy of an artifact made by `poco-export policy` with inputs of its golden vectors; raises ArtifactError."""
    artifact = read_artifact(folder)
    tensors = {key: torch.from_numpy(np.array(value)) for key, value in artifact.tensors.items()}
    biases = [tensors["observation_layer.bias"]]
    biases += [
        value for key, value in sorted(tensors.items()) if key.startswith("hidden_layers") and key.endswith("bias")
    ]
    architecture = Architecture.of(artifact.specification, tuple(len(bias) for bias in biases))
    policy = FlowPolicy(architecture).eval()
    policy.load_state_dict(tensors)
    observation, noise, chunk = (torch.from_numpy(artifact.golden[key]) for key in ("observation", "noise", "chunk"))
    error = float((policy(observation, noise) - chunk).abs().max())
    if not error <= artifact.manifest.golden_tolerance:
        raise ArtifactError(f"torch differs from the golden chunks of {folder} by {error:.2e}: export it again")
    return policy, observation[:1], noise[:1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("artifact", type=Path)
    folder = parser.parse_args().artifact
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    policy, observation, noise = load(folder)
    for _ in range(50):
        policy(observation, noise)
    print("ready", flush=True)
    for line in sys.stdin:
        spent_ns = []
        for _ in range(int(line)):
            before_ns = time.process_time_ns()
            policy(observation, noise)
            spent_ns.append(time.process_time_ns() - before_ns)
        print(json.dumps(spent_ns), flush=True)


if __name__ == "__main__":
    guard(main)
