"""Windows cut out of the steps of a replay, wherever its columns lie: memory-mapped on the disk or on a GPU."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from poco.specification import Specification, scale


@dataclass(frozen=True, slots=True)
class Batch:
    """B windows; the one that starts at step k of an episode holds, with D = delay_steps, E = execute_steps, T = chunk_steps.

    observation [B, O]: of step k. step [B]: k. chunk [B, T, A], valid [B, T]: actions of steps k + D and following, which are real.
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
    step: Tensor

    def rows(self, part: slice) -> Batch:
        """Return the windows of `part`."""
        return Batch(*(getattr(self, name)[part] for name in Batch.__slots__))

    def to(self, device: torch.device) -> Batch:
        """Return the same windows on `device`."""
        return Batch(*(getattr(self, name).to(device) for name in Batch.__slots__))


@dataclass(frozen=True, slots=True)
class Columns:
    """Steps and episodes of a replay, all on one device.

    observation [R, O], action [R, A], reward [R]: the rows. final [S, O]: what was observed at the ends of episodes, by slot.
    firsts, lengths, ends, slots [E]: first row, steps, sum of steps up to its end, and slot, of each episode, oldest first.
    terminated, success [E]: how it ended. motionless [A]: the action that stands for those beyond an end; none, if the last does.
    """

    observation: Tensor
    action: Tensor
    reward: Tensor
    final: Tensor
    firsts: Tensor
    lengths: Tensor
    ends: Tensor
    slots: Tensor
    terminated: Tensor
    success: Tensor
    motionless: Tensor | None

    def located(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return episode, step in it, and steps left to its end, of the stored steps `index` [B], counted from the oldest on."""
        episode = torch.searchsorted(self.ends, index, right=True)
        step = index - (self.ends[episode] - self.lengths[episode])
        return episode, step, self.lengths[episode] - step

    def chosen(self, index: Tensor, execute_steps: int) -> Tensor:
        """Return the stored steps at which the chunks were chosen that the steps `index` [B] belong to."""
        _, step, _ = self.located(index)
        return index - step % execute_steps

    def windows(self, index: Tensor, specification: Specification) -> Batch:
        """Return the windows that start at the stored steps `index` [B]."""
        delay, execute = specification.delay_steps, specification.execute_steps
        episode, step, left = self.located(index)
        start = self.firsts[episode] + step
        chunk, valid = self._actions(start, left, delay, specification.chunk_steps)
        actions, known = self._actions(start, left, 0, delay + execute)
        ahead = torch.arange(execute, device=index.device)
        rewards = self.reward[start[:, None] + torch.minimum(ahead, left[:, None] - 1)]
        ended = left <= execute
        following = torch.where(
            ended[:, None], self.final[self.slots[episode]], self.observation[start + (left - 1).clamp(max=execute)]
        )
        parts = {
            "observation": self.observation[start],
            "chunk": chunk,
            "valid": valid,
            "actions": actions,
            "known": known,
            "rewards": rewards * (ahead < left[:, None]),
            "following": following,
            "complete": left >= execute,
            "last": ended,
            "terminated": ended & self.terminated[episode],
            "success": self.success[episode],
            "step": step,
        }
        return Batch(**{name: part.float() for name, part in parts.items()})

    def _actions(self, start: Tensor, left: Tensor, offset: int, count: int) -> tuple[Tensor, Tensor]:
        """Actions [B, count, A] from step start + offset on and which of them are real; beyond the end there is no motion."""
        ahead = offset + torch.arange(count, device=start.device)
        real = ahead < left[:, None]
        actions = self.action[start[:, None] + torch.minimum(ahead, left[:, None] - 1)]
        if self.motionless is not None:
            actions = torch.where(real[:, :, None], actions, self.motionless)
        return actions, real


def motionless(specification: Specification) -> Tensor | None:
    """Return the action [A] that moves nothing; none where an action is a position, which the last one keeps."""
    if specification.action_space != "tip_delta":
        return None
    return torch.as_tensor(scale(specification.action, [0.0] * specification.action_size), dtype=torch.float32)
