"""An exported encoder is the one that was trained, closed and constant, and stands before a policy whose weights are inputs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
import torch

from poco.artifact import Artifact
from poco.errors import ArtifactError
from poco.export.encoder_graph import encoder_graph
from poco.export.parity import TOLERANCE, check_encoder, chunks_of, open_graph
from poco.export.policy import export_policy
from poco.learner.checkpoint import Checkpoint, write_checkpoint
from poco.learner.encoder import with_features
from poco.learner.image_policy import EncoderArchitecture, ImageEncoder
from poco.learner.networks import Architecture, FlowPolicy
from poco.learner.publish import policy_of
from poco.learner.resnet import Depth
from poco.runtime.encoder import Encoder
from poco.runtime.graph_check import check_operators
from poco.runtime.session import Session
from poco.specification import Specification

STATE = 5


def encoder_of(depth: Depth = 10, width: int = 2, seed: int = 3) -> ImageEncoder:
    """An encoder of two cameras whose weights are drawn and whose running statistics and gains have moved."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = ImageEncoder(
            EncoderArchitecture(cameras=("left", "right"), side=32, features=3, depth=depth, width=width)
        )
        for name, parameter in encoder.named_parameters():
            if "bn" in name or "downsample.1" in name:
                torch.nn.init.uniform_(parameter, 0.5, 1.5)
        for _ in range(3):
            encoder(torch.randint(0, 256, (8, 2, 3, 32, 32), dtype=torch.uint8), torch.zeros(8, STATE))
    return encoder.freeze()


@pytest.fixture(scope="module")
def encoder() -> ImageEncoder:
    return encoder_of()


@pytest.fixture(scope="module")
def exported(encoder: ImageEncoder, specification: Specification, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("seeing")
    return export_policy(checkpoint(folder / "checkpoint", encoder, specification, seed=1), folder / "artifact")


def checkpoint(folder: Path, encoder: ImageEncoder, specification: Specification, seed: int) -> Path:
    seen = with_features(specification, encoder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        policy = FlowPolicy(Architecture.of(seen, (16, 16)))
    write_checkpoint(folder, Checkpoint(seen, policy, {"success_easy": 0.5}, encoder))
    return folder


@pytest.mark.parametrize(("depth", "width"), [(10, 4), (18, 2)])
def test_graph_equals_the_encoder(depth: Depth, width: int) -> None:
    """On 16 cases graph and torch agree to 1e-5, and the features of both cameras depend on their images."""
    parity = check_encoder(encoder := encoder_of(depth, width), encoder_graph(encoder, STATE), STATE)
    assert parity.error <= TOLERANCE == 1e-5
    assert parity.images.shape == (16, 2, 3, 32, 32)
    assert parity.observation.shape == (16, 2 * 3 + STATE)
    assert parity.sensitivity > 0.01
    np.testing.assert_array_equal(parity.observation[:, 6:], parity.state)


def test_all_weights_are_constants(encoder: ImageEncoder) -> None:
    """Images and state are the only inputs, equal encoders give equal bytes, and a robot allows every operator."""
    graph = encoder_graph(encoder, STATE)
    model = onnx.load_model_from_string(graph)
    seen = {item.name: [axis.dim_value for axis in item.type.tensor_type.shape.dim] for item in model.graph.input}
    assert seen == {"images": [1, 2, 3, 32, 32], "state": [1, STATE]}
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert not any(node.op_type == "BatchNormalization" for node in model.graph.node)
    check_operators(graph)
    assert graph == encoder_graph(encoder_of(), STATE)
    assert graph != encoder_graph(encoder_of(seed=4), STATE)


def test_an_encoder_that_differs_learns_or_is_blind_is_refused(encoder: ImageEncoder) -> None:
    """The graph of another encoder, one that is not frozen, and one that no image moves."""
    with pytest.raises(ArtifactError, match="differs from the one that was trained"):
        check_encoder(encoder, encoder_graph(encoder_of(seed=4), STATE), STATE)
    with pytest.raises(ArtifactError, match="still learns"):
        encoder_graph(encoder_of().train(), STATE)
    blind = encoder_of()
    blind.get_parameter("squeezes.1.weight").zero_()
    with pytest.raises(ArtifactError, match="ignores what it sees"):
        check_encoder(blind, encoder_graph(blind, STATE), STATE)


def test_the_artifact_goes_from_images_to_chunks(exported: Artifact, encoder: ImageEncoder) -> None:
    """Golden images through both graphs give the golden chunks; the policy reads the encoder's output and may be swapped."""
    manifest, golden = exported.manifest, exported.golden
    assert [graph.name for graph in manifest.graphs] == ["encoder", "policy"]
    assert [item.source for item in manifest.graphs[0].inputs] == ["images", "state"]
    assert manifest.graphs[1].inputs[0].source == "graph:observation" == f"graph:{manifest.graphs[0].outputs[0].name}"
    assert manifest.swappable
    assert not any(key.startswith("encoder") for key in exported.tensors)
    assert max(manifest.metrics[f"{name}_error"] for name in ("parity", "encoder_parity", "image_parity")) <= TOLERANCE
    eyes, head = open_graph(exported.graphs["encoder"]), open_graph(exported.graphs["policy"])
    for case in range(len(golden["images"])):
        (observation,) = eyes.run(None, {name: golden[name][case][None] for name in ("images", "state")})
        chunk = chunks_of(head, observation, golden["noise"][case][None], exported.tensors)  # type: ignore[arg-type]
        np.testing.assert_allclose(observation[0], golden["observation"][case], atol=1e-6)
        np.testing.assert_allclose(chunk[0], golden["chunk"][case], atol=1e-5)
    assert np.array_equal(
        policy_of(exported).state_dict()["velocity_layer.bias"].numpy(), exported.tensors["velocity_layer.bias"]
    )


def test_only_another_encoder_makes_another_graph(
    exported: Artifact, encoder: ImageEncoder, specification: Specification, tmp_path: Path
) -> None:
    """A policy that learned on fits where its predecessor ran; one behind another encoder does not, by graph and specification."""
    learned = export_policy(checkpoint(tmp_path / "a", encoder, specification, seed=2), tmp_path / "learned").manifest
    other = export_policy(
        checkpoint(tmp_path / "b", encoder_of(seed=4), specification, seed=1), tmp_path / "other"
    ).manifest
    ours = exported.manifest
    assert (learned.graph_hash, learned.specification_hash) == (ours.graph_hash, ours.specification_hash)
    assert learned.tensors != ours.tensors
    assert other.graph_hash != ours.graph_hash
    assert other.specification_hash != ours.specification_hash


def test_the_runtime_sees_what_torch_sees(exported: Artifact, encoder: ImageEncoder) -> None:
    """The robot's encoder gives torch's observations, whatever it ran before; policy and encoder start together."""
    eyes = Encoder(exported)
    assert (eyes.cameras, eyes.side) == (("left", "right"), 32)
    generator = np.random.default_rng(5)
    for _ in range(8):
        images = generator.integers(0, 256, (2, 3, 32, 32), np.uint8)
        state = generator.uniform(-1.0, 1.0, exported.specification.told.observation_size).astype(np.float32)
        with torch.inference_mode():
            wanted = encoder(torch.from_numpy(images)[None], torch.from_numpy(state)[None])[0].numpy()
        np.testing.assert_allclose(eyes.run(images, state), wanted, atol=TOLERANCE)
    Session(exported).warm_up()


def test_an_encoder_that_sees_otherwise_is_refused(exported: Artifact) -> None:
    """Golden observations that are not reproduced, missing golden images, and an encoder for other cameras."""
    golden = dict(exported.golden)
    moved = golden | {"observation": golden["observation"].astype(np.float32) + np.float32(0.01)}
    with pytest.raises(ArtifactError, match="differs from its golden observations"):
        Encoder(replace(exported, golden=moved))
    with pytest.raises(ArtifactError, match="golden images of a wrong shape"):
        Encoder(replace(exported, golden={name: golden[name] for name in golden if name != "images"}))
    one = exported.specification
    one = msgspec.structs.replace(one, observation=one.observation[1:])
    with pytest.raises(ArtifactError, match="images of 1 cameras"):
        Encoder(replace(exported, manifest=msgspec.structs.replace(exported.manifest, specification=one)))
