"""The numbers of `poco.vla_numbers` as tensors with gradients: between -1 ... 1 of a specification and those of the model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from poco.specification import Field, Floats, Specification
from poco.vla import STATISTICS, Normalisation, Vla
from poco.vla_numbers import EPSILON


@dataclass(frozen=True, slots=True)
class Scale:
    """x = (value - shift) / spread and back; the way back of some rules has another spread than the way there."""

    shift: Tensor
    spread: Tensor
    spread_back: Tensor

    def to(self, device: torch.device) -> Scale:
        """Return the same on `device`."""
        return Scale(*(part.to(device) for part in (self.shift, self.spread, self.spread_back)))

    def there(self, values: Tensor) -> Tensor:
        """Return `values` [..., n] scaled."""
        return (values - self.shift) / self.spread

    def back(self, scaled: Tensor) -> Tensor:
        """Return the values of which `scaled` [..., n] is made."""
        return scaled * self.spread_back + self.shift


def scale_of_fields(fields: tuple[Field, ...]) -> Scale:
    """Return the scale from physical units to -1 ... 1."""
    low, high = (np.concatenate([getattr(item, name) for item in fields]) for name in ("low", "high"))
    return _scale((low + high) / 2, (high - low) / 2, (high - low) / 2)


def scale_of_rule(rule: Normalisation) -> Scale:
    """Return the scale from physical units to what the model reads."""
    if rule.mode == "identity":
        return _scale(np.zeros(rule.size), np.ones(rule.size), np.ones(rule.size))
    first, second = (np.array(rule.statistics[name], np.float64) for name in STATISTICS[rule.mode])
    if rule.mode == "mean_std":
        return _scale(first, second + float(EPSILON), second)
    half = np.where(second == first, float(EPSILON), second - first) / 2
    return _scale(first + half, half, half)


def _scale(shift: Floats, spread: Floats, back: Floats) -> Scale:
    return Scale(*(torch.from_numpy(one.astype(np.float32)) for one in (shift, spread, back)))


class Numbers:
    """State and chunks of one policy, between -1 ... 1 of `specification` and the rules `vla`."""

    def __init__(self, vla: Vla, specification: Specification) -> None:
        self._vla = vla
        self._rows = slice(vla.first_action, vla.first_action + specification.chunk_steps)
        self._after = vla.chunk_length - self._rows.stop
        self._observation, self._action = (
            scale_of_fields(specification.observation),
            scale_of_fields(specification.action),
        )
        self._read, self._given = scale_of_rule(vla.state), scale_of_rule(vla.action)
        self._relative = torch.tensor(vla.relative or (False,) * vla.action.size, dtype=torch.float32)

    def to(self, device: torch.device) -> None:
        """Compute on `device` from now on."""
        for name in ("_observation", "_action", "_read", "_given", "_relative"):
            setattr(self, name, getattr(self, name).to(device))

    def normalised(self, observation: Tensor) -> Tensor:
        """Return the state [B, S] as the model reads it, without padding, of `observation` [B, O] in -1 ... 1."""
        return self._read.there(self._observation.back(observation))

    def state(self, observation: Tensor) -> Tensor:
        """Return the same padded with zeros to the width of the model, [B, W]."""
        return functional.pad(self.normalised(observation), (0, self._vla.width - self._vla.state.size))

    def clean(self, observation: Tensor, chunk: Tensor) -> Tensor:
        """Return `chunk` [B, T, A] in -1 ... 1, of the `observation` [B, O], as the model's whole chunk [B, length, W].

        Actions before and after it are its first and last again, as the library pads at the ends of an episode.
        """
        physical = self._action.back(chunk) - self._offset(observation)
        inner = self._given.there(physical)
        before, after = inner[:, :1].expand(-1, self._rows.start, -1), inner[:, -1:].expand(-1, self._after, -1)
        whole = torch.cat((before, inner, after), dim=1)
        return functional.pad(whole, (0, self._vla.width - self._vla.action.size))

    def executed(self, observation: Tensor, whole: Tensor) -> Tensor:
        """Return the chunk [B, T, A] in -1 ... 1 that the model's finished one, `whole` [B, length, W], stands for."""
        physical = self._given.back(whole[:, self._rows, : self._vla.action.size]) + self._offset(observation)
        return self._action.there(physical).clamp(-1.0, 1.0)

    def _offset(self, observation: Tensor) -> Tensor:
        """Return what actions are relative to, [B, 1, A]; zero where they are not."""
        state = self._observation.back(observation)[:, : self._vla.action.size]
        return (functional.pad(state, (0, self._vla.action.size - state.shape[1])) * self._relative).unsqueeze(1)
