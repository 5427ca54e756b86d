"""From what a hand does to a short chunk of the task's own actions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from poco.clock import TICK_S
from poco.hw.devices.device import Floats
from poco.motion import tip_delta_targets
from poco.runtime.actors import Actions
from poco.specification import Specification, scale

FADING = (1.0, 0.5, 0.25)
"""What of the motion is left in the actions after those that are executed before the next chunk attaches."""

FULL = np.array([0.1, 0.1, 0.1, 0.6])
"""Tip speed of full deflection where the actions of the task set none (m/s, m/s, m/s, rad/s)."""


class HandChunks:
    """Makes one chunk after the other of deflections; `gain` is full deflection as a share of the largest action.

    Tip deltas are the deflection itself. Joint positions are where the tip gets to from where the chunk before led, inside the
    guards of `limits` (a LIMITS record of the planning margins). Policy process only.
    """

    def __init__(
        self, specification: Specification, limits: npt.NDArray[np.void], gain: float, execute_steps: int
    ) -> None:
        self._specification, self._limits, self._gain = specification, limits, gain
        self._execute_steps = execute_steps
        self._target_q = np.array(specification.rest_q)
        self._shares = np.zeros(specification.chunk_steps)
        self._shares[:execute_steps] = 1.0
        fading = FADING[: specification.chunk_steps - execute_steps]
        self._shares[execute_steps : execute_steps + len(fading)] = fading

    def make(self, deflection: Floats, commanded_q: Floats, follows: bool) -> Actions:
        """Return the chunk [chunk_steps, action_size] in action units that `deflection` [4] asks for.

        `follows` tells whether the arm has done what the last chunk from here asked for; elsewhere `commanded_q` [7] (rad) counts.
        What comes after the actions that are executed before the next chunk attaches fades, then rests.
        """
        specification = self._specification
        deltas = self._shares[:, None] * self._step(deflection)
        if specification.action_space == "tip_delta":
            return np.asarray(scale(specification.action, deltas), np.float32)
        base = self._target_q if follows else np.array(commanded_q, np.float64)
        rest = np.array(specification.rest_q)
        targets = tip_delta_targets(deltas, base, specification.tip, rest, self._limits)
        self._target_q = targets[self._execute_steps - 1]
        return np.asarray(scale(specification.action, targets), np.float32)

    def _step(self, deflection: Floats) -> Floats:
        """Return how far the tip is to go in one control period [4] (m, m, m, rad)."""
        if self._specification.action_space == "tip_delta":
            bounds = self._specification.action
            low, high = (np.concatenate([getattr(item, end) for item in bounds]) for end in ("low", "high"))
        else:
            high = FULL * self._specification.period_ticks * TICK_S
            low = -high
        return np.asarray(self._gain * np.where(deflection > 0.0, deflection * high, deflection * -low))
