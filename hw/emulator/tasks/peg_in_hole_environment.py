"""`poco/PegInHole-v0`: the peg and its hole as a gymnasium environment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

import poco
from poco.errors import UsageError
from poco.specification import read_specification

from ...scripted_operator import Operator, Sight
from .cameras import TaskCameras
from .environment import ChunkEnvironment, RenderMode
from .peg_in_hole import CAMERAS, GUARDS, PegInHole, Variant, parameters

SPECIFICATION = Path(poco.__file__).parent / "configs" / "peg_in_hole_specification.yaml"
EPISODE_STEPS = 80


class PegInHoleEnvironment(ChunkEnvironment):
    """A chunk [chunk_steps, 4] moves the tip of the peg; success is the peg in its hole."""

    def __init__(
        self,
        variant: Variant = "easy",
        clearance_m: float | None = None,
        peg_side_m: float | None = None,
        bias_m: float | None = None,
        noise_m: float | None = None,
        noise_rad: float | None = None,
        delay_steps: int | None = None,
        episode_steps: int = EPISODE_STEPS,
        image_side: int = 0,
        render_mode: RenderMode = None,
    ) -> None:
        """Build the scene of `variant` with single values replaced; None keeps the variant's.

        With an `image_side` (pixels) nothing of the target is observed: two cameras show it, see `shown`. Raises UsageError or
        ArtifactError naming the value and its limits, and PocoError if images are asked for and cannot be rendered.
        """
        asked = {
            "clearance_m": clearance_m,
            "peg_side_m": peg_side_m,
            "bias_m": bias_m,
            "noise_m": noise_m,
            "noise_rad": noise_rad,
        }
        given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
        self.task = PegInHole(replace(parameters(variant), **given))
        specification = read_specification(SPECIFICATION)
        if delay_steps is not None:
            if delay_steps < 1:
                raise UsageError(
                    f"delay_steps is {delay_steps}, must be at least 1: a chunk attaches later than the tick it was observed in"
                )
            specification = msgspec.structs.replace(specification, delay_steps=delay_steps)
        cameras = None
        if image_side:
            cameras = TaskCameras(self.task.arm, CAMERAS, image_side, specification)
            specification = cameras.specification
        super().__init__(self.task, specification, GUARDS, episode_steps, cameras=cameras, render_mode=render_mode)

    def operator(self, noise: float = 0.0, bias: float | None = None, seed: int = 0) -> Operator:
        """Return a scripted operator: a callable from observation to chunk [chunk_steps, 4] that also sees the true scene.

        `noise` is the fraction of the action bound added at each step, `bias` (m) how far it misjudges the hole, in a
        direction drawn for each episode; None takes the `bias_m` of the task's parameters.
        """
        magnitude = self.task.parameters.bias_m if bias is None else bias
        return Operator(self._specification, self._look, noise, magnitude, seed)

    def _look(self) -> Sight:
        return Sight(self._episode, self._view(), self.task.hole_position, self.task.hole_yaw)
