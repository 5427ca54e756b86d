"""Cases on which graphs and library are compared: observation, images and task as a robot has them, turned into model inputs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from poco.export.parity import SEED
from poco.learner.vla.adapter import Sizes
from poco.learner.vla.tokens import Tokenizer
from poco.specification import Specification
from poco.vla import Vla
from poco.vla_numbers import normalise, padded, physical_state, prompt_text

Array = npt.NDArray[np.generic]

TASKS = (
    "go",
    "pick up the object",
    "pick up the object and put it gently into the box on the left side",
)


@dataclass(frozen=True, slots=True)
class Raw:
    """What a robot has: observation [O] in -1 ... 1, images u8 [C, 3, H, W], which of them are there [C], a task, noise [T, W]."""

    observation: npt.NDArray[np.float32]
    images: npt.NDArray[np.uint8]
    image_mask: npt.NDArray[np.bool_]
    task: str
    noise: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a model takes, by source, and the physical state [S] that it was made of."""

    arrays: dict[str, Array]
    state: npt.NDArray[np.float32]

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt without padding."""
        return int(self.arrays["token_mask"].sum())


def raw_cases(vla: Vla, specification: Specification, sizes: Sizes) -> list[Raw]:
    """Return random cases with prompts of three lengths, all cameras there, and then each camera masked off in turn."""
    random = np.random.default_rng(SEED)
    there = np.array([item.camera is not None for item in vla.cameras])
    shape = (len(vla.cameras), 3, sizes.height, sizes.width)
    cases = [
        Raw(
            observation=random.uniform(-1, 1, specification.observation_size).astype(np.float32),
            images=random.integers(0, 256, shape, np.uint8),
            image_mask=there,
            task=task,
            noise=random.standard_normal((sizes.chunk, sizes.padded), np.float32),
        )
        for task in TASKS
    ]
    masked = [there & (np.arange(len(there)) != index) for index in np.flatnonzero(there)]
    return cases + [replace(cases[1], image_mask=mask) for mask in masked]


def inputs_of(raw: Raw, vla: Vla, specification: Specification, tokenizer: Tokenizer) -> Inputs:
    """Return `raw` as the model takes it."""
    state = physical_state(specification, raw.observation)
    seen = normalise(vla.state, state)
    tokens, token_mask = tokenizer.encode(prompt_text(vla, raw.task, seen), vla.prompt.length)
    pixels = raw.images.astype(np.float32) / np.float32(255.0) * np.float32(2.0) - np.float32(1.0)
    pixels[~raw.image_mask] = -1.0
    arrays: dict[str, Array] = {
        "pixels": pixels,
        "image_mask": raw.image_mask,
        "tokens": tokens,
        "token_mask": token_mask,
        "state": padded(seen, vla.width),
        "noise": raw.noise[None],
    }
    return Inputs(arrays, state)


def flipped(raw: Raw) -> dict[str, Raw]:
    """Return `raw` with one thing changed each: negative images, another task, the mirrored state, a camera gone."""
    first = int(np.flatnonzero(raw.image_mask)[0])
    gone = raw.image_mask & (np.arange(len(raw.image_mask)) != first)
    return {
        "images": replace(raw, images=255 - raw.images),
        "task": replace(raw, task=TASKS[0] if raw.task != TASKS[0] else TASKS[1]),
        "state": replace(raw, observation=-raw.observation),
        "image_mask": replace(raw, image_mask=gone),
    }
