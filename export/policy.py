"""From a checkpoint of ours to a swappable artifact."""

from __future__ import annotations

from pathlib import Path

from safetensors.numpy import save

from poco.artifact import (
    FORMAT,
    VERSION,
    Artifact,
    Graph,
    Manifest,
    TensorFile,
    graph_hash,
    read_artifact,
    sha256,
    write_artifact,
)
from poco.export.parity import Parity, check_parity
from poco.export.to_onnx import flow_graph, graph_inputs, graph_output
from poco.learner.checkpoint import read_checkpoint

GRAPH_FILE, TRAINED_FILE, GOLDEN_FILE = "policy.onnx", "trained.safetensors", "golden.safetensors"
GOLDEN_CASES = 8
GOLDEN_TOLERANCE = 1e-4
"""Largest difference a robot computer's kernels may make to a golden chunk, in action units [-1, 1]."""


def export_policy(checkpoint: Path, out: Path) -> tuple[Artifact, Parity]:
    """Export the checkpoint in folder `checkpoint` to the artifact folder `out` as generation 1; return it read back.

    Raises ArtifactError if the checkpoint is unsound or the graph does not reproduce the policy.
    """
    loaded = read_checkpoint(checkpoint)
    policy = loaded.policy
    tensors = {key: value.numpy() for key, value in policy.state_dict().items()}
    graph = flow_graph(policy.architecture)
    parity = check_parity(policy, graph, tensors)
    golden = {
        "observation": parity.observation[:GOLDEN_CASES],
        "noise": parity.noise[:GOLDEN_CASES],
        "chunk": parity.chunk[:GOLDEN_CASES],
    }
    files = {GRAPH_FILE: graph, TRAINED_FILE: save(tensors), GOLDEN_FILE: save(golden)}
    manifest = Manifest(
        format=FORMAT,
        version=VERSION,
        policy="chunk",
        robot_model=loaded.specification.robot,
        specification=loaded.specification,
        specification_hash=loaded.specification.digest(),
        graphs=(
            Graph(
                name="policy",
                file=GRAPH_FILE,
                sha256=sha256(graph),
                inputs=graph_inputs(policy.architecture),
                outputs=(graph_output(policy.architecture),),
            ),
        ),
        graph_hash=graph_hash({"policy": graph}),
        tensors=(
            TensorFile(file=TRAINED_FILE, sha256=sha256(files[TRAINED_FILE]), role="trained"),
            TensorFile(file=GOLDEN_FILE, sha256=sha256(files[GOLDEN_FILE]), role="golden"),
        ),
        noise_shape=parity.noise.shape[1:],
        swappable=True,
        generation=1,
        parent=None,
        expires_unix_s=None,
        golden_tolerance=GOLDEN_TOLERANCE,
        metrics={**loaded.metrics, "parity_error": parity.error, "parity_sensitivity": parity.sensitivity},
    )
    write_artifact(out, manifest, files)
    return read_artifact(out), parity
