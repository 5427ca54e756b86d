"""The replay: every step of every admitted episode in memory-mapped files of a fixed size, sampled as windows.

An episode enters whole, with its EpisodeEnd, and becomes visible by the last word that is written; a process killed
at any point leaves the episodes it had. When the files are full the oldest episodes make room.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from poco.durable import write_durably
from poco.episodes import Episode
from poco.errors import ArtifactError
from poco.learner.demonstrations import EpisodeColumns, Recorded
from poco.learner.replay_checks import checked, name_of, sound
from poco.learner.replay_index import Booleans, Integers, ReplayIndex, Stored
from poco.learner.replay_layout import (
    EPISODES_FILE,
    FORMAT,
    HEADER_FILE,
    STEPS_FILE,
    VERSION,
    ReplayHeader,
    allocate,
    episode_record,
    step_record,
)
from poco.learner.replay_views import ReplayViews
from poco.learner.windows import Batch, Columns, motionless
from poco.records import DISCARDED, EpisodeEnd, Step
from poco.specification import Specification
from poco.views import Shown, Views

BLOCK = 65536
EVERY = slice(None)


class Replay:
    """Steps of episodes on disk; one learner process opens it for writing."""

    def __init__(self, folder: Path, header: ReplayHeader) -> None:
        self.folder = folder
        self.specification = header.specification
        self._header = header
        self._steps = np.memmap(folder / STEPS_FILE, step_record(header.specification), "r+", shape=(header.rows,))
        self._table = np.memmap(
            folder / EPISODES_FILE, episode_record(header.specification), "r+", shape=(header.slots,)
        )
        self._index = ReplayIndex(self._table)
        self._views = None if header.shown is None else ReplayViews(folder, header, header.shown, self._rows())
        self._motionless = motionless(header.specification)

    @classmethod
    def create(
        cls,
        folder: Path,
        specification: Specification,
        max_bytes: int,
        shown: Shown | None = None,
        image_interval: int = 1,
    ) -> Replay:
        """Make an empty replay in `folder` whose files together stay below `max_bytes`; all of it is allocated now.

        With `shown` it also keeps the images, as they came, of every step and of the end of every episode; with an
        `image_interval` above 1 it has room for images of one observation in so many, whichever they are.

        Raises ArtifactError if the folder holds one, if the size is too small for an episode or the disk too full.
        """
        header = ReplayHeader.within(max_bytes, specification, shown, image_interval)
        if (folder / HEADER_FILE).exists():
            raise ArtifactError(
                f"{folder} already holds a replay: resume the run (--resume), remove the folder if there is no checkpoint of the "
                "run yet, or choose another"
            )
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if free < max_bytes:
            raise ArtifactError(
                f"the disk of {folder} has no room for {max_bytes} bytes of replay ({free} are free): lower replay_bytes"
            )
        try:
            for name, size in header.sizes.items():
                allocate(folder / name, size)
        except OSError as error:
            raise ArtifactError(
                f"a replay of {max_bytes} bytes cannot be made in {folder} ({error.strerror}): free space or lower replay_bytes"
            ) from error
        write_durably(folder / HEADER_FILE, msgspec.json.encode(header))
        return cls(folder, header)

    @classmethod
    def open(cls, folder: Path, specification: Specification) -> Replay:
        """Open the replay in `folder`; raises ArtifactError if it is missing, damaged or of another specification."""
        file = folder / HEADER_FILE
        try:
            header = msgspec.json.decode(file.read_bytes(), type=ReplayHeader)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, ArtifactError) as error:
            raise ArtifactError(f"replay {file} is not readable ({error}): start the run again") from error
        if (header.format, header.version) != (FORMAT, VERSION):
            raise ArtifactError(
                f"replay {file} is {header.format} v{header.version}, this poco reads {FORMAT} v{VERSION}"
            )
        ours, theirs = specification.digest(), header.specification.digest()
        if theirs != ours or theirs != header.specification_hash:
            raise ArtifactError(f"replay {file} has specification {theirs[:12]}, expected {ours[:12]}: start a new run")
        for name, expected in header.sizes.items():
            size = (folder / name).stat().st_size if (folder / name).is_file() else 0
            if size != expected:
                raise ArtifactError(f"replay file {folder / name} has {size} bytes, expected {expected}: start again")
        replay = cls(folder, header)
        if not sound(replay._table, header.rows):
            raise ArtifactError(
                f"replay file {folder / EPISODES_FILE} is damaged, an episode lies where there is no room for it: start again"
            )
        return replay

    def __len__(self) -> int:
        """Return the number of steps that can be sampled."""
        return len(self._index)

    @property
    def episodes(self) -> int:
        """Number of episodes that can be sampled."""
        return len(self._index.ends)

    @property
    def watermark(self) -> int:
        """Number of the newest episode, counting every one ever admitted from 1."""
        return self._index.newest

    def after(self, watermark: int) -> list[Stored]:
        """Return the episodes that came after `watermark`, oldest first."""
        return self._index.after(watermark)

    @property
    def position(self) -> int:
        """Position of the inbox up to which episodes were admitted; 0 if none came from an inbox."""
        return int(self._table["position"][self.numbers[-1] % self._header.slots]) if self.episodes else 0

    def add(
        self, steps: Sequence[Step], end: EpisodeEnd, position: int | None = None, views: Views | None = None
    ) -> bool:
        """Admit one finished episode; return False for one that is there already (a higher revision relabels it).

        `position` is where the episode ends in an inbox; the word that makes the episode visible makes it count too.
        Raises ArtifactError, and stores nothing, for a step that does not fit the specification, is not finite or is out of
        bounds, and for an episode that is empty or longer than the store.
        """
        return self.admit(Episode(self.specification, tuple(steps), end, views), position)

    def admit(self, episode: EpisodeColumns, position: int | None = None) -> bool:
        """Admit one finished episode in columns; otherwise as `add`."""
        end = episode.end
        if self._index.slot_of(end) is not None:
            self.relabel(end)
            return False
        columns = checked(episode, self._header)
        count = len(columns["reward"])
        if self._views is not None:
            self._views.check(name_of(end), episode.views, count)
        number = self.watermark + 1
        first = self._make_room(number, count)
        rows = self._steps[first : first + count]
        for name, column in columns.items():
            rows[name] = column
        if self._views is not None and episode.views is not None:
            while self._views.lacks_room(episode.views):
                self._forget(self._index.numbers == self._index.numbers[0])
            self._views.put(first, number % self._header.slots, episode.views)
        record = self._table[number % self._header.slots]
        record["number"] = 0
        record["position"] = self.position if position is None else position
        record["first"], record["steps"] = first, count
        record["robot"], record["boot_epoch"], record["episode"] = end.robot.encode(), end.boot_epoch, end.episode
        record["final_observation"] = end.final_observation
        self._label(record, end)
        record["number"] = number
        self._index.append(record)
        return True

    def begin_with(self, episodes: Sequence[EpisodeColumns]) -> None:
        """Admit demonstrations; raises ArtifactError for a misfit or a twin, and if they do not all fit into the store together."""
        for episode in episodes:
            if not self.admit(episode):
                raise ArtifactError(
                    f"{name_of(episode.end)} is among the demonstrations twice: remove one of its files, or make one of the two "
                    "with another --seed"
                )
        if self.watermark > self.episodes:
            needed = sum(len(episode.rewards) for episode in episodes)
            images = self._header.images
            raise ArtifactError(
                f"the demonstrations have {needed} steps in {len(episodes)} episodes, the replay has room for "
                f"{self._header.rows} and {self._header.slots}{f', and for {images} images of a camera' if images else ''}: raise "
                "replay_bytes"
            )

    def relabel(self, end: EpisodeEnd) -> bool:
        """Take over outcome and kind of ending from a higher revision; the sparse reward of the last step follows the outcome.

        An episode that was thrown away is forgotten. Returns whether anything changed: an episode that is not there or a revision
        not higher than the known one changes nothing.
        """
        slot = self._index.slot_of(end)
        if slot is None or end.revision <= int(self._table[slot]["revision"]):
            return False
        record = self._table[slot]
        if end.outcome == DISCARDED:
            self._forget(self._index.numbers == int(record["number"]))
            return True
        if bool(record["success"]) != (end.outcome == "success"):
            self._steps[int(record["first"]) + int(record["steps"]) - 1]["reward"] = float(end.outcome == "success")
        self._label(record, end)
        self._index.relabel(record)
        return True

    def rewind(self, watermark: int) -> None:
        """Forget the episodes admitted after `watermark`, so that a resumed run goes on where its checkpoint was.

        Those that had made room for them do not come back.
        """
        self._forget(self._index.numbers > watermark)
        self._index.newest = watermark

    def flush(self) -> None:
        """Return when everything admitted so far is on the disk."""
        self._steps.flush()
        if self._views is not None:
            self._views.flush()
        self._table.flush()

    def sample(self, count: int, generator: torch.Generator, acted: bool = False) -> Batch:
        """Return `count` windows whose first steps are uniform over all stored steps; raises ArtifactError if there are none.

        With `acted` each begins where the chunk of its step was chosen, every execute_steps from the start of an episode on.
        """
        if len(self) == 0:
            raise ArtifactError(
                f"the replay in {self.folder} is empty: give demonstrations or collect an episode first"
            )
        index = torch.randint(len(self), (count,), generator=generator)
        if acted:
            index = self.columns.chosen(index, self.specification.execute_steps)
        return self.columns.windows(index, self.specification)

    @property
    def changes(self) -> int:
        """Goes up whenever an episode comes, goes or gets another label."""
        return self._index.changes

    @property
    def upheavals(self) -> int:
        """Goes up whenever others than the oldest episodes go, or all: a number may stand for another episode from then on."""
        return self._index.upheavals

    @property
    def numbers(self) -> Integers:
        """Admission numbers of the episodes that can be sampled, oldest first."""
        return self._index.numbers

    @property
    def columns(self) -> Columns:
        """What can be sampled, as it lies on the disk; good until the next change."""
        stored = self._index
        observation, action, reward, final = (
            torch.from_numpy(column)
            for column in (
                self._steps["observation"],
                self._steps["action"],
                self._steps["reward"],
                self._table["final_observation"],
            )
        )
        return Columns(
            observation,
            action,
            reward,
            final,
            torch.from_numpy(stored.firsts),
            torch.from_numpy(stored.lengths),
            torch.from_numpy(stored.ends),
            torch.from_numpy(stored.numbers % self._header.slots),
            torch.from_numpy(stored.terminated),
            torch.from_numpy(stored.success),
            self._motionless,
        )

    def observation_moments(self) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation [observation_size] over all stored steps; needs two steps at least."""
        return moments(self.moment_sums(), len(self))

    def moment_sums(self) -> Tensor:
        """Return the sums of observations and of their squares over all stored steps, [2, observation_size]."""
        total = np.zeros((2, self.specification.observation_size))
        for first in range(0, len(self), BLOCK):
            columns, index = self.columns, torch.arange(first, min(first + BLOCK, len(self)))
            episode, step, _ = columns.located(index)
            seen = columns.observation[columns.firsts[episode] + step].numpy().astype(np.float64)
            total += seen.sum(0), np.square(seen).sum(0)
        return torch.from_numpy(total)

    def windows(self, index: Integers) -> Batch:
        """Return the windows that start at the stored steps `index` [B], counted over episodes from the oldest on."""
        return self.columns.windows(torch.from_numpy(index), self.specification)

    def seen(self, number: int) -> tuple[npt.NDArray[np.float32], Integers]:
        """Return the observations [n + 1, O] of the episode with admission `number`, and for `images` where theirs lie [n + 1]."""
        place = int(np.searchsorted(self._index.numbers, number))
        rows = self._rows(slice(place, place + 1))
        final = self._table["final_observation"][rows[-1:] - self._header.rows]
        return np.concatenate((self._steps["observation"][rows[:-1]], final)), rows

    def images(self, place: int) -> npt.NDArray[np.uint8]:
        """Return the images [cameras, 3, side, side] at a place that `seen` has named; raises ArtifactError if none are kept."""
        if self._views is None:
            raise ArtifactError(
                f"the replay in {self.folder} keeps no images: start the run again with an environment that shows"
            )
        return self._views.images(place)

    def recorded(self) -> Iterator[Recorded]:
        """Yield the stored episodes, oldest first, with what cameras saw; ticks of their ends count from their first steps."""
        spec = self.specification
        for number, first, count in zip(self._index.numbers, self._index.firsts, self._index.lengths, strict=True):
            slot = int(number) % self._header.slots
            rows, record = self._steps[first : first + count], self._table[slot]
            end = EpisodeEnd(
                robot=record["robot"].decode(),
                boot_epoch=int(record["boot_epoch"]),
                episode=int(record["episode"]),
                tick=int(count) * spec.period_ticks,
                final_observation=record["final_observation"].tolist(),
                outcome="success" if record["success"] else "failure",
                terminated=bool(record["terminated"]),
                truncated=not record["terminated"],
                revision=int(record["revision"]),
            )
            observations, actions, rewards = (np.array(rows[name]) for name in ("observation", "action", "reward"))
            views = None if self._views is None else self._views.of(int(first), int(count), slot)
            yield Recorded(spec, observations, actions, rewards, end, views)

    def _make_room(self, number: int, steps: int) -> int:
        """Return the first row for `steps` new ones, contiguous behind the newest episode; episodes in the way are forgotten."""
        stored = self._index
        first = int(stored.firsts[-1] + stored.lengths[-1]) if stored.numbers.size else 0
        wrapped = first + steps > self._header.rows
        beyond, first = (first, 0) if wrapped else (self._header.rows, first)
        overlap = (stored.firsts < first + steps) & (stored.firsts + stored.lengths > first)
        self._forget(overlap | (stored.firsts >= beyond) | (stored.numbers <= number - self._header.slots))
        return first

    def _rows(self, which: Booleans | slice = EVERY) -> Integers:
        """Return where the images of the episodes `which` lie: first those of all steps, then those of their ends."""
        stored = self._index
        bounds = zip(stored.firsts[which], stored.lengths[which], strict=True)
        steps = [np.arange(first, first + count) for first, count in bounds]
        ends = self._header.rows + stored.numbers[which] % self._header.slots
        return np.concatenate((*steps, ends))

    def _forget(self, doomed: Booleans) -> None:
        if self._views is not None:
            self._views.release(self._rows(doomed))
        self._table["number"][self._index.numbers[doomed] % self._header.slots] = 0
        self._index.forget(doomed)

    def _label(self, record: np.void, end: EpisodeEnd) -> None:
        record["success"], record["terminated"] = end.outcome == "success", end.terminated
        record["revision"] = end.revision


def moments(sums: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of `count` vectors, at least two, whose sums and sums of squares are `sums` [2, size]."""
    mean, square = sums / count
    variance = (square - mean.square()).clamp(min=0.0) * count / (count - 1)
    return mean.float(), variance.sqrt().float()
