"""A task that costs nothing: reach a target by chunks, with the conventions of the real ones; needs numpy, msgspec, gymnasium.

`gymnasium.make("reach_task:Reach-v0")`. With `journal` it appends a line "episode steps" for every episode it has finished.
With `trouble` the second chunk of an episode exits, hangs or raises; only once if `once` names a file that is not there yet.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Literal

import gymnasium
import numpy as np
import numpy.typing as npt

from poco.records import EpisodeEnd, Step, StepKey
from poco.specification import Field, Specification

Floats = npt.NDArray[np.float32]
TASK = "reach_task:Reach-v0"
NEAR = 0.25

SPECIFICATION = Specification(
    name="reach",
    robot="fr3",
    rate_hz=20.0,
    chunk_steps=5,
    execute_steps=3,
    delay_steps=1,
    action_space="tip_delta",
    delta_base="commanded_at_attachment",
    gripper="none",
    flange_t_tip=tuple(np.eye(4).ravel().tolist()),
    rest_q=(0.0, 0.0, 0.0, -2.0, 0.0, 2.0, 0.8),
    observation=(
        Field(name="offset", source="target_offset", frame="base", unit="m", low=(-0.1,) * 3, high=(0.1,) * 3),
        Field(name="tip", source="tip_position", frame="base", unit="m", low=(0.0,) * 3, high=(1.0,) * 3),
    ),
    action=(
        Field(name="tip_step", source="tip_step", frame="base", unit="m", low=(-0.006,) * 3, high=(0.006,) * 3),
        Field(name="yaw_step", source="yaw_step", frame="base", unit="rad", low=(-0.06,), high=(0.06,)),
    ),
)


class Reach(gymnasium.Env[Floats, Floats]):
    """The offset to the target shrinks by a fifth of every action; the episode succeeds near the target, once it is there."""

    def __init__(
        self,
        episode_steps: int = 15,
        journal: str = "",
        trouble: Literal["", "exit", "hang", "raise"] = "",
        once: str = "",
    ) -> None:
        print("the reach task prints this on standard output")
        self._trouble, self._once = trouble, once
        self.specification = SPECIFICATION
        self._episode_steps, self._journal = episode_steps, journal
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (6,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (5, 4), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Floats, dict[str, Any]]:
        """Draw a target from `seed`, which is the episode's number."""
        super().reset(seed=seed)
        self._episode = seed or 0
        self._offset, self._tip = self.np_random.uniform(-0.6, 0.6, 3), np.zeros(3)
        self._pending, self._step = np.zeros((1, 4)), 0
        return self._observation(), {}

    def step(self, action: Floats) -> tuple[Floats, float, bool, bool, dict[str, Any]]:
        """Execute what was under way and the first actions of the chunk `action` [5, 4]."""
        if self._step:
            self._make_trouble()
        chunk = np.asarray(action, np.float64)
        steps: list[Step] = []
        success = False
        for move in (*self._pending, *chunk[:2]):
            seen = self._observation().tolist()
            self._offset, self._tip = self._offset - 0.2 * move[:3], np.clip(self._tip + 0.2 * move[:3], -1.0, 1.0)
            success = float(np.abs(self._offset).max()) < NEAR
            steps.append(
                Step(
                    key=StepKey("reach", 0, self._episode, self._step),
                    tick=50 * self._step,
                    generation=0,
                    chunk_id=1,
                    observation=seen,
                    action_policy=move.tolist(),
                    action_executed=move.tolist(),
                    reward=float(success),
                )
            )
            self._step += 1
            if success or self._step == self._episode_steps:
                break
        self._pending = chunk[2:3]
        truncated = not success and self._step == self._episode_steps
        info: dict[str, Any] = {"steps": steps}
        if success or truncated:
            info["end"] = self._end(success)
        return self._observation(), float(success), success, truncated, info

    def _make_trouble(self) -> None:
        if not self._trouble or (self._once and Path(self._once).exists()):
            return
        if self._once:
            Path(self._once).touch()
        if self._trouble == "raise":
            raise ValueError("the suite has had enough")
        if self._trouble == "hang":
            time.sleep(1000.0)
        os._exit(3)

    def _end(self, success: bool) -> EpisodeEnd:
        if self._journal:
            with Path(self._journal).open("a") as stream:
                stream.write(f"{self._episode} {self._step}\n")
        return EpisodeEnd(
            robot="reach",
            boot_epoch=0,
            episode=self._episode,
            tick=50 * self._step,
            final_observation=self._observation().tolist(),
            outcome="success" if success else "truncated",
            terminated=success,
            truncated=not success,
        )

    def _observation(self) -> Floats:
        return np.asarray(np.clip(np.concatenate([self._offset, self._tip]), -1.0, 1.0), np.float32)


gymnasium.register(id="Reach-v0", entry_point="reach_task:Reach")
