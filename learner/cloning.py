"""Behaviour cloning: fit the flow policy to the chunks of demonstrations and keep the best one on held-out episodes."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from poco.errors import ArtifactError
from poco.learner.demonstrations import Demonstrations, Windows, split, windows
from poco.learner.networks import Architecture, FlowPolicy
from poco.learner.trained_policy import TrainedPolicy

CPU = torch.device("cpu")
SMALLEST_STD = 0.01
VALIDATION_DRAWS = 4


@dataclass(frozen=True, slots=True)
class CloningSettings:
    """Settings of one training run; `steps` gradient steps on batches of `batch` windows, learning rate with cosine decay."""

    steps: int = 20_000
    seed: int = 0
    batch: int = 256
    hidden_sizes: tuple[int, ...] = (128, 128, 128)
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    validation_fraction: float = 0.1
    validation_interval: int = 500


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Loss after `step` gradient steps: training loss averaged since the previous point, validation loss."""

    step: int
    training: float
    validation: float


@dataclass(frozen=True, slots=True)
class Cloned:
    """The policy with the lowest validation loss, the loss curve and the figures of the run."""

    policy: TrainedPolicy
    curve: tuple[CurvePoint, ...]
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True)
class _Batch:
    observation: Tensor
    chunk: Tensor
    valid: Tensor

    @classmethod
    def of(cls, data: Windows) -> _Batch:
        return cls(torch.from_numpy(data.observation), torch.from_numpy(data.chunk), torch.from_numpy(data.valid))

    def to(self, device: torch.device) -> _Batch:
        return _Batch(self.observation.to(device), self.chunk.to(device), self.valid.to(device))

    def rows(self, index: Tensor) -> _Batch:
        return _Batch(self.observation[index], self.chunk[index], self.valid[index])


def clone(
    demonstrations: Demonstrations,
    settings: CloningSettings,
    on_step: Callable[[int, float], None] | None = None,
    device: torch.device = CPU,
    start: TrainedPolicy | None = None,
) -> Cloned:
    """Train a fresh FlowPolicy, or `start`, on `demonstrations`; the same settings and data give the same one bit for bit on a CPU.

    `on_step(step, loss)` is called after every gradient step. Raises ArtifactError if there are fewer than two episodes
    or the loss stops being finite. Only a learner process may call it.
    """
    training, validation = (part.to(device) for part in _split(demonstrations, settings))
    generator = torch.Generator(device).manual_seed(settings.seed)
    policy: TrainedPolicy = _fresh_policy(demonstrations, settings, training) if start is None else copy.deepcopy(start)
    policy.to(device)
    optimizer = torch.optim.AdamW(policy.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    best, best_loss, curve, recent = copy.deepcopy(policy.state_dict()), math.inf, [], []
    for step in range(1, settings.steps + 1):
        index = torch.randint(len(training.observation), (settings.batch,), generator=generator, device=device)
        batch = training.rows(index)
        loss = _loss(policy, batch, generator)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        recent.append(loss.item())
        if not math.isfinite(recent[-1]):
            raise ArtifactError(f"the loss is {recent[-1]} after {step} steps: lower the learning rate")
        if on_step is not None:
            on_step(step, recent[-1])
        if step % settings.validation_interval == 0 or step == settings.steps:
            point = CurvePoint(step, float(np.mean(recent)), _validation_loss(policy, validation, settings.seed))
            curve.append(point)
            recent = []
            if point.validation < best_loss:
                best, best_loss = copy.deepcopy(policy.state_dict()), point.validation
    policy.load_state_dict(best)
    metrics = {
        "training_steps": float(settings.steps),
        "training_windows": float(len(training.observation)),
        "validation_windows": float(len(validation.observation)),
        "validation_loss": best_loss,
    }
    return Cloned(policy.cpu(), tuple(curve), metrics)


def _split(demonstrations: Demonstrations, settings: CloningSettings) -> tuple[_Batch, _Batch]:
    episodes = demonstrations.episodes
    training, validation = (
        windows([episodes[number] for number in part], demonstrations.specification)
        for part in split(len(episodes), settings.validation_fraction, settings.seed)
    )
    return _Batch.of(training), _Batch.of(validation)


def _fresh_policy(demonstrations: Demonstrations, settings: CloningSettings, training: _Batch) -> FlowPolicy:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        policy = FlowPolicy(Architecture.of(demonstrations.specification, settings.hidden_sizes))
    policy.mean.copy_(training.observation.mean(0))
    policy.std.copy_(training.observation.std(0).clamp_min(SMALLEST_STD))
    return policy


def _loss(policy: TrainedPolicy, batch: _Batch, generator: torch.Generator) -> Tensor:
    shape = (len(batch.chunk), *(policy.noise_shape or batch.chunk.shape[1:]))
    noise = torch.randn(shape, generator=generator, device=generator.device)
    time = torch.rand(len(noise), generator=generator, device=generator.device)
    return policy.loss(policy.encode(batch.observation), batch.chunk, noise, time, batch.valid).mean()


@torch.no_grad()
def _validation_loss(policy: TrainedPolicy, batch: _Batch, seed: int) -> float:
    generator = torch.Generator(batch.observation.device).manual_seed(seed)
    return float(np.mean([_loss(policy, batch, generator).item() for _ in range(VALIDATION_DRAWS)]))
