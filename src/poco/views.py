"""What cameras saw during an episode, beside the observation vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from poco.records import Step


class Shown(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What comes with every observation: a square image of each of `cameras`, `side` pixels each way, and where the target is.

    The latter are `target_size` numbers, for training only.
    """

    cameras: tuple[str, ...]
    side: int
    target_size: int

    @property
    def image_shape(self) -> tuple[int, int, int, int]:
        """Shape of the images of one observation: cameras, colours, rows, columns."""
        return len(self.cameras), 3, self.side, self.side


@dataclass(frozen=True, slots=True, eq=False)
class Views:
    """What `cameras` saw at n steps of an episode and at the observation after them.

    `images` [n + 1, cameras, 3, side, side] (u8, red green blue); `target` [n + 1, P] in -1 ... 1 says where what the arm works on
    was, for training only.
    """

    cameras: tuple[str, ...]
    images: npt.NDArray[np.uint8]
    target: npt.NDArray[np.float32]

    @property
    def shown(self) -> Shown:
        """What kind of images and target these are."""
        return Shown(cameras=self.cameras, side=self.images.shape[-1], target_size=self.target.shape[1])

    @classmethod
    def joined(cls, parts: Sequence[Views]) -> Views:
        """Return the views of consecutive stretches of an episode as one; what ends one of them begins the next."""
        images, target = ([getattr(part, name)[:-1] for part in parts[:-1]] for name in ("images", "target"))
        last = parts[-1]
        return cls(last.cameras, np.concatenate([*images, last.images]), np.concatenate([*target, last.target]))


class Album:
    """Collects what `cameras` saw at every observation, until the steps that it belongs to are known; for one thread."""

    def __init__(self, cameras: tuple[str, ...]) -> None:
        self._cameras = cameras
        self._taken: dict[int, tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]] = {}
        self._newest = 0

    def put(self, tick: int, images: npt.NDArray[np.uint8], target: npt.NDArray[np.float32]) -> None:
        """Keep `images` [cameras, 3, side, side] and `target` [P] of the observation at robot tick `tick`, the newest now."""
        self._newest = tick
        self._taken[tick] = images, target

    def views(self, steps: Sequence[Step]) -> Views:
        """Return what was seen at each of `steps` and at the newest observation; everything older is forgotten."""
        seen = [self._taken[tick] for tick in (*(step.tick for step in steps), self._newest)]
        self._taken = {self._newest: seen[-1]}
        images, target = zip(*seen, strict=True)
        return Views(self._cameras, np.stack(images), np.stack(target))
