"""A single-task manipulation environment of OGBench whose action is one whole chunk, executed open loop.

Physics, reset, reward and termination are those of the package `ogbench`; observations are scaled by the specification.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal

import gymnasium
import numpy as np
import numpy.typing as npt

from poco.clock import TICKS_PER_SECOND
from poco.errors import UsageError
from poco.records import EpisodeEnd, Step, StepKey
from poco.specification import Specification, scale

from .ogbench_operator import Operator
from .ogbench_scenes import RATE_HZ, RewardKind, scene_parts, scene_specification

Floats = npt.NDArray[np.float32]
States = npt.NDArray[np.float64]
TICKS = round(TICKS_PER_SECOND / RATE_HZ)
BEYOND = 1e-9


def make_scene(name: str, **parameters: Any) -> gymnasium.Env[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the environment `name` of OGBench; raises UsageError if the package is not installed."""
    try:
        import ogbench  # noqa: F401 (registers its environments)
    except ImportError as error:
        raise UsageError(f'the task needs the package ogbench ({error}): pip install "poco-robot[ogbench]"') from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return gymnasium.make(name, disable_env_checker=True, **parameters)


class _Placed:
    """A scene whose goals are in place, for a judge who would reset it."""

    def __init__(self, scene: gymnasium.Env[Any, Any]) -> None:
        self.unwrapped = scene.unwrapped

    def reset(self) -> None:
        """Leave everything where it is."""


class OGBenchEnvironment(gymnasium.Env[Floats, Floats]):
    """One `step` executes one chunk [n, 5] of at most chunk_steps actions, or the part of it up to the end of the episode.

    `info["steps"]` holds the control steps as `records.Step`, `info["outcome"]` says how the episode stands ("running",
    "success", "truncated"), `info["clipped"]` counts the observation elements of the episode that were out of bounds. The
    raw reward is the published one, satisfied parts minus parts, or with reward "success" 1 at the end of a success and else 0.
    As published, reward and success of a step are those of the state it begins in.
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(
        self,
        scene: str,
        task: int,
        chunk_steps: int = 5,
        reward: RewardKind = "published",
        episode_steps: int | None = None,
        render_mode: Literal["rgb_array"] | None = None,
    ) -> None:
        """Make task number `task` of `scene`; `episode_steps` None takes the published time limit.

        Raises UsageError naming what is wrong.
        """
        limit = scene_parts(scene).episode_steps if episode_steps is None else episode_steps
        if limit < 1:
            raise UsageError(f"episode_steps is {limit}, must be at least 1: choose for example 200")
        self._specification = scene_specification(scene, chunk_steps, reward)
        self._name = f"{scene}-singletask-task{task}-v0"
        self._scene = make_scene(self._name, max_episode_steps=limit)
        self.scene, self.reward, self.render_mode = scene, reward, render_mode
        self._episode, self._count, self._chunk, self._clipped = -1, 0, 0, 0
        self._seen: Floats | None = None
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (chunk_steps, 5), np.float32)
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (self._specification.observation_size,), np.float32)

    @property
    def specification(self) -> Specification:
        """The contract under which steps are recorded."""
        return self._specification

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Floats, dict[str, Any]]:
        """Place arm and objects and return the first observation; `seed` is the episode's number in its steps."""
        super().reset(seed=seed)
        self._episode = self._episode + 1 if seed is None else seed
        self._count, self._chunk, self._clipped = 0, 0, 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            observation, self._info = self._scene.reset(seed=seed)
        self._seen = self._scaled(observation)
        return self._seen, {"outcome": "running", "steps": []}

    def step(self, action: Floats) -> tuple[Floats, float, bool, bool, dict[str, Any]]:
        """Execute the rows of `action` [n, 5] in action units, one a control step."""
        if self._seen is None:
            raise UsageError("step was called before reset: call reset first")
        if action.ndim != 2 or action.shape[1] != 5 or not 1 <= len(action) <= self._specification.chunk_steps:
            raise UsageError(
                f"the chunk has shape {list(action.shape)}, expected [1 to {self._specification.chunk_steps}, 5]"
            )
        self._chunk += 1
        steps: list[Step] = []
        outcome = "running"
        for row in np.clip(action, -1.0, 1.0):
            outcome = self._control(row, steps)
            if outcome != "running":
                break
        info: dict[str, Any] = {"outcome": outcome, "steps": steps, "clipped": self._clipped}
        if outcome != "running":
            info["end"] = self._end(outcome)
        reward = float(sum(step.reward for step in steps))
        return self._seen, reward, outcome == "success", outcome == "truncated", info

    def operator(self, noise: float = 0.0, bias: float = 0.0, seed: int = 0) -> Operator:
        """Return the scripted operator of the task: a callable from observation to chunk [1, 5] that sees the true scene.

        `noise` is that of the oracle's plan as a fraction of the action bounds, `bias` (m) how far it misjudges where cubes
        lie, in a direction drawn for each episode.
        """
        return Operator(self._scene, lambda: (self._episode, self._count, self._info), noise, bias, seed)

    def published_rewards(self, qpos: States, button_states: States) -> States:
        """Return satisfied parts minus parts [n] in the states qpos [n, Q] and button_states [n, B] of a data set."""
        from ogbench.relabel_utils import relabel_dataset

        if self._seen is None:
            self.reset(seed=0)
        columns = {"qpos": qpos, "button_states": button_states}
        relabel_dataset(self._name, _Placed(self._scene), columns)
        return columns["rewards"].astype(np.float64)

    def render(self) -> Any:
        """Return the view of the scene's camera [200, 200, 3]; needs MUJOCO_GL=egl or osmesa without a display."""
        return self._scene.unwrapped.render()

    def close(self) -> None:
        """Free the scene."""
        self._scene.close()

    def _control(self, row: Floats, steps: list[Step]) -> str:
        assert self._seen is not None
        before = self._seen
        observation, published, _, truncated, self._info = self._scene.step(row.astype(np.float64))
        success = bool(self._info["success"])
        asked = [float(value) for value in row]
        steps.append(
            Step(
                key=StepKey("environment", 0, self._episode, self._count),
                tick=self._count * TICKS,
                generation=0,
                chunk_id=self._chunk,
                observation=[float(value) for value in before],
                action_policy=asked,
                action_executed=asked,
                reward=float(published) if self.reward == "published" else float(success),
            )
        )
        self._count += 1
        self._seen = self._scaled(observation)
        return "success" if success else "truncated" if truncated else "running"

    def _end(self, outcome: str) -> EpisodeEnd:
        assert self._seen is not None
        return EpisodeEnd(
            robot="environment",
            boot_epoch=0,
            episode=self._episode,
            tick=self._count * TICKS,
            final_observation=[float(value) for value in self._seen],
            outcome="success" if outcome == "success" else "failure",
            terminated=outcome == "success",
            truncated=outcome == "truncated",
            labels={"reason": outcome},
        )

    def _scaled(self, observation: npt.NDArray[np.float64]) -> Floats:
        fields = self._specification.observation
        low = np.concatenate([item.low for item in fields])
        high = np.concatenate([item.high for item in fields])
        self._clipped += int(np.count_nonzero((observation < low - BEYOND) | (observation > high + BEYOND)))
        return scale(fields, observation).astype(np.float32)
