"""The replay: every step of every admitted episode in memory-mapped files of a fixed size, sampled as windows.

An episode enters whole, with its EpisodeEnd, and becomes visible by the last word that is written; a process killed
at any point leaves the episodes it had. When the files are full the oldest episodes make room.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from poco.episodes import write_durably
from poco.errors import ArtifactError
from poco.records import EpisodeEnd, Step
from poco.specification import Specification, scale

FORMAT = "poco-replay"
VERSION = 2
HEADER_FILE = "replay.json"
STEPS_FILE = "steps.bin"
EPISODES_FILE = "episodes.bin"
STEPS_PER_EPISODE = 10
"""The episode table has one slot for so many rows; shorter episodes fill it before the rows are used up."""

TOLERANCE = 1e-5
REWARD_MAX = 1e4

Integers = npt.NDArray[np.int64]


class ReplayHeader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What fixes the layout of the two binary files."""

    format: str
    version: int
    specification: Specification
    specification_hash: str
    rows: int
    slots: int


@dataclass(frozen=True, slots=True)
class Batch:
    """B windows; the one that starts at step k of an episode holds, with D = delay_steps, E = execute_steps, T = chunk_steps.

    observation [B, O]: of step k. chunk [B, T, A], valid [B, T]: actions of steps k + D and following, which are real.
    actions [B, D + E, A], known [B, D + E]: actions of steps k and following, which are real. rewards [B, E]: raw, of
    steps k ... k + E - 1. following [B, O]: observation of step k + E. complete [B]: step k + E - 1 took place.
    last [B]: the episode ended with step k + E - 1 or before. terminated [B]: it did so by itself, not by a time limit.
    success [B]: 1 in successful episodes.
    """

    observation: Tensor
    chunk: Tensor
    valid: Tensor
    actions: Tensor
    known: Tensor
    rewards: Tensor
    following: Tensor
    complete: Tensor
    last: Tensor
    terminated: Tensor
    success: Tensor


class Replay:
    """Steps of episodes on disk; one learner process opens it for writing."""

    def __init__(self, folder: Path, header: ReplayHeader) -> None:
        self.folder = folder
        self.specification = header.specification
        self._header = header
        self._steps = np.memmap(folder / STEPS_FILE, _step_record(header.specification), "r+", shape=(header.rows,))
        self._table = np.memmap(
            folder / EPISODES_FILE, _episode_record(header.specification), "r+", shape=(header.slots,)
        )
        self._index()

    @classmethod
    def create(cls, folder: Path, specification: Specification, max_bytes: int) -> Replay:
        """Make an empty replay in `folder` whose files together stay below `max_bytes`; all of it is allocated now.

        Raises ArtifactError if the folder holds one, if the size is too small for an episode or the disk too full.
        """
        step, episode = _step_record(specification).itemsize, _episode_record(specification).itemsize
        slots = max_bytes // (STEPS_PER_EPISODE * step + episode)
        if slots < 1:
            raise ArtifactError(
                f"replay size is {max_bytes} bytes, must be at least {STEPS_PER_EPISODE * step + episode}: raise it"
            )
        if (folder / HEADER_FILE).exists():
            raise ArtifactError(f"{folder} already holds a replay: resume the run or choose another folder")
        header = ReplayHeader(
            format=FORMAT,
            version=VERSION,
            specification=specification,
            specification_hash=specification.digest(),
            rows=slots * STEPS_PER_EPISODE,
            slots=slots,
        )
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if free < max_bytes:
            raise ArtifactError(
                f"the disk of {folder} has no room for {max_bytes} bytes of replay ({free} are free): lower replay_bytes"
            )
        _allocate(folder / STEPS_FILE, header.rows * step)
        _allocate(folder / EPISODES_FILE, slots * episode)
        write_durably(folder / HEADER_FILE, msgspec.json.encode(header))
        return cls(folder, header)

    @classmethod
    def open(cls, folder: Path, specification: Specification) -> Replay:
        """Open the replay in `folder`; raises ArtifactError if it is missing, damaged or of another specification."""
        file = folder / HEADER_FILE
        try:
            header = msgspec.json.decode(file.read_bytes(), type=ReplayHeader)
        except (OSError, msgspec.MsgspecError, ArtifactError) as error:
            raise ArtifactError(f"replay {file} is not readable ({error}): start the run again") from error
        if (header.format, header.version) != (FORMAT, VERSION):
            raise ArtifactError(
                f"replay {file} is {header.format} v{header.version}, this poco reads {FORMAT} v{VERSION}"
            )
        ours, theirs = specification.digest(), header.specification.digest()
        if theirs != ours or theirs != header.specification_hash:
            raise ArtifactError(f"replay {file} has specification {theirs[:12]}, expected {ours[:12]}: start a new run")
        for name, expected in (
            (STEPS_FILE, header.rows * _step_record(specification).itemsize),
            (EPISODES_FILE, header.slots * _episode_record(specification).itemsize),
        ):
            size = (folder / name).stat().st_size if (folder / name).is_file() else 0
            if size != expected:
                raise ArtifactError(f"replay file {folder / name} has {size} bytes, expected {expected}: start again")
        return cls(folder, header)

    def __len__(self) -> int:
        """Return the number of steps that can be sampled."""
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def episodes(self) -> int:
        """Number of episodes that can be sampled."""
        return len(self._ends)

    @property
    def watermark(self) -> int:
        """Number of the newest episode, counting every one ever admitted from 1."""
        return int(self._numbers[-1]) if len(self._numbers) else 0

    @property
    def position(self) -> int:
        """Position of the inbox up to which episodes were admitted; 0 if none came from an inbox."""
        return int(self._positions[-1]) if len(self._positions) else 0

    def add(self, steps: Sequence[Step], end: EpisodeEnd, position: int | None = None) -> bool:
        """Admit one finished episode; return False for one that is there already (a higher revision relabels it).

        `position` is where the episode ends in an inbox; the word that makes the episode visible makes it count too.
        Raises ArtifactError, and stores nothing, for a step that does not fit the specification, is not finite or is out of
        bounds, and for an episode that is empty or longer than the store.
        """
        if self._slot_of(end) is not None:
            self.relabel(end)
            return False
        columns = self._checked(steps, end)
        number = self.watermark + 1
        first = self._make_room(number, len(steps))
        rows = self._steps[first : first + len(steps)]
        for name, column in columns.items():
            rows[name] = column
        record = self._table[number % self._header.slots]
        record["number"] = 0
        record["position"] = self.position if position is None else position
        record["first"], record["steps"] = first, len(steps)
        record["robot"], record["boot_epoch"], record["episode"] = end.robot.encode(), end.boot_epoch, end.episode
        record["final_observation"] = end.final_observation
        self._label(record, end)
        record["number"] = number
        self._index()
        return True

    def relabel(self, end: EpisodeEnd) -> bool:
        """Take over outcome and kind of ending from a higher revision; the sparse reward of the last step follows the outcome.

        Returns whether anything changed: an episode that is not there or a revision not higher than the known one changes nothing.
        """
        slot = self._slot_of(end)
        if slot is None or end.revision <= int(self._table[slot]["revision"]):
            return False
        record = self._table[slot]
        if bool(record["success"]) != (end.outcome == "success"):
            self._steps[int(record["first"]) + int(record["steps"]) - 1]["reward"] = float(end.outcome == "success")
        self._label(record, end)
        self._index()
        return True

    def rewind(self, watermark: int) -> None:
        """Forget the episodes admitted after `watermark`, so that a resumed run goes on where its checkpoint was."""
        self._table["number"][self._table["number"] > watermark] = 0
        self._index()

    def flush(self) -> None:
        """Return when everything admitted so far is on the disk."""
        self._steps.flush()
        self._table.flush()

    def sample(self, count: int, generator: torch.Generator) -> Batch:
        """Return `count` windows whose first steps are uniform over all stored steps; raises ArtifactError if there are none."""
        if len(self) == 0:
            raise ArtifactError(
                f"the replay in {self.folder} is empty: give demonstrations or collect an episode first"
            )
        return self.windows(torch.randint(len(self), (count,), generator=generator).numpy())

    def windows(self, index: Integers) -> Batch:
        """Return the windows that start at the stored steps `index` [B], counted over episodes from the oldest on."""
        spec = self.specification
        delay, execute = spec.delay_steps, spec.execute_steps
        episode = np.searchsorted(self._ends, index, side="right")
        length = self._lengths[episode]
        step = index - (self._ends[episode] - length)
        start = self._firsts[episode] + step
        left = length - step
        chunk, valid = self._actions(start, left, delay, spec.chunk_steps)
        actions, known = self._actions(start, left, 0, delay + execute)
        ahead = np.arange(execute)
        rewards = self._steps["reward"][start[:, None] + np.minimum(ahead, left[:, None] - 1)]
        following = self._steps["observation"][start + np.minimum(execute, left - 1)]
        ended = left <= execute
        following[ended] = self._finals[episode[ended]]
        arrays: dict[str, npt.NDArray[Any]] = {
            "observation": self._steps["observation"][start],
            "chunk": chunk,
            "valid": valid,
            "actions": actions,
            "known": known,
            "rewards": rewards * (ahead < left[:, None]),
            "following": following,
            "complete": left >= execute,
            "last": ended,
            "terminated": ended & self._terminated[episode],
            "success": self._success[episode],
        }
        return Batch(**{name: torch.from_numpy(array.astype(np.float32)) for name, array in arrays.items()})

    def _actions(
        self, start: Integers, left: Integers, offset: int, count: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Actions [B, count, A] from step start + offset on and which of them are real; beyond the end there is no motion."""
        ahead = offset + np.arange(count)
        real = ahead < left[:, None]
        actions = self._steps["action"][start[:, None] + np.minimum(ahead, left[:, None] - 1)]
        if self.specification.action_space == "tip_delta":
            actions[~real] = scale(self.specification.action, np.zeros(self.specification.action_size))
        return actions, real

    def _checked(self, steps: Sequence[Step], end: EpisodeEnd) -> dict[str, npt.NDArray[np.float32]]:
        name = f"episode {end.robot}/{end.boot_epoch}/{end.episode}"
        if not 1 <= len(steps) <= self._header.rows:
            raise ArtifactError(f"{name} has {len(steps)} steps, the replay takes 1 to {self._header.rows}: discard it")
        if len(end.robot.encode()) > 64:
            raise ArtifactError(f"{name}: the robot's name takes {len(end.robot.encode())} bytes, the limit is 64")
        try:
            columns = {
                "observation": np.array([step.observation for step in steps], np.float64),
                "action": np.array([step.action_policy for step in steps], np.float64),
                "reward": np.array([step.reward for step in steps], np.float64),
            }
            final = np.array(end.final_observation, np.float64)
        except ValueError as error:
            raise ArtifactError(f"{name} has rows of different length ({error}): discard it") from error
        spec = self.specification
        expected = {
            "observation": (len(steps), spec.observation_size),
            "action": (len(steps), spec.action_size),
            "reward": (len(steps),),
        }
        bounds = {"observation": 1.0 + TOLERANCE, "action": 1.0 + TOLERANCE, "reward": REWARD_MAX}
        for key, column in columns.items():
            _check(f"{name}: {key}", column, expected[key], bounds[key])
        _check(f"{name}: final observation", final, (spec.observation_size,), 1.0 + TOLERANCE)
        return {key: column.astype(np.float32) for key, column in columns.items()}

    def _make_room(self, number: int, steps: int) -> int:
        """Return the first row for `steps` new ones, contiguous behind the newest episode; episodes in the way are forgotten."""
        first = int(self._firsts[-1] + self._lengths[-1]) if len(self._firsts) else 0
        wrapped = first + steps > self._header.rows
        beyond, first = (first, 0) if wrapped else (self._header.rows, first)
        live = self._table["number"] > 0
        starts = self._table["first"]
        overlap = (starts < first + steps) & (starts + self._table["steps"] > first)
        doomed = live & (overlap | (starts >= beyond) | (self._table["number"] <= number - self._header.slots))
        self._table["number"][doomed] = 0
        return first

    def _slot_of(self, end: EpisodeEnd) -> int | None:
        table = self._table
        same = (table["number"] > 0) & (table["episode"] == end.episode) & (table["boot_epoch"] == end.boot_epoch)
        slots = np.flatnonzero(same & (table["robot"] == end.robot.encode()))
        return int(slots[0]) if len(slots) else None

    def _label(self, record: np.void, end: EpisodeEnd) -> None:
        record["success"], record["terminated"] = end.outcome == "success", end.terminated
        record["revision"] = end.revision

    def _index(self) -> None:
        """Read the episode table into arrays, oldest episode first; it is the only source of what is stored."""
        slots = np.flatnonzero(self._table["number"] > 0)
        table = np.array(self._table[slots[np.argsort(self._table["number"][slots])]])
        self._numbers, self._firsts, self._lengths = table["number"], table["first"], table["steps"]
        self._positions = table["position"]
        self._ends: Integers = np.cumsum(self._lengths)
        self._finals, self._terminated, self._success = (
            table["final_observation"],
            table["terminated"].astype(bool),
            table["success"],
        )


def _step_record(specification: Specification) -> np.dtype[np.void]:
    observation, action = specification.observation_size, specification.action_size
    return np.dtype([("observation", "f4", (observation,)), ("action", "f4", (action,)), ("reward", "f4")])


def _episode_record(specification: Specification) -> np.dtype[np.void]:
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


def _allocate(path: Path, size: int) -> None:
    with path.open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, size)


def _check(what: str, values: npt.NDArray[np.float64], shape: tuple[int, ...], bound: float) -> None:
    if values.shape != shape:
        raise ArtifactError(f"{what} has shape {list(values.shape)}, expected {list(shape)}: discard the episode")
    worst = float(np.max(np.abs(values)))
    if not worst <= bound:
        raise ArtifactError(f"{what} has a value of magnitude {worst}, the limit is {bound:g}: discard the episode")
