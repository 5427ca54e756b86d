"""A copy of a replay on a GPU, from which batches are drawn without the host."""

from __future__ import annotations

import torch
from torch import Tensor

from poco.learner.replay import Replay
from poco.learner.windows import Batch, Columns

NOWHERE = torch.iinfo(torch.int64).max


class ReplayMirror:
    """The columns of `replay` on `device`, always at the same addresses, so that a captured update can read them.

    The process of the replay owns it. It takes as much memory there as the replay's files have.
    """

    def __init__(self, replay: Replay, device: torch.device) -> None:
        self._replay, self._seen_changes, self._seen_number = replay, -1, 0
        disk = replay.columns
        slots = len(disk.final)

        def like(column: Tensor) -> Tensor:
            return torch.zeros(column.shape, dtype=column.dtype, device=device)

        def for_slots(column: Tensor) -> Tensor:
            return torch.zeros(slots, dtype=column.dtype, device=device)

        self._columns = Columns(
            like(disk.observation),
            like(disk.action),
            like(disk.reward),
            like(disk.final),
            for_slots(disk.firsts),
            for_slots(disk.lengths),
            for_slots(disk.ends),
            for_slots(disk.slots),
            for_slots(disk.terminated),
            for_slots(disk.success),
            None if disk.motionless is None else disk.motionless.to(device),
        )
        self._total = torch.zeros((), dtype=torch.int64, device=device)

    def refresh(self) -> None:
        """Take over what has changed in the replay; steps of an episode never change, except for the reward of a new label."""
        if self._seen_changes == self._replay.changes:
            return
        disk, mirror = self._replay.columns, self._columns
        new = torch.from_numpy(self._replay.numbers > self._seen_number)
        for first, count, slot in zip(disk.firsts[new], disk.lengths[new], disk.slots[new], strict=True):
            rows = slice(int(first), int(first + count))
            mirror.observation[rows] = disk.observation[rows].to(mirror.observation.device)
            mirror.action[rows] = disk.action[rows].to(mirror.action.device)
            mirror.final[slot] = disk.final[slot].to(mirror.final.device)
        mirror.reward.copy_(disk.reward)
        mirror.ends.fill_(NOWHERE)
        for name in _OF_EPISODES:
            column: Tensor = getattr(disk, name)
            getattr(mirror, name)[: len(column)].copy_(column)
        self._total.fill_(len(self._replay))
        self._seen_changes, self._seen_number = self._replay.changes, self._replay.watermark

    def sample(self, count: int, generator: torch.Generator, acted: bool = False) -> Batch:
        """Return `count` windows, drawn like `Replay.sample` but by the device's `generator`; `refresh` comes before it."""
        share = torch.rand(count, generator=generator, dtype=torch.float64, device=generator.device)
        index = (share * self._total).long()
        if acted:
            index = self._columns.chosen(index, self._replay.specification.execute_steps)
        return self.windows(index)

    def windows(self, index: Tensor) -> Batch:
        """Return the windows that start at the stored steps `index` [B], counted over episodes from the oldest on."""
        return self._columns.windows(index, self._replay.specification)


_OF_EPISODES = ("firsts", "lengths", "ends", "slots", "terminated", "success")
