"""The exported graph is the policy: same numbers, weights as inputs, one closed file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from poco.artifact import Artifact
from poco.errors import ArtifactError
from poco.export.parity import CASES, TOLERANCE, check_parity, open_graph
from poco.export.policy import export_policy
from poco.export.to_onnx import IR_VERSION, OPSET, flow_graph, graph_inputs
from poco.learner.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from poco.learner.networks import Architecture, FlowPolicy
from poco.learner.trained_policy import flow_policy
from poco.specification import Specification


def tensors_of(policy: FlowPolicy) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    return {key: value.numpy().copy() for key, value in policy.state_dict().items()}


@pytest.mark.parametrize("hidden_sizes", [(8,), (32, 24), (64, 64, 64, 64)])
def test_graph_equals_the_policy(specification: Specification, hidden_sizes: tuple[int, ...]) -> None:
    """On 64 random cases graph and torch agree to 1e-5, and the chunk depends on the observation, at several depths."""
    torch.manual_seed(1)
    policy = FlowPolicy(Architecture.of(specification, hidden_sizes))
    parity = check_parity(policy, flow_graph(policy.architecture), tensors_of(policy))
    assert parity.chunk.shape == parity.noise.shape == (CASES, 5, 4)
    assert CASES >= 64
    assert parity.error <= TOLERANCE == 1e-5
    assert parity.sensitivity > 100 * parity.error


def test_every_trained_tensor_and_statistic_is_a_graph_input(checkpoint_folder: Path) -> None:
    """Inputs are observation, noise and the tensors of the checkpoint by name; constants are a few numbers of the integration."""
    policy = flow_policy(read_checkpoint(checkpoint_folder).policy)
    model = onnx.load_model_from_string(flow_graph(policy.architecture))
    assert {item.name for item in model.graph.input} == {"observation", "noise", *policy.state_dict()}
    assert sum(int(np.prod(item.dims)) for item in model.graph.initializer) < 40
    assert all(item.data_location != onnx.TensorProto.EXTERNAL for item in model.graph.initializer)
    assert [(item.domain, item.version) for item in model.opset_import] == [("", OPSET)]
    assert model.ir_version == IR_VERSION
    assert len([node for node in model.graph.node if node.op_type == "Gemm"]) == 1 + 10 * 3


def test_equal_architectures_give_equal_bytes(specification: Specification) -> None:
    """The graph depends on the architecture alone, so that its hash identifies it."""
    first, other = Architecture.of(specification, (16, 16)), Architecture.of(specification, (16, 8))
    assert flow_graph(first) == flow_graph(Architecture.of(specification, (16, 16)))
    assert flow_graph(first) != flow_graph(other)


def test_declared_inputs_are_those_of_the_graph(specification: Specification) -> None:
    """The manifest's inputs carry the names and shapes that ONNX Runtime sees."""
    architecture = Architecture.of(specification, (16, 8, 4))
    seen = {item.name: tuple(item.shape) for item in open_graph(flow_graph(architecture)).get_inputs()}
    assert seen == {item.name: item.shape for item in graph_inputs(architecture)}


def test_a_graph_that_differs_is_refused(checkpoint_folder: Path) -> None:
    """Feeding the graph one slightly different weight is noticed, with error and tolerance in the sentence."""
    policy = flow_policy(read_checkpoint(checkpoint_folder).policy)
    tensors = tensors_of(policy)
    tensors["velocity_layer.bias"][0] += 1e-3
    with pytest.raises(ArtifactError, match=r"differs from the policy by .*e-0[34], the tolerance is 1e-05"):
        check_parity(policy, flow_graph(policy.architecture), tensors)


def test_a_policy_blind_to_its_observation_is_refused(checkpoint_folder: Path, tmp_path: Path) -> None:
    """Without weights on the observation the export stops and writes nothing."""
    loaded = read_checkpoint(checkpoint_folder)
    with torch.no_grad():
        flow_policy(loaded.policy).observation_layer.weight.zero_()
    write_checkpoint(tmp_path / "blind", Checkpoint(loaded.specification, loaded.policy, {}))
    with pytest.raises(ArtifactError, match="ignores what it sees"):
        export_policy(tmp_path / "blind", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_artifact_carries_what_the_runtime_needs(artifact: Artifact, checkpoint_folder: Path) -> None:
    """Tensors are the checkpoint's, golden vectors the policy's, metrics pass through, generation is 1."""
    loaded = read_checkpoint(checkpoint_folder)
    manifest = artifact.manifest
    assert (manifest.generation, manifest.parent, manifest.swappable, manifest.noise_shape) == (1, None, True, (5, 4))
    assert manifest.specification_hash == loaded.specification.digest()
    assert manifest.metrics["success_easy"] == 0.875
    assert manifest.metrics["parity_error"] <= TOLERANCE
    for key, tensor in tensors_of(flow_policy(loaded.policy)).items():
        np.testing.assert_array_equal(artifact.tensors[key], tensor)
    observation, noise, chunk = (
        torch.from_numpy(artifact.golden[name].copy()) for name in ("observation", "noise", "chunk")
    )
    with torch.inference_mode():
        torch.testing.assert_close(chunk, loaded.policy(observation, noise), atol=TOLERANCE, rtol=0)


def test_exporting_again_replaces_an_artifact_but_nothing_else(
    artifact: Artifact, checkpoint_folder: Path, tmp_path: Path
) -> None:
    """The same folder can be exported to again; a folder with other files and a file are refused and left alone."""
    assert export_policy(checkpoint_folder, artifact.path).manifest == artifact.manifest
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("precious")
    with pytest.raises(ArtifactError, match=r"thesis\.tex"):
        export_policy(checkpoint_folder, tmp_path / "other")
    with pytest.raises(ArtifactError, match="is a file"):
        export_policy(checkpoint_folder, tmp_path / "other" / "thesis.tex")
    assert [item.name for item in (tmp_path / "other").iterdir()] == ["thesis.tex"]


def test_metrics_written_later_reach_the_artifact(checkpoint_folder: Path, tmp_path: Path) -> None:
    """What evaluation adds to the checkpoint is in the manifest of the next export."""
    loaded = read_checkpoint(checkpoint_folder)
    write_checkpoint(tmp_path / "evaluated", replace(loaded, metrics={"success_hard": 0.25}))
    assert export_policy(tmp_path / "evaluated", tmp_path / "out").manifest.metrics["success_hard"] == 0.25
