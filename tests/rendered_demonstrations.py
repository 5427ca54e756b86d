"""Demonstrations of the peg-in-hole task with pictures from two cameras, written as arrays by a program of its own.

`python rendered_demonstrations.py FOLDER EPISODES`. MuJoCo chooses its renderer when it is imported, so this is none of the tests'.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from poco.hw.emulator.replay import choose_renderer

SIDE = 64
CHUNKS = 4
TARGET = slice(4, 12)
"""Part of the observation that tells where the hole is, which the policy must see for itself."""


def record(folder: Path, episodes: int) -> None:
    """Write images u8 [N, 2, 3, 64, 64], state [N, S], pose [N, 3] (m, rad) and chunk [N, T, 4] of clean episodes."""
    choose_renderer()
    import mujoco

    from poco.hw.emulator.tasks.environment import PegInHoleEnvironment

    environment = PegInHoleEnvironment("easy")
    task, operator = environment.task, environment.operator(bias=0.0)
    renderer = mujoco.Renderer(task.arm.model, SIDE, SIDE)
    opposite = mujoco.MjvCamera()
    opposite.lookat[:] = (0.5, 0.0, 0.1)
    opposite.distance, opposite.azimuth, opposite.elevation = 0.7, 60.0, -40.0
    rows: dict[str, list[npt.NDArray[Any]]] = {"images": [], "state": [], "pose": [], "chunk": []}
    for episode in range(episodes):
        observation, _ = environment.reset(seed=episode)
        for _ in range(CHUNKS):
            views = []
            for camera in ("task", opposite):
                renderer.update_scene(task.arm.data, camera)
                views.append(renderer.render().transpose(2, 0, 1))
            chunk = operator(observation)
            rows["images"].append(np.array(views))
            rows["state"].append(np.delete(observation, TARGET))
            rows["pose"].append(np.array([*task.hole_position[:2], task.hole_yaw], np.float32))
            rows["chunk"].append(np.asarray(chunk, np.float32))
            observation = environment.step(chunk)[0]
    for name, column in rows.items():
        np.save(folder / f"{name}.npy", np.array(column))


if __name__ == "__main__":
    record(Path(sys.argv[1]), int(sys.argv[2]))
