"""Puts the streams of many robots together to finished episodes: whole, in order, each once, or not at all and counted."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
import numpy.typing as npt

from poco.journal.records import Boot, Ended, Missing, Stepped, Viewed, Written
from poco.records import EpisodeEnd, Step
from poco.views import Views

CAMERAS_MAX = 8

EPISODE_IMAGES_BYTES = 1 << 32
"""An episode whose images would take more has none, however little of them was sent.

Unfinished episodes of one robot hold no more together: it works on one at a time, so the oldest lose theirs first.
"""

BOOTS_UNTIL_BROKEN_OFF = 2
"""When so many policy processes have begun after its own an episode will not end any more; the last words of one process may come
behind the first of the next."""

Pixels = npt.NDArray[np.uint8]

EpisodeKey = tuple[str, int, int]
"""Robot, boot epoch, episode."""


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


class BootState(msgspec.Struct):
    """What is known of one policy process of a robot: whether it has our specification, the newest episode that ended."""

    ours: bool
    ended: int = -1


class GatheringState(msgspec.Struct):
    """What of the past matters for what follows: the boots of every robot by boot epoch, the episodes by how they came in."""

    boots: dict[str, dict[int, BootState]] = {}
    counts: dict[str, int] = {}


@dataclass
class _Picture:
    """What came of one image so far, strips [3, rows, side] from the top on."""

    camera: str
    side: int
    strips: list[Pixels]
    rows: int


@dataclass
class _Open:
    position: int
    journal: str
    steps: list[Step] = field(default_factory=list)
    whole: bool = True
    shown: list[list[_Picture]] = field(default_factory=lambda: [[]])
    """Of every observation so far, and of the one whose step is still to come."""
    image_bytes: int = 0
    overfull: bool = False
    """Whether its images were given up for their size; it keeps its steps and takes no more images."""
    boots_since: int = 0
    """How many policy processes have begun in the same journal since the one that it belongs to."""


class Gathering:
    """Fed with the entries of an inbox in order; the same entries give the same episodes."""

    def __init__(self, specification_hash: str, once_a_chunk: bool = False) -> None:
        """With `once_a_chunk` robots send images where a chunk was chosen, and the others stay black; else with every step."""
        self._specification_hash, self._once_a_chunk = specification_hash, once_a_chunk
        self._open: dict[EpisodeKey, _Open] = {}
        self._image_bytes: Counter[str] = Counter()
        self._boots: dict[str, dict[int, BootState]] = {}
        self.counts: Counter[str] = Counter()

    def restore(self, state: GatheringState) -> None:
        """Begin where `state` was taken."""
        self._boots = state.boots
        self.counts = Counter(state.counts)

    @property
    def state(self) -> GatheringState:
        """What of the past matters for what follows."""
        return GatheringState(boots=self._boots, counts=dict(self.counts))

    @property
    def oldest_open(self) -> int | None:
        """Position of the first step of the oldest unfinished episode."""
        return min((episode.position for episode in self._open.values()), default=None)

    def take(self, position: int, robot: str, journal: str, written: Written | None) -> Iterator[Finished]:
        """Take the entry at `position` that `robot` sent from `journal`; None is one that no longer decodes."""
        match written and written.record:
            case None:
                self.counts["unreadable"] += 1
                self._spoil(robot, journal)
            case Missing(reason=reason) as missing:
                self.counts[f"missing: {reason}"] += 1
                self._spoil(robot, journal, missing)
            case Boot() as boot if boot.robot == robot:
                ours = boot.specification_hash == self._specification_hash
                self._boots.setdefault(robot, {}).setdefault(boot.boot_epoch, BootState(ours))
                self._break_off(robot, journal, boot.boot_epoch)
            case Stepped(step=step) if step.key.robot == robot:
                self._step(position, journal, step)
            case Viewed(key=key) as viewed if key.robot == robot:
                self._view(position, journal, viewed)
            case Ended(end=end) if end.robot == robot:
                yield from self._end(position, end)
            case Boot() | Stepped() | Viewed() | Ended():
                self.counts["of another robot"] += 1
            case _:
                self.counts["events"] += 1

    def _break_off(self, robot: str, journal: str, boot_epoch: int) -> None:
        """The policy process `boot_epoch` has begun: forget what those before it began and will not end."""
        for key, opened in list(self._open.items()):
            if key[0] != robot or key[1] == boot_epoch or opened.journal != journal:
                continue
            opened.boots_since += 1
            if opened.boots_since >= BOOTS_UNTIL_BROKEN_OFF:
                self._close(key)
                self.counts["episodes broken off"] += 1

    def _close(self, key: EpisodeKey) -> _Open | None:
        """Let an unfinished episode go, if there is one, and return it."""
        opened = self._open.pop(key, None)
        if opened is not None:
            self._image_bytes[key[0]] -= opened.image_bytes
        return opened

    def _known(self, robot: str, boot_epoch: int) -> BootState | None:
        state = self._boots.get(robot, {}).get(boot_epoch)
        if state is None or not state.ours:
            self.counts["of another specification"] += 1
            return None
        return state

    def _step(self, position: int, journal: str, step: Step) -> None:
        robot, boot_epoch, episode, number = step.key.robot, step.key.boot_epoch, step.key.episode, step.key.step
        boot = self._known(robot, boot_epoch)
        if boot is None:
            return
        if episode <= boot.ended:
            self.counts["steps again"] += 1
            return
        opened = self._open.setdefault((robot, boot_epoch, episode), _Open(position, journal))
        opened.journal = journal
        if number < len(opened.steps):
            self.counts["steps again"] += 1
        elif number > len(opened.steps):
            opened.whole = False
        else:
            opened.steps.append(step)
            opened.shown.append([])
            self.counts["steps"] += 1

    def _view(self, position: int, journal: str, viewed: Viewed) -> None:
        key = viewed.key
        boot = self._known(key.robot, key.boot_epoch)
        if boot is None or key.episode <= boot.ended:
            return
        opened = self._open.setdefault((key.robot, key.boot_epoch, key.episode), _Open(position, journal))
        if opened.overfull:
            self.counts["images of an episode that has too many"] += 1
        elif key.step == len(opened.steps) and _put(opened.shown[-1], viewed):
            self.counts["images"] += 1
            opened.image_bytes += len(viewed.pixels)
            self._image_bytes[key.robot] += len(viewed.pixels)
            self._limit(key.robot)
        else:
            self.counts["images out of place"] += 1

    def _limit(self, robot: str) -> None:
        """Let the oldest unfinished episodes of `robot` give up their images until the others' are few enough."""
        for (owner, _, _), opened in self._open.items():
            if self._image_bytes[robot] <= EPISODE_IMAGES_BYTES:
                return
            if owner == robot and opened.image_bytes:
                self.counts["images too large together"] += 1
                self._image_bytes[robot] -= opened.image_bytes
                opened.shown = [[] for _ in opened.shown]
                opened.image_bytes, opened.overfull = 0, True

    def _end(self, position: int, end: EpisodeEnd) -> Iterator[Finished]:
        boot = self._known(end.robot, end.boot_epoch)
        if boot is None:
            return
        opened = self._close((end.robot, end.boot_epoch, end.episode))
        if end.episode <= boot.ended:
            self.counts["labels"] += 1
            yield Finished(position, position, (), end)
            return
        boot.ended = end.episode
        if opened is not None and opened.whole and opened.steps:
            self.counts["episodes"] += 1
            yield Finished(opened.position, position, tuple(opened.steps), end, self._views(opened.shown))
        else:
            self.counts["episodes not whole"] += 1

    def _views(self, shown: Sequence[Sequence[_Picture]]) -> Views | None:
        """Return the images of all observations; None unless each that has to has those of the same cameras in the same size."""
        first = [(picture.camera, picture.side) for picture in shown[0]]
        sides = {side for _, side in first}
        if len(sides) != 1 or any(picture.rows < picture.side for row in shown for picture in row):
            return None
        (side,) = sides
        shape = (len(shown), len(first), 3, side, side)
        if math.prod(shape) > EPISODE_IMAGES_BYTES:
            self.counts["images too large together"] += 1
            return None
        images = np.zeros(shape, np.uint8)
        for into, row in zip(images, shown, strict=True):
            if [(picture.camera, picture.side) for picture in row] == first:
                into[:] = [np.concatenate(picture.strips, axis=1) for picture in row]
            elif row or not self._once_a_chunk:
                return None
        return Views(tuple(camera for camera, _ in first), images, np.zeros((len(shown), 0), np.float32))

    def spoil_all(self) -> None:
        """An entry of the inbox itself no longer checks: no open episode is known to be whole."""
        self.counts["damaged in the inbox"] += 1
        for opened in self._open.values():
            opened.whole = False

    def _spoil(self, robot: str, journal: str, missing: Missing | None = None) -> None:
        """Entries of `journal` are not there: the open episodes they may belong to are not whole."""
        for (owner, boot_epoch, episode), opened in self._open.items():
            named = missing is not None and missing.episode is not None
            other = missing is not None and (missing.boot_epoch, missing.episode) != (boot_epoch, episode)
            if owner == robot and opened.journal == journal and not (named and other):
                opened.whole = False


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
