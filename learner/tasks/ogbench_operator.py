"""A scripted operator for the tasks of OGBench: the plan oracles of the package, told what the task asks for next.

The oracles were written for play, where the environment draws one target after the other; here the next target is the lowest
cube that is not yet where the task wants it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from poco.errors import UsageError

Floats = npt.NDArray[np.float32]
Info = dict[str, Any]
Look = Callable[[], tuple[int, int, Info]]
"""Returns episode, number of control steps taken and the information of the scene after the last one."""

SMOOTHING = 0.5
NEAR_M = 0.04
"""A cube this near to its goal is where it should be, as published."""


@contextlib.contextmanager
def numpy_randomness(generator: np.random.RandomState) -> Iterator[None]:
    """Let the oracles, which draw from numpy's global generator, draw from `generator` instead."""
    saved = np.random.get_state()  # noqa: NPY002
    np.random.set_state(generator.get_state())  # noqa: NPY002
    try:
        yield
    finally:
        generator.set_state(np.random.get_state())  # noqa: NPY002
        np.random.set_state(saved)  # noqa: NPY002


class Operator:
    """Callable from observation to chunk [1, 5] in action units; one instance for any number of episodes.

    The observation is ignored, what counts is `look()`. The same seed, episode and scene give the same chunk.
    """

    def __init__(self, scene: gymnasium.Env[Any, Any], look: Look, noise: float, bias_m: float, seed: int) -> None:
        """Raises UsageError for a task without cubes, a noise outside 0 to 1 or a bias outside 0 to 0.02 m."""
        from ogbench.manipspace.oracles.plan.cube_plan import CubePlanOracle

        if not 0.0 <= noise <= 1.0:
            raise UsageError(
                f"operator noise is {noise}, must lie in 0 to 1 of the action bound: choose for example 0.3"
            )
        if not 0.0 <= bias_m <= 0.02:
            raise UsageError(f"operator bias is {bias_m} m, must lie in 0 to 0.02 m: choose for example 0.006")
        self._look, self._bias_m, self._seed = look, bias_m, seed
        self._model: Any = scene.unwrapped
        if getattr(self._model, "_env_type", "").removeprefix("scene") not in ("single", "double", "triple"):
            raise UsageError("the scripted operator does the tasks of the cube scenes only: record play for the others")
        self._oracle: Any = CubePlanOracle(env=scene, noise=noise, noise_smoothing=SMOOTHING)
        self._episode = -1

    def __call__(self, observation: Floats | None = None) -> Floats:
        """Return the chunk of one action for the present state of the scene."""
        episode, count, info = self._look()
        if count == 0 or episode != self._episode:
            self._begin(episode)
            self._turn_to_next(info)
        elif self._oracle.done:
            self._turn_to_next(info)
        action: npt.NDArray[np.float64] = self._oracle.select_action(None, info)
        return action[None].astype(np.float32)

    def _begin(self, episode: int) -> None:
        self._episode = episode
        self._generator = np.random.RandomState([self._seed, episode % 2**32])
        angle = self._generator.uniform(0.0, 2.0 * math.pi)
        self._bias = self._bias_m * np.array([math.cos(angle), math.sin(angle), 0.0])

    def _turn_to_next(self, info: Info) -> None:
        """Give the oracle the next cube to move, misjudged by the bias; the first one when all are where they should be."""
        model = self._model
        goals = np.array([model.data.mocap_pos[index] for index in model._cube_target_mocap_ids])
        places = np.array([info[f"privileged/block_{cube}_pos"] for cube in range(len(goals))])
        wrong = np.linalg.norm(goals - places, axis=-1) > NEAR_M
        cube = int(np.argmin(np.where(wrong, goals[:, 2], math.inf)))
        asked = {
            "privileged/target_block": cube,
            f"privileged/block_{cube}_pos": places[cube] + self._bias,
            "privileged/target_block_pos": goals[cube],
            "privileged/target_block_yaw": np.zeros(1),
        }
        with numpy_randomness(self._generator):
            self._oracle.reset(None, {**info, **asked})
