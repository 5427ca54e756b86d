"""The episodes of a replay that can be sampled, in memory: what would take a search through the table on disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from poco.records import EpisodeEnd

Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Stored:
    """An episode in the replay: whose it is, its own number, how many steps it has and whether it was a success."""

    robot: str
    boot_epoch: int
    episode: int
    steps: int
    success: bool


class ReplayIndex:
    """Columns over the stored episodes, oldest first; the table on disk is read once and followed from then on.

    numbers, firsts, lengths, ends [episodes]: admission number, first row, steps, and sum of steps up to the episode's end.
    terminated, success [episodes]: how it ended. newest: the highest admission number that was given, even if that episode has been
    forgotten since. changes: how often any of this has changed; upheavals: how often others than the oldest episodes went, or all,
    after which a number may come again.
    """

    def __init__(self, table: npt.NDArray[np.void]) -> None:
        """Read `table`, in which an episode with number n > 0 lies in slot n modulo its length."""
        live = np.flatnonzero(table["number"] > 0)
        records = np.array(table[live[np.argsort(table["number"][live])]])
        self._slots = len(table)
        self._identities = {_identity(record): int(record["number"]) for record in records}
        self.numbers: Integers = records["number"].astype(np.int64)
        self.firsts: Integers = records["first"].astype(np.int64)
        self.lengths: Integers = records["steps"].astype(np.int64)
        self.terminated: Booleans = records["terminated"].astype(bool)
        self.success: Booleans = records["success"].astype(bool)
        self.ends: Integers = np.cumsum(self.lengths)
        self.newest = int(self.numbers[-1]) if len(self.numbers) else 0
        self.changes = self.upheavals = 0

    def slot_of(self, end: EpisodeEnd) -> int | None:
        """Return the slot of the episode that `end` belongs to, None if it is not stored."""
        number = self._identities.get((end.robot.encode(), end.boot_epoch, end.episode))
        return None if number is None else number % self._slots

    def after(self, watermark: int) -> list[Stored]:
        """Return the episodes whose admission number is beyond `watermark`, oldest first."""
        identities = {number: identity for identity, number in self._identities.items()}
        later = np.flatnonzero(self.numbers > watermark)
        columns = zip(self.numbers[later], self.lengths[later], self.success[later], strict=True)
        stored = []
        for number, steps, success in columns:
            robot, boot_epoch, episode = identities[int(number)]
            stored.append(Stored(robot.decode(), boot_epoch, episode, int(steps), bool(success)))
        return stored

    def append(self, record: np.void) -> None:
        """Take in the newest episode."""
        self.changes += 1
        self._identities[_identity(record)] = int(record["number"])
        self.newest = int(record["number"])
        self.numbers = np.append(self.numbers, record["number"])
        self.firsts = np.append(self.firsts, record["first"])
        self.lengths = np.append(self.lengths, record["steps"])
        self.terminated = np.append(self.terminated, bool(record["terminated"]))
        self.success = np.append(self.success, bool(record["success"]))
        self.ends = np.append(self.ends, len(self) + record["steps"])

    def relabel(self, record: np.void) -> None:
        """Follow a changed outcome."""
        self.changes += 1
        place = int(np.searchsorted(self.numbers, record["number"]))
        self.terminated[place], self.success[place] = bool(record["terminated"]), bool(record["success"])

    def forget(self, doomed: Booleans) -> None:
        """Drop the episodes marked in `doomed` [episodes]."""
        if not doomed.any():
            return
        self.changes += 1
        self.upheavals += bool(doomed[-1] or not doomed[: np.count_nonzero(doomed)].all())
        gone = set(self.numbers[doomed].tolist())
        self._identities = {key: number for key, number in self._identities.items() if number not in gone}
        kept = ~doomed
        self.numbers, self.firsts, self.lengths = self.numbers[kept], self.firsts[kept], self.lengths[kept]
        self.terminated, self.success = self.terminated[kept], self.success[kept]
        self.ends = np.cumsum(self.lengths)

    def __len__(self) -> int:
        """Return the number of steps."""
        return int(self.ends[-1]) if len(self.ends) else 0


def _identity(record: Any) -> tuple[bytes, int, int]:
    return bytes(record["robot"]), int(record["boot_epoch"]), int(record["episode"])
