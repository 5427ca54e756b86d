"""Compact residual networks for images (He et al. 2015), with torchvision's names of layers so that published weights fit."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from poco.errors import ArtifactError

Depth = Literal[10, 18]
BLOCKS: dict[Depth, int] = {10: 1, 18: 2}
"""Residual blocks of two convolutions in each of the four stages."""

STRIDE = 32
IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_DEVIATION = (0.229, 0.224, 0.225)
"""Statistics of ImageNet, with which the published weights were trained."""

UNUSED = ("fc.weight", "fc.bias")
"""The classifier of published weights."""


class Block(nn.Module):
    """Two 3 x 3 convolutions and a way round them; the first one may halve the image."""

    def __init__(self, channels: int, wider: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, wider, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(wider)
        self.conv2 = nn.Conv2d(wider, wider, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(wider)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or channels != wider:
            self.downsample = nn.Sequential(nn.Conv2d(channels, wider, 1, stride, bias=False), nn.BatchNorm2d(wider))

    def forward(self, image: Tensor) -> Tensor:
        """Return the features [B, wider, h, w] of `image` [B, channels, H, W]."""
        inner = functional.relu(self.bn1(self.conv1(image)))
        return functional.relu(self.bn2(self.conv2(inner)) + self.downsample(image))


class ResNet(nn.Module):
    """Images [B, 3, H, W] (u8) to feature maps [B, 8 width, H / 32, W / 32]; width 64 is the published size."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, depth: Depth, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(IMAGE_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(IMAGE_DEVIATION).view(3, 1, 1), persistent=False)
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _stage(width, width, BLOCKS[depth], 1)
        self.layer2 = _stage(width, 2 * width, BLOCKS[depth], 2)
        self.layer3 = _stage(2 * width, 4 * width, BLOCKS[depth], 2)
        self.layer4 = _stage(4 * width, 8 * width, BLOCKS[depth], 2)

    def forward(self, images: Tensor) -> Tensor:
        """Return the feature maps of `images` [B, 3, H, W] (u8)."""
        x = (images.to(self.mean.dtype) / 255.0 - self.mean) / self.deviation
        x = functional.max_pool2d(functional.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        maps: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return maps


def _stage(channels: int, wider: int, blocks: int, stride: int) -> nn.Sequential:
    return nn.Sequential(Block(channels, wider, stride), *(Block(wider, wider, 1) for _ in range(blocks - 1)))


def load_weights(network: ResNet, file: Path) -> None:
    """Fill `network` from a safetensors file with torchvision's names; its classifier is left out.

    Raises ArtifactError, and changes nothing, if the file is not readable or holds other tensors than the network's, or
    values that are not finite.
    """
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"weights {file} are not readable ({error}): give a safetensors file") from error
    expected = {
        name: tensor for name, tensor in network.state_dict().items() if not name.endswith("num_batches_tracked")
    }
    found = {
        name: tensor
        for name, tensor in tensors.items()
        if name not in UNUSED and not name.endswith("num_batches_tracked")
    }
    odd = sorted(
        name
        for name in expected.keys() | found.keys()
        if name not in expected or name not in found or expected[name].shape != found[name].shape
    )
    if odd:
        raise ArtifactError(
            f"weights {file} do not fit this network ({len(odd)} tensors, first {odd[0]}): choose its depth and width"
        )
    for name, tensor in found.items():
        if not tensor.is_floating_point() or not torch.isfinite(tensor).all():
            raise ArtifactError(f"weights {file}: tensor {name} holds values that are not finite numbers: get it again")
    network.load_state_dict(found, strict=False)
