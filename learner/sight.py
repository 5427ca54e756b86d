"""From images to observations: what a frozen encoder makes of them takes their place, in environments and in recorded episodes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import gymnasium
import msgspec
import numpy as np
import numpy.typing as npt
import torch

from poco.errors import ArtifactError, UsageError
from poco.learner.demonstrations import Recorded
from poco.learner.encoder import Encoder, with_features
from poco.learner.environment_process import Answer
from poco.learner.rollouts import Environment, shown_by, specification_of
from poco.specification import Specification
from poco.views import Shown, Views

Floats = npt.NDArray[np.float32]

ENCODED_BYTES = 1 << 23
"""So much of images is encoded at a time, at least one observation: what an encoder computes grows with their size."""


@torch.no_grad()
def encode(encoder: Encoder, images: npt.NDArray[np.uint8], state: Floats) -> Floats:
    """Return the observations [N, O] of `images` [N, cameras, 3, H, W] (u8) and `state` [N, S], by a frozen encoder.

    `images` may be a memory map. Raises ArtifactError if they are not of the encoder's cameras and size.
    """
    taken = (len(encoder.cameras), 3, encoder.side, encoder.side)
    if images.shape[1:] != taken:
        raise ArtifactError(
            f"images have the shape {list(images.shape[1:])}, the encoder takes {list(taken)}: make data or environment with "
            f"--image-side {encoder.side}"
        )
    count = max(1, ENCODED_BYTES // math.prod(taken))
    blocks = [slice(first, first + count) for first in range(0, len(images), count)]
    parts = [
        encoder(torch.from_numpy(np.array(images[rows])), torch.from_numpy(np.array(state[rows]))) for rows in blocks
    ]
    observations: Floats = torch.cat(parts).numpy()
    return observations


def encoded(episode: Recorded, encoder: Encoder, specification: Specification) -> Recorded:
    """Return `episode` as the policy behind `encoder` sees it, under `specification`, its own with the features.

    Raises ArtifactError if it holds no images or those of other cameras, or was recorded under another specification.
    """
    views = _expected(episode.views, encoder)
    ours = specification.told.digest()
    if episode.specification.digest() != ours:
        raise ArtifactError(
            f"episode {episode.end.episode} has specification {episode.specification.digest()[:12]}, the policy that sees was "
            f"cloned under {ours[:12]}: give the data that it was cloned from"
        )
    state = np.concatenate([episode.observations, [episode.end.final_observation]]).astype(np.float32)
    seen = encode(encoder, views.images, state)
    end = msgspec.structs.replace(episode.end, final_observation=seen[-1].tolist())
    return Recorded(specification, seen[:-1], episode.actions_policy, episode.rewards, end, views)


class FrozenEyes:
    """Makes the observations of one environment that records under `specification` and gives the images `shown`.

    Each image is encoded once. Raises UsageError for an environment without images.
    """

    def __init__(self, encoder: Encoder, specification: Specification, shown: Shown | None) -> None:
        if shown is None:
            raise UsageError(
                "the policy sees through cameras, but the environment gives no images: let its settings name an image_side"
            )
        self._encoder, self._specification, self.shown = encoder, with_features(specification, encoder), shown
        self._newest: Floats

    @property
    def specification(self) -> Specification:
        """The contract of the observations it makes: that of the environment with the features."""
        return self._specification

    def look(self, answer: Answer) -> Answer:
        """Return `answer` with what the encoder makes of its images in front of every observation, in its steps as well.

        The first step has the observation of the answer before. Raises ArtifactError for images of other cameras or sizes.
        """
        views, steps = _expected(answer.views, self._encoder), answer.steps
        states = np.array([*(step.observation for step in steps[1:]), answer.observation], np.float32)
        fresh = encode(self._encoder, views.images[-len(states) :], states)
        seen = [*([self._newest] if steps else []), *fresh]
        self._newest = fresh[-1]
        final = self._newest.tolist()
        return replace(
            answer,
            observation=self._newest,
            steps=[
                msgspec.structs.replace(step, observation=row.tolist())
                for step, row in zip(steps, seen[: len(steps)], strict=True)
            ],
            end=None if answer.end is None else msgspec.structs.replace(answer.end, final_observation=final),
        )


class Seeing(gymnasium.Env[Floats, Floats]):
    """`environment`, which lives in this process, seen through the frozen `encoder`; raises UsageError if it gives no images."""

    def __init__(self, environment: Environment, encoder: Encoder) -> None:
        self._environment = environment
        self._eyes = FrozenEyes(encoder, specification_of(environment), shown_by(environment))

    @property
    def specification(self) -> Specification:
        """The contract under which steps are recorded."""
        return self._eyes.specification

    @property
    def shown(self) -> Shown:
        """What the observations are made from."""
        return self._eyes.shown

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Floats, dict[str, Any]]:
        """Begin the episode of `seed` and return its first observation."""
        state, info = self._environment.reset(seed=seed, options=options)
        answer = self._eyes.look(Answer(state, 0.0, False, False, [], None, info["views"]))
        return answer.observation, info

    def step(self, action: Floats) -> tuple[Floats, float, bool, bool, dict[str, Any]]:
        """Execute the chunk `action` [T, A]."""
        state, reward, terminated, truncated, info = self._environment.step(action)
        answer = Answer(state, float(reward), terminated, truncated, info["steps"], info.get("end"), info["views"])
        seen = self._eyes.look(answer)
        info["steps"] = seen.steps
        if seen.end is not None:
            info["end"] = seen.end
        return seen.observation, seen.reward, seen.terminated, seen.truncated, info

    def close(self) -> None:
        """Close the environment."""
        self._environment.close()


def _expected(views: Views | None, encoder: Encoder) -> Views:
    cameras = encoder.cameras
    if views is None or views.cameras != cameras:
        raise ArtifactError(
            f"the policy sees through the cameras {', '.join(cameras)}, there are images of "
            f"{', '.join(views.cameras) if views else 'none'}: make data with --image-side"
        )
    return views
