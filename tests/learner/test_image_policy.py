"""Residual networks take published weights; sizes that no network has are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from poco.errors import ArtifactError
from poco.learner.image_policy import EncoderArchitecture, ImageArchitecture
from poco.learner.networks import Architecture
from poco.learner.resnet import Depth, ResNet, load_weights


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
    sizes: dict[str, Any] = {"cameras": ("near", "wrist"), "side": 64, "features": 8} | change
    with pytest.raises(ArtifactError, match=says):
        ImageArchitecture(encoder=EncoderArchitecture(**sizes), pose_size=3, flow=flow)
