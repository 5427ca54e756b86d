"""What would remain to the target after each of the actions that a critic reads, taken from the specification.

A chunk of tip deltas leads somewhere; whether that is the hole decides over success, within a fraction of what one action moves.
A network that reads single actions and an offset has to learn that sum first; here it is given.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from poco.errors import SettingsError
from poco.specification import Field, Specification

PAIRS = (("target_offset", "lead_position", "tip_step"), ("target_yaw_offset", "lead_yaw", "yaw_step"))
"""Sources that belong together: offset of the target from the tip, lead of the command over the tip, action."""


class Remaining(nn.Module):
    """tanh((target - lead - sum of actions so far) / s) after each action; s is the range of the finest view of the target.

    Offsets are in the units of the specification (m, rad). Nothing in it is learned. Only learner processes call it.
    """

    target: Tensor
    lead: Tensor
    action: Tensor
    scale: Tensor

    def __init__(self, specification: Specification) -> None:
        """Raises SettingsError if the specification does not observe target and lead of every action."""
        super().__init__()
        targets, leads, actions, scales = [], [], [], []
        for target, lead, action in PAIRS:
            seen = sorted(_found(specification.observation, target), key=_range)
            leading, moving = _found(specification.observation, lead), _found(specification.action, action)
            if not seen or not leading or not moving:
                raise SettingsError(
                    f"critic_reads is remaining, but {specification.name} lacks one of {target}, {lead} and {action}: "
                    "set it to actions"
                )
            targets.append(_rows(specification.observation, seen[-1]))
            leads.append(_rows(specification.observation, leading[0]))
            actions.append(_rows(specification.action, moving[0]))
            scales.append((np.array(seen[0].high) - np.array(seen[0].low)) / 2.0)
        for name, rows in (("target", targets), ("lead", leads), ("action", actions)):
            self.register_buffer(name, torch.from_numpy(np.concatenate(rows, axis=1)))
        self.register_buffer("scale", torch.from_numpy(np.concatenate(scales)).float())

    @property
    def size(self) -> int:
        """Number of elements that remain after an action."""
        return len(self.scale)

    def forward(self, observation: Tensor, actions: Tensor) -> Tensor:
        """Return [B, N, steps, size] for `observation` [B, O] and `actions` [B, N, steps, A], scaled as the specification says."""
        offset = _physical(observation, self.target) - _physical(observation, self.lead)
        moved = _physical(actions, self.action).cumsum(-2)
        return torch.tanh((offset[:, None, None, :] - moved) / self.scale)


def _found(fields: tuple[Field, ...], source: str) -> list[Field]:
    return [field for field in fields if field.source == source]


def _range(field: Field) -> float:
    return max(high - low for low, high in zip(field.low, field.high, strict=True))


def _rows(fields: tuple[Field, ...], field: Field) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return place, middle and half range of each element of `field`, [3, size]."""
    first = sum(one.size for one in fields[: fields.index(field)])
    low, high = np.array(field.low), np.array(field.high)
    return np.stack((first + np.arange(field.size), (low + high) / 2.0, (high - low) / 2.0))


def _physical(vector: Tensor, rows: Tensor) -> Tensor:
    return vector[..., rows[0].long()] * rows[2].to(vector.dtype) + rows[1].to(vector.dtype)
