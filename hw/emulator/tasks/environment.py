"""`poco/PegInHole-v0`: the task as a gymnasium environment whose action is one whole chunk.

Model, low-level law, inverse kinematics, splines, limits and `step` are those of the robot path; only the environment may
teleport the arm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import gymnasium
import msgspec
import mujoco
import numpy as np
import numpy.typing as npt

import poco
from poco.chunks import ChunkSequence
from poco.errors import UsageError
from poco.limits import PLANNING_MARGINS, STEP_MARGINS, fr3_limits
from poco.observation import observe, scene
from poco.records import Step
from poco.rollout import Rollout
from poco.specification import Specification, read_specification
from poco.views import Shown

from ...scripted_operator import Operator, Sight
from .cameras import TaskCameras
from .peg_in_hole import CAMERAS, GUARDS, PegInHole, Variant, parameters
from .plant import SimulatedPlant

Chunk = npt.NDArray[np.float32]
Observation = npt.NDArray[np.float32]

SPECIFICATION = Path(poco.__file__).parent / "configs" / "peg_in_hole_specification.yaml"
EPISODE_STEPS = 80
IMAGE_SIDE = 448


class PegInHoleEnvironment(gymnasium.Env[Observation, Chunk]):
    """One `step` executes one chunk [chunk_steps, 4] and returns at the next observation tick.

    The reward is the sum of the raw rewards of the control periods that ended; `info["steps"]` holds them as `records.Step`,
    `info["outcome"]` says how the episode stands ("running", "success", "failure", "truncated", "fault").
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012

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
        render_mode: Literal["rgb_array"] | None = None,
    ) -> None:
        """Build the scene of `variant` with single values replaced; None keeps the variant's.

        With an `image_side` (pixels) nothing of the target is observed: two cameras show it, see `shown`. Raises UsageError or
        ArtifactError naming the value and its limits, and PocoError if images are asked for and cannot be rendered.
        """
        if not 1 <= episode_steps <= 10_000:
            raise UsageError(f"episode_steps is {episode_steps}, must lie in 1 to 10000: choose for example 80")
        asked = {
            "clearance_m": clearance_m,
            "peg_side_m": peg_side_m,
            "bias_m": bias_m,
            "noise_m": noise_m,
            "noise_rad": noise_rad,
        }
        given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
        self.task = PegInHole(replace(parameters(variant), **given))
        self._specification = read_specification(SPECIFICATION)
        if delay_steps is not None:
            if delay_steps < 1:
                raise UsageError(
                    f"delay_steps is {delay_steps}, must be at least 1: a chunk attaches later than the tick it was observed in"
                )
            self._specification = msgspec.structs.replace(self._specification, delay_steps=delay_steps)
        self._cameras = None
        if image_side:
            self._cameras = TaskCameras(self.task.arm, CAMERAS, image_side, self._specification)
            self._specification = self._cameras.specification
        tip = self._specification.tip
        self._planning_limits = fr3_limits(PLANNING_MARGINS, GUARDS, tip)
        self._plant = SimulatedPlant(self.task, fr3_limits(STEP_MARGINS, GUARDS, tip))
        self._episode_steps = episode_steps
        self._episode = -1
        self._rollout: Rollout | None = None
        self._renderer: mujoco.Renderer | None = None
        self.render_mode = render_mode
        shape = (self._specification.chunk_steps, self._specification.action_size)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, shape, np.float32)
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (self._specification.observation_size,), np.float32)

    @property
    def specification(self) -> Specification:
        """The contract under which steps are recorded."""
        return self._specification

    @property
    def shown(self) -> Shown | None:
        """What images come with every observation, as `views.Views` in `info["views"]`; None without."""
        return None if self._cameras is None else self._cameras.shown

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Place the hole, teleport the arm to the start pose and return the first observation.

        The same `seed` gives the hole and sensor noise of the emulator's `place` with it and is the episode's number in its
        steps; without one both follow from the seed given before.
        """
        super().reset(seed=seed)
        self._episode = self._episode + 1 if seed is None else seed
        self._plant.reset(np.array(self._specification.rest_q))
        self.task.place(int(self.np_random.integers(2**31)) if seed is None else seed)
        sequence = ChunkSequence(self._specification, self._planning_limits)
        self._rollout = Rollout(
            self._plant,
            sequence,
            robot="environment",
            boot_epoch=0,
            episode=self._episode,
            episode_steps=self._episode_steps,
            look=observe if self._cameras is None else self._cameras.observe,
        )
        observation = self._rollout.begin(0)
        return observation, {"outcome": "running", "steps": []} | self._shown(())

    def step(self, action: Chunk) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Execute the chunk `action` [chunk_steps, 4] in action units up to the next observation tick."""
        if self._rollout is None:
            raise UsageError("step was called before reset: call reset first")
        transition = self._rollout.step(action)
        outcome = "failure" if self._plant.reflex else transition.outcome
        info: dict[str, Any] = {
            "outcome": outcome,
            "steps": list(transition.steps),
            "interrupted": transition.interrupted,
            **self._shown(transition.steps),
        }
        reward = sum(step.reward for step in transition.steps)
        terminated, truncated = outcome in ("success", "failure", "fault"), outcome == "truncated"
        if terminated or truncated:
            info["end"] = self._rollout.end(outcome)
        return transition.observation, float(reward), terminated, truncated, info

    def operator(self, noise: float = 0.0, bias: float | None = None, seed: int = 0) -> Operator:
        """Return a scripted operator: a callable from observation to chunk [chunk_steps, 4] that also sees the true scene.

        `noise` is the fraction of the action bound added at each step, `bias` (m) how far it misjudges the hole, in a
        direction drawn for each episode; None takes the `bias_m` of the task's parameters.
        """
        magnitude = self.task.parameters.bias_m if bias is None else bias
        return Operator(self._specification, self._look, noise, magnitude, seed)

    def render(self) -> npt.NDArray[np.uint8]:
        """Return the view of the task camera [448, 448, 3]; needs MUJOCO_GL=egl or osmesa without a display."""
        if self._renderer is None:
            self._renderer = mujoco.Renderer(self.task.arm.model, IMAGE_SIDE, IMAGE_SIDE)
        self._renderer.update_scene(self.task.arm.data, "task")
        return np.asarray(self._renderer.render(), np.uint8)

    def close(self) -> None:
        """Free the renderers."""
        if self._cameras is not None:
            self._cameras.close()
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def _shown(self, steps: Sequence[Step]) -> dict[str, Any]:
        return {} if self._cameras is None else {"views": self._cameras.views(steps)}

    def _look(self) -> Sight:
        view = scene(self._plant.report(), self._plant.signal(), self._specification)
        return Sight(self._episode, view, self.task.hole_position, self.task.hole_yaw)
