"""A replay that the ranks of a learner hold in parts: every episode lies with one of them, every batch is drawn from all."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from poco.errors import ArtifactError
from poco.learner.ranks import Ranks
from poco.learner.replay import Replay, moments
from poco.learner.windows import Batch

REPLAY = "replay"


def replay_folder(out: Path, ranks: Ranks) -> Path:
    """Return where in the run folder `out` this rank's part of the replay is."""
    return out / REPLAY if ranks.count == 1 else out / f"{REPLAY}-{ranks.rank}-of-{ranks.count}"


def replay_folders(out: Path) -> list[Path]:
    """Return the parts of the replay of a run that has ended."""
    parts = sorted(out.glob(f"{REPLAY}-*-of-*"))
    return parts or [out / REPLAY]


def own_watermark(watermark: int, ranks: Ranks) -> int:
    """Return how many of the first `watermark` episodes lie with this rank: they go round, from rank 0 on."""
    return max(0, watermark - ranks.rank + ranks.count - 1) // ranks.count


class ReplayShards:
    """Draws from the parts of all ranks what `Replay.sample` would draw from all of it; `shard` is this rank's part.

    All ranks must call the same methods in the same order.
    """

    def __init__(self, shard: Replay, ranks: Ranks) -> None:
        self._shard, self._ranks = shard, ranks
        self.refresh()

    @property
    def watermark(self) -> int:
        """Number of episodes ever admitted, over all ranks, up to the last refresh."""
        return self._watermark

    @property
    def turn(self) -> int:
        """The rank with which the next episode will lie."""
        return self._watermark % self._ranks.count

    def refresh(self) -> None:
        """Learn which episodes lie where; after every change of any part."""
        held = torch.cat((torch.from_numpy(self._shard.numbers), self._shard.columns.lengths))
        numbers, lengths, firsts, owners = [], [], [], []
        for rank, part in enumerate(self._ranks.gathered(held)):
            own, count = part.view(2, -1)
            numbers.append((own - 1) * self._ranks.count + rank)
            lengths.append(count)
            firsts.append(count.cumsum(0) - count)
            owners.append(torch.full_like(own, rank))
        self._watermark = sum(len(own) and int(own[-1]) // self._ranks.count + 1 for own in numbers)
        order = torch.cat(numbers).argsort()
        self._lengths, self._firsts, self._owners = (torch.cat(one)[order] for one in (lengths, firsts, owners))
        self._ends = self._lengths.cumsum(0)

    def __len__(self) -> int:
        """Return the number of steps in all parts."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def observation_moments(self) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation [observation_size] over the steps of all parts; needs two steps at least."""
        return moments(self._ranks.total(self._shard.moment_sums()), len(self))

    def sample(self, count: int, generator: torch.Generator, acted: bool = False) -> Batch:
        """Return this rank's part of the `count` windows that `Replay.sample` would draw; raises ArtifactError if there are none.

        Every rank draws the same ones, gives those of its episodes and gets its part of all.
        """
        if not len(self):
            raise ArtifactError("the replay is empty on all ranks: give demonstrations or collect an episode first")
        index = torch.randint(len(self), (count,), generator=generator, device=generator.device).cpu()
        episode = torch.searchsorted(self._ends, index, right=True)
        step = index - (self._ends[episode] - self._lengths[episode])
        if acted:
            step = step - step % self._shard.specification.execute_steps
        mine = self._owners[episode] == self._ranks.rank
        own = self._shard.windows((self._firsts[episode] + step)[mine].numpy())
        fields: list[Tensor] = [getattr(own, name) for name in Batch.__slots__]
        sizes = [math.prod(field.shape[1:]) for field in fields]
        drawn = torch.zeros(count, sum(sizes))
        drawn[mine] = torch.cat([field.reshape(len(field), size) for field, size in zip(fields, sizes, strict=True)], 1)
        rows = self._ranks.part(self._ranks.total(drawn))
        columns = zip(torch.split(rows, sizes, dim=1), fields, strict=True)
        return Batch(*(column.reshape(len(rows), *field.shape[1:]) for column, field in columns))
