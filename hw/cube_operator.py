"""A scripted operator for the cube: goes above it, grasps it, carries it to its square, sets it down and lets go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from poco.observation import Scene, wrap
from poco.specification import Specification, scale, unscale

Floats = npt.NDArray[np.float64]
Phase = Literal["reach", "close", "carry", "open"]

CUBE_SIDE_M = 0.040
GOAL_M = (0.50, 0.10)
"""The cube, and where it belongs on the table (base frame)."""

STEP_M, CAREFUL_M, TURN_RAD = 0.0085, 0.005, 0.04
"""Largest travel of one control period, the same near the table, and largest turn."""

HOVER_M, GRASP_M, SET_DOWN_M = 0.075, 0.018, 0.0195
"""Height of the tip over the table above the cube and on the way, where it grasps, and where it lets go."""

ALIGNED_M, ALIGNED_RAD = 0.003, 0.04
NEAR_M = 0.004
"""The tip counts as over something when this near to it sideways, as arrived when this near to a height."""

HELD_M = 0.004
"""Fingers as far apart as the cube is wide, give or take this, hold it."""

OPEN_M, CLOSED_M = 0.08, 0.0
PATIENCE_CHUNKS = 10
"""Chunks that the fingers may take before the operator tries again."""


@dataclass(frozen=True, slots=True)
class CubeSight:
    """What the operator looks at: the number of the episode and the scene, whose target is the middle of the cube."""

    episode: int
    view: Scene


class CubeOperator:
    """Callable that returns the chunk [chunk_steps, 5] in action units for what `look` shows; one instance for any number of
    episodes. The same sights give the same chunks.
    """

    def __init__(self, specification: Specification, look: Callable[[], CubeSight]) -> None:
        self._specification = specification
        self._look = look
        self._episode = -1

    def __call__(self) -> npt.NDArray[np.float32]:
        """Return the chunk for the current observation tick."""
        sight = self._look()
        if sight.view.signal.tick == 0 or sight.episode != self._episode:
            self._episode, self._phase, self._chunks = sight.episode, "reach", 0
            self._pending = np.zeros(4)
        self._decide(sight.view)
        deltas = self._plan(sight.view)
        width_m = OPEN_M if self._phase in ("reach", "open") else CLOSED_M
        chunk = scale(self._specification.action, np.column_stack([deltas, np.full(len(deltas), width_m)]))
        execute, delay = self._specification.execute_steps, self._specification.delay_steps
        self._pending = unscale(self._specification.action, chunk[execute - delay : execute])[:, :4].sum(axis=0)
        return chunk.astype(np.float32)

    def _decide(self, view: Scene) -> None:
        """Go on to the next phase where the present one is done, or back to the first where something slipped."""
        tip, cube = view.tip_position, np.array(view.signal.target_position)
        width_m, before = view.gripper_width, self._phase
        held = abs(width_m - CUBE_SIDE_M) < HELD_M
        late = self._chunks > PATIENCE_CHUNKS
        match self._phase:
            case "reach":
                aligned = float(np.hypot(*(tip - cube)[:2])) < ALIGNED_M and abs(self._turn(view)) < ALIGNED_RAD
                if aligned and abs(tip[2] - GRASP_M) < NEAR_M:
                    self._phase = "close"
            case "close" if held:
                self._phase = "carry"
            case "close" if late or width_m < CUBE_SIDE_M - HELD_M:
                self._phase = "reach"
            case "carry" if not held:
                self._phase = "reach"
            case "carry":
                if float(np.hypot(*(tip[:2] - GOAL_M))) < NEAR_M and tip[2] < SET_DOWN_M + NEAR_M:
                    self._phase = "open"
            case "open" if late:
                self._phase = "reach"
        self._chunks = self._chunks + 1 if self._phase == before else 0

    def _turn(self, view: Scene) -> float:
        """How far the tip has to turn (rad) for the fingers to meet the cube's sides."""
        return wrap(view.signal.target_yaw - view.tip_yaw)

    def _plan(self, view: Scene) -> Floats:
        """Return deltas [chunk_steps, 4] (m, rad) of the commanded tip from where the chunk attaches."""
        position = view.commanded_position + self._pending[:3]
        yaw = view.commanded_yaw + float(self._pending[3])
        deltas = np.zeros((self._specification.chunk_steps, 4))
        if self._phase in ("close", "open"):
            return deltas
        cube = np.array(view.signal.target_position)
        goal, floor = (cube[:2], GRASP_M) if self._phase == "reach" else (np.array(GOAL_M), SET_DOWN_M)
        goal_yaw = view.signal.target_yaw if self._phase == "reach" else view.commanded_yaw
        for delta in deltas:
            turn = float(np.clip(wrap(goal_yaw - yaw), -TURN_RAD, TURN_RAD))
            sideways = goal - position[:2]
            distance = float(np.hypot(*sideways))
            over = distance < ALIGNED_M and abs(turn) < ALIGNED_RAD
            step_m = STEP_M if position[2] > HOVER_M - STEP_M else CAREFUL_M
            fall = float(np.clip((floor if over else HOVER_M) - position[2], -step_m, step_m))
            may_travel = over or position[2] > HOVER_M - STEP_M
            travel = sideways * min(1.0, step_m / max(distance, 1e-9)) if may_travel else np.zeros(2)
            delta[:] = (*travel, fall, turn)
            position = position + delta[:3]
            yaw += turn
        return deltas
