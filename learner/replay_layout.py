"""The files of a replay: their names, their header and what one row of each holds."""

from __future__ import annotations

import math
import os
from pathlib import Path

import msgspec
import numpy as np

from poco.errors import ArtifactError
from poco.specification import Specification
from poco.views import Shown

FORMAT = "poco-replay"
VERSION = 2
HEADER_FILE = "replay.json"
STEPS_FILE = "steps.bin"
VIEWS_FILE = "views.bin"
PLACES_FILE = "places.bin"
EPISODES_FILE = "episodes.bin"
PLACE = np.dtype("<i4")
STEPS_PER_EPISODE = 10
"""The episode table has one slot for so many rows; shorter episodes fill it before the rows are used up."""


class ReplayHeader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What fixes the layout of the binary files; `shown` are the images that are kept, if any.

    With `images` there is room for so many observations' images, and the file of places says whose lie where; without, each
    observation has room of its own.
    """

    format: str
    version: int
    specification: Specification
    specification_hash: str
    rows: int
    slots: int
    shown: Shown | None = None
    images: int | None = None

    @classmethod
    def within(
        cls, max_bytes: int, specification: Specification, shown: Shown | None, image_interval: int
    ) -> ReplayHeader:
        """Return the largest layout of at most `max_bytes` for images that come every `image_interval` steps.

        Raises ArtifactError if that is too little for an episode.
        """
        step, episode = step_record(specification).itemsize, episode_record(specification).itemsize
        image = 0 if shown is None else view_record(shown).itemsize
        sparse = shown is not None and image_interval > 1
        observations = STEPS_PER_EPISODE + 1
        slot, spare = STEPS_PER_EPISODE * step + episode, image if sparse else 0
        if sparse:
            slot += observations * PLACE.itemsize + math.ceil(STEPS_PER_EPISODE * image / image_interval)
        else:
            slot += observations * image
        slots = (max_bytes - spare) // slot
        if slots < 1:
            raise ArtifactError(f"replay size is {max_bytes} bytes, must be at least {slot + spare}: raise it")
        rows = slots * STEPS_PER_EPISODE
        return cls(
            format=FORMAT,
            version=VERSION,
            specification=specification,
            specification_hash=specification.digest(),
            rows=rows,
            slots=slots,
            shown=shown,
            images=rows // image_interval + 1 if sparse else None,
        )

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each binary file; what belongs to the ends of episodes follows what belongs to steps."""
        sizes = {
            STEPS_FILE: self.rows * step_record(self.specification).itemsize,
            EPISODES_FILE: self.slots * episode_record(self.specification).itemsize,
        }
        if self.shown is not None:
            sizes[VIEWS_FILE] = (self.images or self.rows + self.slots) * view_record(self.shown).itemsize
        if self.images is not None:
            sizes[PLACES_FILE] = (self.rows + self.slots) * PLACE.itemsize
        return sizes


def step_record(specification: Specification) -> np.dtype[np.void]:
    """Return what is kept of one step."""
    observation, action = specification.observation_size, specification.action_size
    return np.dtype([("observation", "f4", (observation,)), ("action", "f4", (action,)), ("reward", "f4")])


def episode_record(specification: Specification) -> np.dtype[np.void]:
    """Return what is kept of one episode besides its steps."""
    return np.dtype(
        [
            ("number", "i8"),
            ("first", "i8"),
            ("steps", "i8"),
            ("position", "i8"),
            ("boot_epoch", "i8"),
            ("episode", "i8"),
            ("robot", "S64"),
            ("revision", "i4"),
            ("success", "u1"),
            ("terminated", "u1"),
            ("reserved", "u2"),
            ("final_observation", "f4", (specification.observation_size,)),
        ],
        align=True,
    )


def allocate(path: Path, size: int) -> None:
    """Make a file of `size` bytes that all exist on the disk."""
    with path.open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, size)


def view_record(shown: Shown) -> np.dtype[np.void]:
    """Return what is kept of one observation's images and target."""
    return np.dtype([("images", "u1", shown.image_shape), ("target", "f4", (shown.target_size,))])
