"""A policy that sees through cameras: residual encoders in front of the flow policy, frozen after cloning.

Every camera has its own encoder. What they make of the images, squeezed into -1 ... 1, and the proprioception form one observation
vector. While it is cloned the policy learns end to end, and a linear head reads the pose of what the arm works on from the
features, so that they hold where things are. Then the encoders freeze: an image is encoded once in its life, the vector takes
its place in replay and critic, and the flow policy behind it is what the agent improves.
"""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor, nn

from poco.errors import ArtifactError
from poco.learner.networks import Architecture, FlowPolicy
from poco.learner.resnet import STRIDE, Depth, ResNet
from poco.specification import Field, Specification

MAX_CAMERAS = 8
MAX_SIDE = 512
MAX_WIDTH = 64


class ImageArchitecture(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that fixes the shapes of an ImagePolicy; `side` is that of the square images (pixels)."""

    cameras: int
    side: int
    features: int
    pose_size: int
    flow: Architecture
    depth: Depth = 10
    width: int = 16

    def __post_init__(self) -> None:
        """Refuse sizes that no network has; raises ArtifactError."""
        if not 1 <= self.cameras <= MAX_CAMERAS or not 1 <= self.width <= MAX_WIDTH or self.pose_size < 1:
            raise ArtifactError(
                f"{self.cameras} cameras, width {self.width} and {self.pose_size} pose numbers: give 1 to {MAX_CAMERAS} "
                f"cameras, a width of 1 to {MAX_WIDTH} and at least one pose number"
            )
        if self.side % STRIDE or not STRIDE <= self.side <= MAX_SIDE:
            raise ArtifactError(
                f"images have a side of {self.side} pixels, must be a multiple of {STRIDE} up to {MAX_SIDE}"
            )
        if self.features < 1 or self.state_size < 0:
            raise ArtifactError(
                f"{self.cameras} cameras with {self.features} features do not fit into an observation of "
                f"{self.flow.observation_size}: give fewer features"
            )

    @property
    def state_size(self) -> int:
        """Number of elements of the proprioception, the rest of the observation."""
        return self.flow.observation_size - self.cameras * self.features


class ImageEncoder(nn.Module):
    """Images of all cameras and proprioception to one observation vector with elements in -1 ... 1."""

    def __init__(self, architecture: ImageArchitecture) -> None:
        super().__init__()
        cells = 8 * architecture.width * (architecture.side // STRIDE) ** 2
        cameras = range(architecture.cameras)
        self.networks = nn.ModuleList(ResNet(architecture.depth, architecture.width) for _ in cameras)
        self.squeezes = nn.ModuleList(nn.Linear(cells, architecture.features) for _ in cameras)

    def forward(self, images: Tensor, state: Tensor) -> Tensor:
        """Return the observation [B, O] of `images` [B, cameras, 3, H, W] (u8) and `state` [B, S] in -1 ... 1."""
        parts = [
            torch.tanh(squeeze(network(camera).flatten(1)))
            for network, squeeze, camera in zip(self.networks, self.squeezes, images.unbind(1), strict=True)
        ]
        return torch.cat((*parts, state), dim=-1)


class ImagePolicy(nn.Module):
    """Images, proprioception and noise to an action chunk [B, T, A] in -1 ... 1; learner processes call it."""

    def __init__(self, architecture: ImageArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.encoder = ImageEncoder(architecture)
        self.pose = nn.Linear(architecture.cameras * architecture.features, architecture.pose_size)
        self.flow = FlowPolicy(architecture.flow)

    def pose_error(self, observation: Tensor, pose: Tensor) -> Tensor:
        """Return the squared error [B] of the pose [B, P] in -1 ... 1 that the images in `observation` [B, O] show, mean over P."""
        seen: Tensor = self.pose(observation[:, : self.pose.in_features])
        return (seen - pose).square().mean(-1)

    def freeze(self) -> None:
        """Fix everything before the flow policy, running statistics included, for the rest of its life."""
        self.encoder.requires_grad_(False).eval()
        self.pose.requires_grad_(False)

    def forward(self, images: Tensor, state: Tensor, noise: Tensor) -> Tensor:
        """Return the chunks for `images` [B, cameras, 3, H, W] (u8), `state` [B, S] and `noise` [B, T, A]."""
        chunks: Tensor = self.flow(self.encoder(images, state), noise)
        return chunks


def with_features(specification: Specification, cameras: int, features: int) -> Specification:
    """Return `specification` with what frozen encoders make of the images in front of its observation."""
    size = cameras * features
    field = Field(name="images", source="images", frame="camera", unit="1", low=(-1.0,) * size, high=(1.0,) * size)
    return msgspec.structs.replace(specification, observation=(field, *specification.observation))
