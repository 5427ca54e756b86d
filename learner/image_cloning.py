"""Behaviour cloning from images, end to end: flow-matching loss and an auxiliary loss of the pose, then a frozen encoder.

Images of a robot come without a pose; then there is the flow-matching loss alone.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from poco.errors import ArtifactError
from poco.learner.cloning import SMALLEST_STD
from poco.learner.demonstrations import Demonstrations, Recorded, split, windows
from poco.learner.image_policy import EncoderArchitecture, ImageArchitecture, ImagePolicy
from poco.learner.networks import Architecture
from poco.learner.resnet import Depth
from poco.specification import Specification
from poco.views import Views

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ImageWindows:
    """Training pairs: images u8 [N, cameras, 3, H, W] (a memory map will do), state [N, S], pose [N, P], chunk, valid [N, T]."""

    images: npt.NDArray[np.uint8]
    state: Floats
    pose: Floats
    chunk: Floats
    valid: Floats

    def __len__(self) -> int:
        return len(self.images)

    @classmethod
    def of(cls, episodes: Sequence[Recorded], specification: Specification) -> ImageWindows:
        """Cut `episodes` into windows as `demonstrations.windows` does, with the images that were seen where each begins.

        Raises ArtifactError if nothing is left or an episode holds no images.
        """
        cut = windows(episodes, specification)
        images, target = [], []
        for episode in episodes:
            if episode.views is None:
                raise ArtifactError(f"episode {episode.end.episode} holds no images: make data with --image-side")
            count = max(0, len(episode.rewards) - specification.delay_steps)
            images.append(episode.views.images[:count])
            target.append(episode.views.target[:count])
        return cls(np.concatenate(images), cut.observation, np.concatenate(target), cut.chunk, cut.valid)


@dataclass(frozen=True, slots=True)
class ImageCloningSettings:
    """Settings of one training run; `pose_weight` is that of the auxiliary loss, learning rate with cosine decay.

    Of each camera `features` numbers are kept; `depth` and `width` are those of its residual network.
    """

    steps: int = 5000
    seed: int = 0
    batch: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    pose_weight: float = 1.0
    validation_interval: int = 250
    validation_fraction: float = 0.1
    hidden_sizes: tuple[int, ...] = (128, 128, 128)
    features: int = 16
    depth: Depth = 10
    width: int = 16


@dataclass(frozen=True, slots=True)
class ImageCurvePoint:
    """Losses on held-out windows after `step` gradient steps: of the flow, and root mean square error of the pose."""

    step: int
    flow: float
    pose: float


@dataclass(frozen=True, slots=True)
class ClonedFromImages:
    """The policy with the lowest held-out flow loss, its encoder frozen, the curve from step 0 on and the figures of the run."""

    policy: ImagePolicy
    curve: tuple[ImageCurvePoint, ...]
    metrics: dict[str, float]


def clone_images(
    demonstrations: Demonstrations,
    settings: ImageCloningSettings,
    on_step: Callable[[int, float], None] | None = None,
    start: Callable[[ImagePolicy], None] | None = None,
) -> ClonedFromImages:
    """Train an ImagePolicy on `demonstrations` with images, end to end.

    `start` may fill the fresh policy, for example with published weights; `on_step(step, loss)` is called after every gradient
    step. The same settings and data give the same policy. Raises ArtifactError if there are fewer than two episodes, one of them
    has no images, or the loss stops being finite. Only a learner process may call it.
    """
    episodes, specification = demonstrations.episodes, demonstrations.specification
    training, validation = (
        ImageWindows.of([episodes[number] for number in part], specification)
        for part in split(len(episodes), settings.validation_fraction, settings.seed)
    )
    first = episodes[0].views
    assert first is not None
    architecture = _architecture(first, specification, settings)
    generator = torch.Generator().manual_seed(settings.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        policy = ImagePolicy(architecture)
    size = architecture.encoder.size
    policy.flow.mean[size:].copy_(torch.from_numpy(training.state.mean(0)))
    policy.flow.std[size:].copy_(torch.from_numpy(training.state.std(0)).clamp_min(SMALLEST_STD))
    if start is not None:
        start(policy)
    optimizer = torch.optim.AdamW(policy.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    curve = [_validate(policy, validation, settings, 0)]
    best, best_loss = copy.deepcopy(policy.state_dict()), math.inf
    for step in range(1, settings.steps + 1):
        index = torch.randint(len(training), (settings.batch,), generator=generator).numpy()
        flow, pose = _losses(policy, training, index, generator)
        loss = flow + settings.pose_weight * pose
        if not math.isfinite(loss.item()):
            raise ArtifactError(f"the loss is {loss.item()} after {step} steps: lower the learning rate")
        if on_step is not None:
            on_step(step, loss.item())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if step % settings.validation_interval == 0 or step == settings.steps:
            curve.append(_validate(policy, validation, settings, step))
            if curve[-1].flow < best_loss:
                best, best_loss = copy.deepcopy(policy.state_dict()), curve[-1].flow
    policy.load_state_dict(best)
    policy.freeze()
    metrics = {
        "training_steps": float(settings.steps),
        "training_windows": float(len(training)),
        "validation_windows": float(len(validation)),
        "validation_loss": best_loss,
        "validation_pose_error": min(curve, key=lambda point: point.flow).pose,
    }
    return ClonedFromImages(policy.eval(), tuple(curve), metrics)


def _architecture(views: Views, specification: Specification, settings: ImageCloningSettings) -> ImageArchitecture:
    encoder = EncoderArchitecture(
        cameras=views.cameras,
        side=views.images.shape[-1],
        features=settings.features,
        depth=settings.depth,
        width=settings.width,
    )
    flow = Architecture.of(specification, settings.hidden_sizes)
    flow = msgspec.structs.replace(flow, observation_size=encoder.size + flow.observation_size)
    return ImageArchitecture(encoder=encoder, pose_size=views.target.shape[1], flow=flow)


def _losses(
    policy: ImagePolicy, data: ImageWindows, index: npt.NDArray[np.int64], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    images, state, pose, chunk, valid = (
        torch.from_numpy(column[index]) for column in (data.images, data.state, data.pose, data.chunk, data.valid)
    )
    observation = policy.encoder(images, state)
    noise = torch.randn(chunk.shape, generator=generator)
    time = torch.rand(len(noise), generator=generator)
    flow = policy.flow.loss(policy.flow.encode(observation), chunk, noise, time, valid).mean()
    return flow, policy.pose_error(observation, pose).mean()


@torch.no_grad()
def _validate(policy: ImagePolicy, data: ImageWindows, settings: ImageCloningSettings, step: int) -> ImageCurvePoint:
    generator = torch.Generator().manual_seed(settings.seed)
    policy.eval()
    sums = np.zeros(2)
    for first in range(0, len(data), settings.batch):
        index = np.arange(first, min(first + settings.batch, len(data)))
        flow, pose = _losses(policy, data, index, generator)
        sums += len(index) * np.array([flow.item(), pose.item()])
    policy.train()
    return ImageCurvePoint(step, float(sums[0] / len(data)), math.sqrt(sums[1] / len(data)))
