"""A finished episode out of the entries of a log that hold it: its steps, its end and what cameras showed meanwhile."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from poco.journal.records import Ended, Stepped, Viewed, Written
from poco.records import EpisodeEnd, Step, StepKey
from poco.views import Views

CAMERAS_MAX = 8

EPISODE_IMAGES_BYTES = 1 << 32
"""An episode whose images would take more has none, however little of them was sent."""

Pixels = npt.NDArray[np.uint8]

EpisodeKey = tuple[str, int, int]
"""Robot, boot epoch, episode."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """Where in a log a finished episode lies, from `first_position` to `position`; a new label, of higher `revision`, at one."""

    key: EpisodeKey
    first_position: int
    position: int
    revision: int


@dataclass(frozen=True, slots=True)
class Finished:
    """An episode that begins at `first_position` of the inbox and ends at `position`; without steps it is only labelled anew.

    `views` are the images of all its observations where the robot sent them, without a target: nobody told it where one was.
    """

    first_position: int
    position: int
    steps: tuple[Step, ...]
    end: EpisodeEnd
    views: Views | None = field(default=None, compare=False)


@dataclass
class _Picture:
    """What came of one image so far, strips [3, rows, side] from the top on."""

    camera: str
    side: int
    strips: list[Pixels]
    rows: int


def assembled(
    arrival: Arrival, entries: Iterable[tuple[int, Written | None]], once_a_chunk: bool = False
) -> Finished | None:
    """Return the episode of `arrival`, given positions and `entries` of its robot from first to last; None if its end is not there.

    With `once_a_chunk` observations without images are black ones; else an episode has images of all of them or none.
    """
    steps: list[Step] = []
    shown: list[list[_Picture]] = [[]]
    images_bytes = 0
    for position, written in entries:
        match written and written.record:
            case Stepped(step=step) if _key(step.key) == arrival.key and step.key.step == len(steps):
                steps.append(step)
                shown.append([])
            case Viewed(key=key) as viewed if _key(key) == arrival.key and key.step == len(steps):
                if images_bytes <= EPISODE_IMAGES_BYTES and _put(shown[-1], viewed):
                    images_bytes += len(viewed.pixels)
                if images_bytes > EPISODE_IMAGES_BYTES:
                    shown = [[] for _ in shown]
            case Ended(end=end) if position == arrival.position:
                views = _views(shown, once_a_chunk) if steps else None
                return Finished(arrival.first_position, position, tuple(steps), end, views)
    return None


def _key(key: StepKey) -> EpisodeKey:
    return key.robot, key.boot_epoch, key.episode


def _views(shown: Sequence[Sequence[_Picture]], once_a_chunk: bool) -> Views | None:
    """Return the images of all observations; None unless each that has to has those of the same cameras in the same size."""
    first = next(([(picture.camera, picture.side) for picture in row] for row in shown if row), [])
    sides = {side for _, side in first}
    if len(sides) != 1 or any(picture.rows < picture.side for row in shown for picture in row):
        return None
    (side,) = sides
    shape = (len(shown), len(first), 3, side, side)
    if math.prod(shape) > EPISODE_IMAGES_BYTES:
        return None
    images = np.zeros(shape, np.uint8)
    for into, row in zip(images, shown, strict=True):
        if [(picture.camera, picture.side) for picture in row] == first:
            into[:] = [np.concatenate(picture.strips, axis=1) for picture in row]
        elif row or not once_a_chunk:
            return None
    return Views(tuple(camera for camera, _ in first), images, np.zeros((len(shown), 0), np.float32))


def _put(pictures: list[_Picture], viewed: Viewed) -> bool:
    """Add `viewed`, a whole image or the next strip of the last one, to `pictures`; return whether it belongs there."""
    rows, rest = divmod(len(viewed.pixels), 3 * viewed.side)
    if rest or viewed.first_row + rows > viewed.side:
        return False
    strip = np.frombuffer(viewed.pixels, np.uint8).reshape(3, rows, viewed.side)
    last = pictures[-1] if pictures else None
    if viewed.first_row == 0 and len(pictures) < CAMERAS_MAX and (last is None or last.rows == last.side):
        pictures.append(_Picture(viewed.camera, viewed.side, [strip], rows))
        return True
    if last is None or (last.camera, last.side, last.rows) != (viewed.camera, viewed.side, viewed.first_row):
        return False
    last.strips.append(strip)
    last.rows += rows
    return True
