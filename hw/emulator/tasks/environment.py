"""A simulated task as a gymnasium environment whose action is one whole chunk.

Model, low-level law, inverse kinematics, splines, limits and `step` are those of the robot path; only the environment may
teleport the arm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import gymnasium
import mujoco
import numpy as np
import numpy.typing as npt

from poco.chunks import ChunkSequence
from poco.errors import UsageError
from poco.limits import PLANNING_MARGINS, STEP_MARGINS, Guards, fr3_limits
from poco.observation import Scene, observe, scene
from poco.records import Step
from poco.rollout import Rollout
from poco.specification import Specification
from poco.views import Shown

from .cameras import TaskCameras
from .hand import TaskHand
from .plant import SimulatedPlant, Task

Chunk = npt.NDArray[np.float32]
Observation = npt.NDArray[np.float32]
RenderMode = Literal["rgb_array"] | None

IMAGE_SIDE = 448


class ChunkEnvironment(gymnasium.Env[Observation, Chunk]):
    """One `step` executes one chunk [chunk_steps, action_size] and returns at the next observation tick.

    The reward is the sum of the raw rewards of the control periods that ended; `info["steps"]` holds them as `records.Step`,
    `info["outcome"]` says how the episode stands ("running", "success", "failure", "truncated", "fault").
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012

    def __init__(
        self,
        task: Task,
        specification: Specification,
        guards: Guards,
        episode_steps: int,
        hand: TaskHand | None = None,
        cameras: TaskCameras | None = None,
        render_mode: RenderMode = None,
    ) -> None:
        """Drive the arm of `task` under `specification`; with `cameras` every observation comes with images. Raises UsageError."""
        if not 1 <= episode_steps <= 10_000:
            raise UsageError(f"episode_steps is {episode_steps}, must lie in 1 to 10000: choose for example 80")
        self._specification, self._cameras, self._scene_task = specification, cameras, task
        self._planning_limits = fr3_limits(PLANNING_MARGINS, guards, specification.tip)
        self._plant = SimulatedPlant(task, fr3_limits(STEP_MARGINS, guards, specification.tip), hand)
        self._episode_steps = episode_steps
        self._episode = -1
        self._rollout: Rollout | None = None
        self._renderer: mujoco.Renderer | None = None
        self.render_mode = render_mode
        shape = (specification.chunk_steps, specification.action_size)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, shape, np.float32)
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (specification.observation_size,), np.float32)

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
        """Place the objects, teleport the arm to the start pose and return the first observation.

        The same `seed` gives the objects and sensor noise of the emulator's `place` with it and is the episode's number in its
        steps; without one both follow from the seed given before.
        """
        super().reset(seed=seed)
        self._episode = self._episode + 1 if seed is None else seed
        self._plant.reset(np.array(self._specification.rest_q))
        self._scene_task.place(int(self.np_random.integers(2**31)) if seed is None else seed)
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
        """Execute the chunk `action` [chunk_steps, action_size] in action units up to the next observation tick."""
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

    def render(self) -> npt.NDArray[np.uint8]:
        """Return the view of the task camera [448, 448, 3]; needs MUJOCO_GL=egl or osmesa without a display."""
        if self._renderer is None:
            self._renderer = mujoco.Renderer(self._scene_task.arm.model, IMAGE_SIDE, IMAGE_SIDE)
        self._renderer.update_scene(self._scene_task.arm.data, "task")
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

    def _view(self) -> Scene:
        """Return what the sensors tell now, for a scripted operator."""
        return scene(self._plant.report(), self._plant.signal(), self._specification)
