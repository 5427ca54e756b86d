"""The files of a replay: their names, their header and what one row of each holds."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import numpy as np

from poco.specification import Specification
from poco.views import Shown

FORMAT = "poco-replay"
VERSION = 2
HEADER_FILE = "replay.json"
STEPS_FILE = "steps.bin"
VIEWS_FILE = "views.bin"
EPISODES_FILE = "episodes.bin"
STEPS_PER_EPISODE = 10
"""The episode table has one slot for so many rows; shorter episodes fill it before the rows are used up."""


class ReplayHeader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What fixes the layout of the binary files; `shown` are the images that are kept, if any."""

    format: str
    version: int
    specification: Specification
    specification_hash: str
    rows: int
    slots: int
    shown: Shown | None = None

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each binary file; the images at the ends of episodes follow those of the steps."""
        sizes = {
            STEPS_FILE: self.rows * step_record(self.specification).itemsize,
            EPISODES_FILE: self.slots * episode_record(self.specification).itemsize,
        }
        if self.shown is not None:
            sizes[VIEWS_FILE] = (self.rows + self.slots) * view_record(self.shown).itemsize
        return sizes


def bytes_of_a_slot(specification: Specification, shown: Shown | None) -> int:
    """Return how much one slot of the episode table takes with its rows in all files."""
    step, episode = step_record(specification).itemsize, episode_record(specification).itemsize
    view = 0 if shown is None else view_record(shown).itemsize
    return STEPS_PER_EPISODE * (step + view) + episode + view


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
