"""`poco/Cube-v0`: a cube to be grasped and set down on its square as a gymnasium environment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

import poco
from poco.errors import UsageError
from poco.settings import GripperSettings
from poco.specification import read_specification

from ...cube_operator import CubeOperator, CubeSight
from ..fingers import WIDTH_MAX_M
from .cube import GUARDS, CubePlacing
from .environment import Chunk, ChunkEnvironment, Observation, RenderMode
from .hand import TaskHand

Operator = Callable[[Observation | None], Chunk]

SPECIFICATION = Path(poco.__file__).parent / "configs" / "cube_specification.yaml"
EPISODE_STEPS = 200
HAND = GripperSettings(
    speed_m_s=0.1,
    force_n=30.0,
    close_below_m=0.03,
    hysteresis_m=0.005,
    lead_s=0.1,
    start_width_m=WIDTH_MAX_M,
    age_max_s=1.0,
)
"""What the gripper is told and when; the robot's settings file says the same."""


class CubeEnvironment(ChunkEnvironment):
    """A chunk [chunk_steps, 5] moves the tip and the fingers; success is the cube on its square with nothing holding it."""

    def __init__(self, episode_steps: int = EPISODE_STEPS, render_mode: RenderMode = None) -> None:
        """Build the scene. Raises UsageError naming the value and its limits."""
        self.task = CubePlacing()
        assert self.task.fingers is not None
        hand = TaskHand(self.task.fingers, HAND)
        super().__init__(
            self.task, read_specification(SPECIFICATION), GUARDS, episode_steps, hand, render_mode=render_mode
        )

    def operator(self, noise: float = 0.0, bias: float = 0.0, seed: int = 0) -> Operator:
        """Return the scripted operator: a callable from observation, which it ignores, to chunk [chunk_steps, 5].

        `noise` is the fraction of the action bound that its hand trembles by; it misjudges nothing. Raises UsageError.
        """
        if not 0.0 <= noise <= 1.0:
            raise UsageError(
                f"operator noise is {noise}, must lie in 0 to 1 of the action bound: choose for example 0.2"
            )
        if bias:
            raise UsageError(f"operator bias is {bias} m, but who places cubes misjudges nothing: leave it out")
        steady = CubeOperator(self.specification, lambda: CubeSight(self._episode, self._view()))

        def trembling(observation: Observation | None = None) -> Chunk:
            chunk = steady()
            draw = np.random.default_rng([seed, self._episode, self._plant.tick])
            chunk[:, :-1] += noise * draw.uniform(-1.0, 1.0, chunk[:, :-1].shape)
            return chunk.clip(-1.0, 1.0)

        return trembling
