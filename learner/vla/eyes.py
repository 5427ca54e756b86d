"""What a vision-language-action policy was shown: a mark stands for each image in an observation, and the image is found by it.

Prefixes are made of images, but neither prefix nor image fits into an observation that replay and critic can hold. So the frozen
vision part counts as an encoder whose numbers for an image are its mark, 64 bits of its hash: the same for the same image, others
for others. The newest images are kept in memory, all others lie where their episodes do.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from poco.errors import ArtifactError
from poco.learner.demonstrations import EpisodeColumns
from poco.learner.replay import Replay

Pixels = npt.NDArray[np.uint8]

MARK = 4
"""So many numbers stand for an image, 16 bits of its hash each."""

NEWEST_BYTES = 1 << 26
"""So much of the newest images is kept in memory."""

NEWEST_LEAST = 512
"""At least so many are, however large: those of all steps that are being acted."""

HALF = 1 << 15

NOTHING = bytes(MARK * 4)
"""The mark of an image that is not there."""

NOWHERE = (0, 0, 0)
"""Number of the episode, row and camera of an image that the replay does not hold."""


class Album(Protocol):
    """Where older images lie."""

    def find(self, mark: bytes) -> Pixels | None:
        """Return the image [3, side, side] with `mark`, none if it is not here."""
        ...


class Eyes:
    """The `Encoder` of a policy whose vision part has the hash `frozen_sha256`; all its copies share it, in one learner process."""

    features = MARK

    def __init__(self, cameras: tuple[str, ...], side: int, frozen_sha256: str) -> None:
        self.cameras, self.side = cameras, side
        self._name = hashlib.sha256(f"{frozen_sha256} {side} {' '.join(cameras)}".encode()).hexdigest()
        self._newest: OrderedDict[bytes, Pixels] = OrderedDict()
        self._newest_max = max(NEWEST_LEAST, NEWEST_BYTES // (3 * side * side))
        self.albums: list[Album] = []

    @property
    def size(self) -> int:
        """Number of elements that the marks take in an observation."""
        return MARK * len(self.cameras)

    def digest(self) -> str:
        """Return the hash of vision part, cameras and size of the images."""
        return self._name

    def __call__(self, images: Tensor, state: Tensor) -> Tensor:
        """Return the marks of `images` [B, cameras, 3, side, side] (u8) in front of `state` [B, S], and remember the images."""
        marks = [[self._marked(image) for image in row] for row in images.numpy()]
        return torch.cat((torch.from_numpy(np.array(marks, np.float32)).flatten(1), state), dim=-1)

    def look(self, marks: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images [B, cameras, 3, side, side] (u8) with `marks` [B, size], and which of them are there [B, cameras].

        Raises ArtifactError for a mark whose image is nowhere.
        """
        rows = marks.detach().cpu().numpy().reshape(len(marks), len(self.cameras), MARK)
        images = np.zeros((*rows.shape[:2], 3, self.side, self.side), np.uint8)
        there = np.zeros(rows.shape[:2], np.bool_)
        for place in np.ndindex(*there.shape):
            mark = rows[place].tobytes()
            if mark != NOTHING:
                images[place], there[place] = self._found(mark), True
        return torch.from_numpy(images), torch.from_numpy(there)

    def _marked(self, image: Pixels) -> npt.NDArray[np.float32]:
        """Return the mark of `image`; a wholly black one, which robots record for a camera that shows nothing, is not there."""
        if not image.any():
            return np.zeros(MARK, np.float32)
        bits = np.frombuffer(hashlib.sha256(image.tobytes()).digest()[: 2 * MARK], "<u2")
        mark = ((bits.astype(np.float32) - HALF) / HALF).astype(np.float32)
        self._newest[mark.tobytes()] = image.copy()  # a view would keep all images that came with it
        self._newest.move_to_end(mark.tobytes())
        while len(self._newest) > self._newest_max:
            self._newest.popitem(last=False)
        return mark

    def _found(self, mark: bytes) -> Pixels:
        if mark in self._newest:
            return self._newest[mark]
        for album in self.albums:
            image = album.find(mark)
            if image is not None:
                return image
        raise ArtifactError(
            "an observation names an image that is not there: its episode was recorded without images, record it with them"
        )


class EpisodeAlbum:
    """The images of `episodes` whose observations were made by `eyes`; they stay in memory with the episodes."""

    def __init__(self, eyes: Eyes, episodes: Sequence[EpisodeColumns]) -> None:
        self._images: dict[bytes, Pixels] = {}
        for episode in episodes:
            assert episode.views is not None
            rows = [*episode.observations, episode.end.final_observation]
            marks = np.array(rows, np.float32)[:, : eyes.size].reshape(-1, len(eyes.cameras), MARK)
            for place in np.ndindex(*marks.shape[:2]):
                self._images[marks[place].tobytes()] = episode.views.images[place]

    def find(self, mark: bytes) -> Pixels | None:
        """Return the image with `mark`, none if it is not here."""
        return self._images.get(mark)


class ReplayAlbum:
    """The images of the episodes in `replay`; it follows as they come and go."""

    def __init__(self, eyes: Eyes, replay: Replay) -> None:
        self._eyes, self._replay = eyes, replay
        self._places: dict[bytes, tuple[int, int, int]] = {}
        self._episodes: deque[tuple[int, list[bytes]]] = deque()
        self._known = -1, -1

    def find(self, mark: bytes) -> Pixels | None:
        """Return the image with `mark`, none if it is not here."""
        if self._known != (self._replay.upheavals, self._replay.changes):
            self._follow()
        if mark not in self._places:
            return None
        _, row, camera = self._places[mark]
        image: Pixels = self._replay.images(row)[camera]
        return image

    def _follow(self) -> None:
        """Let go of episodes that went and take in those that came; all of them where others than the oldest went."""
        replay, numbers = self._replay, self._replay.numbers.tolist()
        if self._known[0] != replay.upheavals:
            self._places.clear()
            self._episodes.clear()
        while self._episodes and (not numbers or self._episodes[0][0] < numbers[0]):
            number, marks = self._episodes.popleft()
            for mark in marks:
                if self._places.get(mark, NOWHERE)[0] == number:
                    del self._places[mark]
        newest = self._episodes[-1][0] if self._episodes else 0
        for number in numbers[bisect_right(numbers, newest) :]:
            self._take_in(number)
        self._known = replay.upheavals, replay.changes

    def _take_in(self, number: int) -> None:
        observations, rows = self._replay.seen(number)
        marks = observations[:, : self._eyes.size].reshape(len(rows), len(self._eyes.cameras), MARK)
        held = []
        for place, camera in np.ndindex(*marks.shape[:2]):
            mark = marks[place, camera].tobytes()
            if mark != NOTHING:
                self._places[mark] = number, int(rows[place]), camera
                held.append(mark)
        self._episodes.append((number, held))
