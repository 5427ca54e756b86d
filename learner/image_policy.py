"""A policy that sees through cameras: residual encoders in front of the flow policy, frozen after cloning.

Every camera has its own encoder. What they make of the images, squeezed into -1 ... 1, and the proprioception form one observation
vector. While it is cloned the policy learns end to end, and a linear head reads the pose of what the arm works on from the
features, so that they hold where things are. Then the encoders freeze: an image is encoded once in its life, the vector takes
its place in replay and critic, and the flow policy behind it is what the agent improves.
"""

from __future__ import annotations

import hashlib

import msgspec
import torch
from torch import Tensor, nn

from poco.errors import ArtifactError
from poco.learner.networks import Architecture, FlowPolicy
from poco.learner.resnet import STRIDE, Depth, ResNet

MAX_CAMERAS = 8
MAX_SIDE = 512
MAX_WIDTH = 64
MAX_FEATURES = 512
COUNTER = "num_batches_tracked"


class EncoderArchitecture(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that fixes the shapes of an ImageEncoder: `cameras` by name, `side` of their square images (pixels)."""

    cameras: tuple[str, ...]
    side: int
    features: int
    depth: Depth = 10
    width: int = 16

    def __post_init__(self) -> None:
        """Refuse sizes that no network has; raises ArtifactError."""
        if not 1 <= len(self.cameras) <= MAX_CAMERAS or not 1 <= self.width <= MAX_WIDTH:
            raise ArtifactError(
                f"{len(self.cameras)} cameras and width {self.width}: give 1 to {MAX_CAMERAS} cameras and a width of 1 to "
                f"{MAX_WIDTH}"
            )
        if self.side % STRIDE or not STRIDE <= self.side <= MAX_SIDE:
            raise ArtifactError(
                f"images have a side of {self.side} pixels, must be a multiple of {STRIDE} up to {MAX_SIDE}"
            )
        if not 1 <= self.features <= MAX_FEATURES:
            raise ArtifactError(f"{self.features} features of each camera, must be 1 to {MAX_FEATURES}")

    @property
    def size(self) -> int:
        """Number of elements that the images take in an observation."""
        return len(self.cameras) * self.features

    @property
    def image_shape(self) -> tuple[int, int, int, int]:
        """Shape of the images of one observation: cameras, colours, rows, columns."""
        return len(self.cameras), 3, self.side, self.side


class ImageArchitecture(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that fixes the shapes of an ImagePolicy; `pose_size` numbers tell where what the arm works on is.

    There are none in data that do not say so; then there is no second loss either.
    """

    encoder: EncoderArchitecture
    pose_size: int
    flow: Architecture

    def __post_init__(self) -> None:
        """Refuse what does not fit together; raises ArtifactError."""
        if self.pose_size < 0:
            raise ArtifactError(f"{self.pose_size} pose numbers, must be at least 0")
        if self.encoder.size > self.flow.observation_size:
            raise ArtifactError(
                f"{len(self.encoder.cameras)} cameras with {self.encoder.features} features do not fit into an observation of "
                f"{self.flow.observation_size}: give fewer features"
            )


class ImageEncoder(nn.Module):
    """Images of all cameras and proprioception to one observation vector with elements in -1 ... 1."""

    def __init__(self, architecture: EncoderArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        cells = 8 * architecture.width * (architecture.side // STRIDE) ** 2
        cameras = architecture.cameras
        self.networks = nn.ModuleList(ResNet(architecture.depth, architecture.width) for _ in cameras)
        self.squeezes = nn.ModuleList(nn.Linear(cells, architecture.features) for _ in cameras)

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras in the order of their images."""
        return self.architecture.cameras

    @property
    def side(self) -> int:
        """Side of the images in pixels."""
        return self.architecture.side

    @property
    def features(self) -> int:
        """Numbers that an image becomes."""
        return self.architecture.features

    def forward(self, images: Tensor, state: Tensor) -> Tensor:
        """Return the observation [B, O] of `images` [B, cameras, 3, H, W] (u8) and `state` [B, S] in -1 ... 1."""
        parts = [
            torch.tanh(squeeze(network(camera).flatten(1)))
            for network, squeeze, camera in zip(self.networks, self.squeezes, images.unbind(1), strict=True)
        ]
        return torch.cat((*parts, state), dim=-1)

    def freeze(self) -> ImageEncoder:
        """Fix all of it, running statistics included, for the rest of its life; return itself."""
        return self.requires_grad_(False).eval()

    def weights(self) -> dict[str, Tensor]:
        """Return the tensors that decide what it makes of an image; how many batches it has seen is not among them."""
        return {name: tensor for name, tensor in self.state_dict().items() if not name.endswith(COUNTER)}

    def digest(self) -> str:
        """Return the hash of shapes and weights, which names the encoder in the specification of what it has encoded."""
        digest = hashlib.sha256(msgspec.json.encode(self.architecture))
        for name, tensor in sorted(self.weights().items()):
            digest.update(name.encode() + tensor.numpy(force=True).tobytes())
        return digest.hexdigest()


class ImagePolicy(nn.Module):
    """Images, proprioception and noise to an action chunk [B, T, A] in -1 ... 1; learner processes call it."""

    def __init__(self, architecture: ImageArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.encoder = ImageEncoder(architecture.encoder)
        self.pose = nn.Linear(architecture.encoder.size, architecture.pose_size) if architecture.pose_size else None
        self.flow = FlowPolicy(architecture.flow)

    def pose_error(self, observation: Tensor, pose: Tensor) -> Tensor:
        """Return the squared error [B] of the pose [B, P] in -1 ... 1 that the images in `observation` [B, O] show, mean over P.

        It is 0 where there is no pose.
        """
        if self.pose is None:
            return observation.new_zeros(len(observation))
        seen: Tensor = self.pose(observation[:, : self.pose.in_features])
        return (seen - pose).square().mean(-1)

    def freeze(self) -> None:
        """Fix everything before the flow policy, running statistics included, for the rest of its life."""
        self.encoder.freeze()
        if self.pose is not None:
            self.pose.requires_grad_(False)

    def forward(self, images: Tensor, state: Tensor, noise: Tensor) -> Tensor:
        """Return the chunks for `images` [B, cameras, 3, H, W] (u8), `state` [B, S] and `noise` [B, T, A]."""
        chunks: Tensor = self.flow(self.encoder(images, state), noise)
        return chunks
