"""From a checkpoint of ours to a swappable artifact."""

from __future__ import annotations

from pathlib import Path

import msgspec

from poco.artifact import Artifact
from poco.export.parity import check_parity
from poco.export.publish import GOLDEN_CASES, ExportedPolicy, publish
from poco.export.to_onnx import flow_graph, graph_inputs, graph_output
from poco.learner.checkpoint import read_checkpoint


def export_policy(checkpoint: Path, out: Path) -> Artifact:
    """Export the checkpoint in folder `checkpoint` to the artifact folder `out`; return the artifact read back.

    Raises ArtifactError if the checkpoint is unsound or the graph does not reproduce the policy.
    """
    loaded = read_checkpoint(checkpoint)
    architecture = loaded.policy.architecture
    tensors = {key: value.numpy() for key, value in loaded.policy.state_dict().items()}
    graph = flow_graph(architecture)
    parity = check_parity(loaded.policy, graph, tensors)
    return publish(
        ExportedPolicy(
            specification=loaded.specification,
            graph=graph,
            inputs=graph_inputs(architecture),
            output=graph_output(architecture),
            golden={
                "observation": parity.observation[:GOLDEN_CASES],
                "noise": parity.noise[:GOLDEN_CASES],
                "chunk": parity.chunk[:GOLDEN_CASES],
            },
            trained=tensors,
            network=msgspec.structs.asdict(architecture),
            metrics={**loaded.metrics, "parity_error": parity.error, "parity_sensitivity": parity.sensitivity},
        ),
        out,
    )
