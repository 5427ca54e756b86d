"""A policy learns to see the peg-in-hole task from rendered pictures, freezes, and is improved like any other."""

from __future__ import annotations

import ctypes.util
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import poco
import rendered_demonstrations
from learning_toys import SMALL, critic_architecture
from poco.errors import ArtifactError
from poco.learner.agent import Agent
from poco.learner.critic import ChunkCritic
from poco.learner.demonstrations import Recorded
from poco.learner.image_cloning import ImageCloningSettings, ImageCurvePoint, ImageWindows, clone_images, encode_once
from poco.learner.image_policy import EncoderArchitecture, ImageArchitecture, ImagePolicy, with_features
from poco.learner.networks import Architecture
from poco.learner.replay import Replay
from poco.learner.resnet import Depth, ResNet, load_weights
from poco.records import EpisodeEnd
from poco.specification import Specification, read_specification

EPISODES, HELD_OUT = 60, 12
FEATURES = 8
CAMERAS = ("task", "opposite")
CHUNKS = rendered_demonstrations.CHUNKS
needs_renderer = pytest.mark.skipif(
    ctypes.util.find_library("EGL") is None and ctypes.util.find_library("OSMesa") is None,
    reason="neither libegl1 nor libosmesa6 is installed",
)


@dataclass(frozen=True)
class Lesson:
    """What was rendered and learned: windows seen and held out, the policy and its curve."""

    training: ImageWindows
    validation: ImageWindows
    policy: ImagePolicy
    curve: list[ImageCurvePoint]


@pytest.fixture(scope="module")
def lesson(tmp_path_factory: pytest.TempPathFactory) -> Lesson:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("rendered")
    subprocess.run([sys.executable, rendered_demonstrations.__file__, str(folder), str(EPISODES)], check=True)
    images, state, pose, chunk = (
        np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("images", "state", "pose", "chunk")
    )
    assert images.dtype == np.uint8
    pose = (pose - pose.mean(0)) / (2.0 * pose.std(0))
    split = CHUNKS * (EPISODES - HELD_OUT)
    training, validation = (
        ImageWindows(images[part], state[part], pose[part], chunk[part], np.ones(chunk[part].shape[:2], np.float32))
        for part in (slice(0, split), slice(split, None))
    )
    flow = Architecture(
        observation_size=len(CAMERAS) * FEATURES + state.shape[1],
        chunk_steps=chunk.shape[1],
        action_size=chunk.shape[2],
        hidden_sizes=(64, 64),
    )
    encoder = EncoderArchitecture(cameras=CAMERAS, side=images.shape[-1], features=FEATURES, width=8)
    architecture = ImageArchitecture(encoder=encoder, pose_size=3, flow=flow)
    settings = ImageCloningSettings(steps=80, batch=32, validation_interval=40)
    policy, curve = clone_images(architecture, training, validation, settings)
    return Lesson(training, validation, policy, curve)


@needs_renderer
def test_a_policy_learns_to_see(lesson: Lesson) -> None:
    """On scenes never seen, 80 steps leave three fifths at most of the error that the mean pose has, and the flow loss falls."""
    assert [point.step for point in lesson.curve] == [0, 40, 80]
    spread = float(np.sqrt(np.mean(np.square(lesson.validation.pose))))
    assert lesson.curve[-1].pose < 0.6 * spread
    assert lesson.curve[-1].pose < 0.6 * lesson.curve[0].pose
    assert lesson.curve[-1].flow < 0.85 * lesson.curve[0].flow


@needs_renderer
def test_a_frozen_policy_acts_on_what_was_encoded_once(lesson: Lesson) -> None:
    """Encoded in blocks and one by one, images give the same bounded observations, and the same chunks as from the images."""
    data, policy = lesson.validation, lesson.policy
    observations = encode_once(policy, data.images, data.state)
    assert observations.shape == (len(data), policy.architecture.flow.observation_size)
    assert np.max(np.abs(observations)) <= 1.0
    alone = np.concatenate([encode_once(policy, data.images[k : k + 1], data.state[k : k + 1]) for k in range(3)])
    np.testing.assert_allclose(alone, observations[:3], atol=1e-5)
    noise = torch.randn(data.chunk.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        seen = policy(torch.from_numpy(np.array(data.images)), torch.from_numpy(np.array(data.state)), noise)
        known = policy.flow(torch.from_numpy(observations), noise)
    torch.testing.assert_close(seen, known, atol=1e-5, rtol=0.0)


@needs_renderer
def test_the_agent_improves_what_stands_behind_the_frozen_encoder(lesson: Lesson, tmp_path: Path) -> None:
    """From pictures over the replay to POCO's update: the flow policy changes, encoder and its running statistics do not.

    One chunk of the demonstrations stands for one step of an episode here.
    """
    policy, data = lesson.policy, lesson.training
    blind = _without_target()
    specification = with_features(blind, policy.encoder)
    assert specification.observation_size == policy.architecture.flow.observation_size
    observations = encode_once(policy, data.images, data.state)
    replay = Replay.create(tmp_path / "replay", specification, 1_000_000)
    for episode in range(len(data) // CHUNKS):
        rows = slice(CHUNKS * episode, CHUNKS * (episode + 1))
        end = EpisodeEnd(
            robot="arm",
            boot_epoch=1,
            episode=episode,
            tick=0,
            final_observation=observations[rows][-1].tolist(),
            outcome="success",
            terminated=True,
            truncated=False,
        )
        rewards = np.eye(CHUNKS, dtype=np.float32)[-1]
        replay.admit(Recorded(specification, observations[rows], data.chunk[rows, 0], rewards, end))
    agent = Agent(policy.flow, ChunkCritic(critic_architecture(specification, SMALL)), SMALL, specification)
    frozen = {name: tensor.clone() for name, tensor in policy.encoder.state_dict().items()}
    before = [parameter.detach().clone() for parameter in policy.flow.parameters()]
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        figures = agent.update(replay.sample(16, generator), "learning", generator)
        assert all(np.isfinite(value) for value in figures.values())
    assert agent.refused == 0
    assert all(not torch.equal(old, new) for old, new in zip(before, policy.flow.parameters(), strict=True))
    assert all(torch.equal(tensor, policy.encoder.state_dict()[name]) for name, tensor in frozen.items())
    assert not any(parameter.requires_grad for parameter in policy.encoder.parameters())


def _without_target() -> Specification:
    specification = read_specification(Path(poco.__file__).parent / "configs" / "peg_in_hole_specification.yaml")
    kept = tuple(field for field in specification.observation if not field.name.startswith("target"))
    return msgspec.structs.replace(specification, observation=kept)


def published(depth: Depth, width: int) -> dict[str, Tensor]:
    """Return random weights under the names that torchvision gives those of its residual networks, classifier included."""
    generator = torch.Generator().manual_seed(0)

    def norm(name: str, channels: int) -> dict[str, Tensor]:
        parts = ("weight", "bias", "running_mean", "running_var")
        values = {f"{name}.{part}": torch.rand(channels, generator=generator) for part in parts}
        return {**values, f"{name}.num_batches_tracked": torch.tensor(7)}

    def convolution(name: str, wider: int, channels: int, side: int) -> dict[str, Tensor]:
        return {f"{name}.weight": 0.1 * torch.randn(wider, channels, side, side, generator=generator)}

    result = {**convolution("conv1", width, 3, 7), **norm("bn1", width)}
    channels = width
    for stage in range(4):
        wider = width << stage
        for block in range(1 if depth == 10 else 2):
            name = f"layer{stage + 1}.{block}"
            result |= convolution(f"{name}.conv1", wider, channels, 3) | norm(f"{name}.bn1", wider)
            result |= convolution(f"{name}.conv2", wider, wider, 3) | norm(f"{name}.bn2", wider)
            if block == 0 and stage > 0:
                result |= convolution(f"{name}.downsample.0", wider, channels, 1) | norm(f"{name}.downsample.1", wider)
            channels = wider
    return result | {"fc.weight": torch.zeros(1000, channels), "fc.bias": torch.zeros(1000)}


@pytest.mark.parametrize(("depth", "width"), [(18, 64), (10, 64), (10, 8)])
def test_published_weights_load(depth: Depth, width: int, tmp_path: Path) -> None:
    """Files with torchvision's names fill the network, every tensor of it; at width 64 ResNet-18 has its 11.2 million weights."""
    tensors = published(depth, width)
    save_file(tensors, tmp_path / "weights.safetensors")
    network = ResNet(depth, width).eval()
    load_weights(network, tmp_path / "weights.safetensors")
    for name, tensor in network.state_dict().items():
        assert name.endswith("num_batches_tracked") or torch.equal(tensor, tensors[name])
    if (depth, width) == (18, 64):
        assert sum(parameter.numel() for parameter in network.parameters()) == 11_176_512
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    assert network(images).shape == (1, 8 * width, 2, 2)


def test_weights_that_do_not_fit_change_nothing(tmp_path: Path) -> None:
    """A missing, a foreign, a misshapen, an infinite tensor and a file that is none are refused in one sentence each."""
    good = published(10, 8)
    without = {name: tensor for name, tensor in good.items() if name != "layer2.0.bn1.running_var"}
    cases = {
        "layer2.0.bn1.running_var": without,
        "extra": good | {"extra": torch.zeros(1)},
        "conv1.weight": good | {"conv1.weight": torch.zeros(8, 1, 7, 7)},
        "bn1.bias": good | {"bn1.bias": torch.full((8,), torch.inf)},
    }
    network, file = ResNet(10, 8), tmp_path / "weights.safetensors"
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for name, tensors in cases.items():
        save_file(tensors, file)
        with pytest.raises(ArtifactError, match=name):
            load_weights(network, file)
    file.write_bytes(b"no tensors")
    with pytest.raises(ArtifactError, match="not readable"):
        load_weights(network, file)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"cameras": ()}, "cameras"),
        ({"side": 50}, "side of 50"),
        ({"features": 0}, "0 features"),
        ({"features": 13}, "fewer features"),
    ],
)
def test_sizes_that_no_network_has_are_refused(change: dict[str, Any], says: str) -> None:
    """No camera, images that do not divide, no features, and more of them than the observation holds."""
    flow = Architecture(observation_size=24, chunk_steps=2, action_size=3)
    sizes: dict[str, Any] = {"cameras": CAMERAS, "side": 64, "features": 8} | change
    with pytest.raises(ArtifactError, match=says):
        ImageArchitecture(encoder=EncoderArchitecture(**sizes), pose_size=3, flow=flow)
