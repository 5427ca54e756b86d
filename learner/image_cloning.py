"""Behaviour cloning from images, end to end: flow-matching loss and an auxiliary loss of the pose, then a frozen encoder."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from poco.errors import ArtifactError
from poco.learner.image_policy import ImageArchitecture, ImagePolicy

Floats = npt.NDArray[np.float32]
ENCODED_ROWS = 256
"""So many images are encoded at a time."""


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


@dataclass(frozen=True, slots=True)
class ImageCloningSettings:
    """Settings of one training run; `pose_weight` is that of the auxiliary loss, learning rate with cosine decay."""

    steps: int = 5000
    seed: int = 0
    batch: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    pose_weight: float = 1.0
    validation_interval: int = 250


@dataclass(frozen=True, slots=True)
class ImageCurvePoint:
    """Losses on held-out windows after `step` gradient steps: of the flow, and root mean square error of the pose."""

    step: int
    flow: float
    pose: float


def clone_images(
    architecture: ImageArchitecture,
    training: ImageWindows,
    validation: ImageWindows,
    settings: ImageCloningSettings,
    start: Callable[[ImagePolicy], None] | None = None,
) -> tuple[ImagePolicy, list[ImageCurvePoint]]:
    """Train an ImagePolicy and return the one with the lowest held-out flow loss, frozen, and the curve from step 0 on.

    `start` may fill the fresh policy, for example with published weights. The same settings and data give the same policy.
    Raises ArtifactError if the loss stops being finite. Only a learner process may call it.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        policy = ImagePolicy(architecture)
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
    return policy.eval(), curve


@torch.no_grad()
def encode_once(policy: ImagePolicy, images: npt.NDArray[np.uint8], state: Floats) -> Floats:
    """Return the observations [N, O] of all `images` [N, cameras, 3, H, W] (u8) and `state` [N, S], by a frozen encoder."""
    blocks = [slice(first, first + ENCODED_ROWS) for first in range(0, len(images), ENCODED_ROWS)]
    parts = [
        policy.encoder(torch.from_numpy(np.array(images[rows])), torch.from_numpy(np.array(state[rows])))
        for rows in blocks
    ]
    observations: Floats = torch.cat(parts).numpy()
    return observations


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
