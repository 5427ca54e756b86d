"""A scripted operator for peg-in-hole: looks at the scene, misjudges it by a bias, moves with a trembling hand.

It goes above the hole, turns, descends; where the peg meets the rim it presses lightly and searches along a spiral until
the peg drops, then pushes it home.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from poco.errors import UsageError
from poco.observation import Scene, wrap
from poco.specification import Specification, scale, unscale

Floats = npt.NDArray[np.float64]

APPROACH_M = 0.0045
LOWER_M = 0.0018
INSERT_M = 0.0040
TURN_RAD = 0.025
SEARCH_M = 0.0014
"""Largest travel of one control period in each phase (m, rad)."""

HOVER_M = 0.006
ALIGNED_M = 0.0010
"""Height above the rim that is kept until the peg is this close to the axis of the hole as believed."""

PRESS_M = 0.0035
"""How far the commanded tip stays below the rim while searching: the lead that presses."""

DROPPED_M = 0.0006
"""Below the rim by this much, the peg is in the hole."""

PUSH_DEPTH_M = 0.047
"""How far below the rim it pushes, a little beyond the bottom of the hole."""

AT_RIM_M = 0.0020
TOUCHING_M = 0.0010
"""The peg stands on the rim when it is this near to it and this far above where it is commanded to be."""

SPIRAL_PITCH_M = 0.0014
SPIRAL_START_M = 0.0010
SPIRAL_END_M = 0.0036
"""The search begins beside the spot that has just proved wrong, and begins anew at its outer end."""

SMOOTHING = 0.7
"""Share of the tremble that goes on from one step to the next."""

CORRECTION = 0.5
"""Share of its own tremble that the hand takes back at the next step."""

STEADINESS = 0.55
"""How much of the tremble remains where it matters: at the rim and in the hole."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What the operator looks at: the scene at an observation tick and where the hole is (m, rad, base frame)."""

    episode: int
    view: Scene
    hole_position: Floats
    hole_yaw: float


def check_operator(noise: float, bias_m: float) -> None:
    """Raise UsageError for a noise outside 0 to 1 or a bias outside 0 to 0.02 m."""
    if not 0.0 <= noise <= 1.0:
        raise UsageError(f"operator noise is {noise}, must lie in 0 to 1 of the action bound: choose for example 0.2")
    if not 0.0 <= bias_m <= 0.02:
        raise UsageError(f"operator bias is {bias_m} m, must lie in 0 to 0.02 m: choose for example 0.002")


class Operator:
    """Callable from observation to chunk [chunk_steps, 4] in action units; one instance for any number of episodes.

    The observation is ignored, what counts is `look()`. The same seed, episode and scene give the same chunk.
    """

    def __init__(
        self,
        specification: Specification,
        look: Callable[[], Sight],
        noise: float,
        bias_m: float,
        seed: int,
    ) -> None:
        """Raises UsageError as `check_operator` does."""
        check_operator(noise, bias_m)
        self._specification = specification
        self._look = look
        self._noise = noise
        self._bias_m = bias_m
        self._seed = seed
        self._episode = -1

    def __call__(self, observation: npt.NDArray[np.float32] | None = None) -> npt.NDArray[np.float32]:
        """Return the chunk for the current observation tick."""
        sight = self._look()
        if sight.view.signal.tick == 0 or sight.episode != self._episode:
            self._begin(sight.episode)
        steps, delay, execute = (
            self._specification.chunk_steps,
            self._specification.delay_steps,
            self._specification.execute_steps,
        )
        deltas, careful = self._plan(sight, steps)
        actions = scale(self._specification.action, deltas)
        tremble = self._noise * (STEADINESS if careful else 1.0) * self._tremble(steps)
        actions = np.clip(actions + tremble, -1.0, 1.0)
        self._pending = (
            unscale(self._specification.action, actions[execute - delay : execute]).reshape(delay, 4).sum(axis=0)
        )
        return actions.astype(np.float32)

    def _begin(self, episode: int) -> None:
        self._episode = episode
        self._random = np.random.default_rng([self._seed, episode])
        angle = self._random.uniform(0.0, 2.0 * math.pi)
        self._bias = self._bias_m * np.array([math.cos(angle), math.sin(angle), 0.0])
        self._pending = np.zeros(4)
        self._spiral = 0.0
        self._drift = np.zeros(4)

    def _tremble(self, steps: int) -> Floats:
        """Noise [steps, 4] of unit variance and smooth in time, and what the hand takes back of the deviation it makes."""
        fresh = self._random.standard_normal((steps, 4))
        noise, deviation = self._drift, np.zeros(4)
        changes = np.empty((steps, 4))
        for step in range(steps):
            noise = SMOOTHING * noise + math.sqrt(1.0 - SMOOTHING**2) * fresh[step]
            changes[step] = noise - CORRECTION * deviation
            deviation = deviation + changes[step]
            if step == self._specification.execute_steps - 1:
                self._drift = noise
        return changes

    def _plan(self, sight: Sight, steps: int) -> tuple[Floats, bool]:
        """Return deltas [steps, 4] (m, rad) of the commanded tip from where the chunk attaches, and whether care is due."""
        view = sight.view
        hole = sight.hole_position + self._bias
        start = view.commanded_position + self._pending[:3]
        yaw = view.commanded_yaw + float(self._pending[3])
        depth = float(sight.hole_position[2] - view.tip_position[2])
        lead = view.commanded_position - view.tip_position
        pressed = depth > -AT_RIM_M and -lead[2] > TOUCHING_M
        inside = depth > DROPPED_M
        deltas = np.zeros((steps, 4))
        position = start.copy()
        for step in range(steps):
            turn = float(np.clip(wrap(sight.hole_yaw - yaw), -TURN_RAD, TURN_RAD))
            if inside:
                move = self._insert(position, sight, lead)
            elif pressed:
                move = self._search(position, hole, lead, counts=step < self._specification.execute_steps)
            else:
                move = self._approach(position, hole, abs(turn))
            deltas[step] = (*move, turn)
            position = position + move
            yaw += turn
        return deltas, depth > -2.0 * HOVER_M

    def _approach(self, position: Floats, hole: Floats, turn: float) -> Floats:
        """Move over the hole and come down in a cone; go below hover height only when aligned."""
        sideways = hole[:2] - position[:2]
        distance = float(np.hypot(*sideways))
        height = float(position[2] - hole[2])
        aligned = distance < ALIGNED_M and turn < 0.02
        floor = -PRESS_M if aligned else HOVER_M + 0.3 * distance
        fall = APPROACH_M if height > HOVER_M + APPROACH_M else LOWER_M
        down = float(np.clip(floor - height, -fall, APPROACH_M))
        return np.array([*(sideways * min(1.0, APPROACH_M / max(distance, 1e-9))), down])

    def _search(self, position: Floats, hole: Floats, lead: Floats, counts: bool) -> Floats:
        """Follow an Archimedean spiral about the believed hole with the tip, not with the command, and keep pressing."""
        radius = SPIRAL_START_M + SPIRAL_PITCH_M * self._spiral / (2.0 * math.pi)
        target = hole[:2] + radius * np.array([math.cos(self._spiral), math.sin(self._spiral)])
        if counts:
            self._spiral = self._spiral + SEARCH_M / radius if radius < SPIRAL_END_M else 0.0
        sideways = target + lead[:2] - position[:2]
        distance = float(np.hypot(*sideways))
        down = float(np.clip(hole[2] - PRESS_M - position[2], -LOWER_M, LOWER_M))
        return np.array([*(sideways * min(1.0, 2.0 * SEARCH_M / max(distance, 1e-9))), down])

    def _insert(self, position: Floats, sight: Sight, lead: Floats) -> Floats:
        """Push down and give way sideways, so that the walls guide the peg."""
        sideways = sight.view.tip_position[:2] + 0.3 * lead[:2] - position[:2]
        distance = float(np.hypot(*sideways))
        bottom = sight.hole_position[2] - PUSH_DEPTH_M
        down = float(np.clip(bottom - position[2], -INSERT_M, INSERT_M))
        return np.array([*(sideways * min(1.0, LOWER_M / max(distance, 1e-9))), down])
