"""Play in the scenes of OGBench: scripted operators after one random target and then the next, as its data sets were made.

Play has no task. For one of the tasks it is cut into pieces that end where the task is done, as episodes of the task do.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from poco.errors import UsageError
from poco.learner.datasets.trajectory import Source, Trajectory
from poco.specification import Specification, scale

from .ogbench_environment import OGBenchEnvironment, make_scene
from .ogbench_operator import SMOOTHING, numpy_randomness

Floats = npt.NDArray[np.float64]

PUBLISHED_STEPS = 1000
PUBLISHED_NOISE = 0.1
STACKING = {"cube-double": (0.0, 0.25), "cube-triple": (0.05, 0.35)}
"""Range from which an episode draws how often a cube is put on another one."""


class Oracle(Protocol):
    """A scripted operator of the package."""

    @property
    def done(self) -> bool:
        """Whether it is through with its target."""
        ...

    def reset(self, observation: Any, info: dict[str, Any]) -> None:
        """Plan for the target in `info`."""
        ...

    def select_action(self, observation: Any, info: dict[str, Any]) -> Floats:
        """Return the next action [5]."""
        ...


@dataclass(frozen=True, slots=True)
class Play:
    """Play of n actions in [-1, 1] [n, 5] with the observations [n + 1, O] and states of the scene around them.

    qpos [n + 1, Q] and button_states [n + 1, B] are what tasks are judged by; B is 0 without buttons.
    """

    observations: Floats
    actions: Floats
    qpos: Floats
    button_states: Floats

    def pieces(self, task: OGBenchEnvironment) -> list[Trajectory]:
        """Return the play as data of `task`: rewards relabelled, cut where the task is done, pieces below a chunk left out.

        As in episodes of the task, reward and success of a step are those of the state it begins in. What is played while the
        task stays done belongs to no piece.
        """
        published = task.published_rewards(self.qpos, self.button_states)
        seen = scale(task.specification.observation, self.observations)
        done, count = published >= 0.0, len(self.actions)
        found = []
        for first, last, success in _cuts(done, count):
            if last - first < task.specification.chunk_steps:
                continue
            rewards = published[first:last] if task.reward == "published" else done[first:last].astype(np.float64)
            found.append(Trajectory(seen[first : last + 1], self.actions[first:last], rewards, success, success))
        return found


def _cuts(done: npt.NDArray[np.bool_], count: int) -> Iterator[tuple[int, int, bool]]:
    """Yield first step, end and success of the pieces of `count` steps that begin in states that are `done` or not."""
    first = 0
    while first < count:
        ends = np.flatnonzero(done[first:count])
        if not len(ends):
            yield first, count, False
            return
        last = first + int(ends[0]) + 1
        if last - first > 1:
            yield first, last, True
        begins = np.flatnonzero(~done[last:count])
        first = last + int(begins[0]) if len(begins) else count


class Player:
    """Plays in `scene`; the same seed and episode give the same play."""

    def __init__(self, scene: str, steps: int, noise: float, seed: int) -> None:
        """Raises UsageError for a noise outside 0 to 1 or less than one step."""
        if not 0.0 <= noise <= 1.0:
            raise UsageError(f"noise of play is {noise}, must lie in 0 to 1: choose {PUBLISHED_NOISE} as published")
        if steps < 1:
            raise UsageError(f"--play-steps is {steps}, must be at least 1: choose {PUBLISHED_STEPS} as published")
        self._name, self._steps, self._seed = scene, steps, seed
        self._scene = make_scene(
            f"{scene}-v0", mode="data_collection", terminate_at_goal=False, max_episode_steps=steps + 1
        )
        self._oracles = _oracles(self._scene, scene, noise)

    def record(self, episode: int) -> Play:
        """Return play number `episode`."""
        model: Any = self._scene.unwrapped
        generator = np.random.RandomState([self._seed % 2**32, episode % 2**32])
        stacking = generator.uniform(*STACKING.get(self._name, (0.0, 0.0)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            observation, info = self._scene.reset(seed=self._seed + episode)
        oracle = self._turn(observation, info, generator)
        seen, states, actions = [observation], [_state(info)], []
        for _ in range(self._steps):
            with numpy_randomness(generator):
                action = np.clip(oracle.select_action(observation, info), -1.0, 1.0).astype(np.float32)
            observation, _, _, _, info = self._scene.step(action.astype(np.float64))
            actions.append(action)
            seen.append(observation)
            states.append(_state(info))
            if oracle.done:
                target = model.set_new_target(p_stack=stacking)
                oracle = self._turn(target[0], target[1], generator)
        qpos, buttons = zip(*states, strict=True)
        return Play(np.array(seen), np.array(actions, dtype=np.float64), np.array(qpos), np.array(buttons))

    def _turn(self, observation: Any, info: dict[str, Any], generator: np.random.RandomState) -> Oracle:
        """Return the operator for the target in `info`, its plan made."""
        oracle = self._oracles[info.get("privileged/target_task", next(iter(self._oracles)))]
        with numpy_randomness(generator):
            oracle.reset(observation, info)
        return oracle


def play_source(task: OGBenchEnvironment, steps: int, noise: float, seed: int, count: int) -> Source:
    """Return `count` episodes of play in the scene of `task`, relabelled for it.

    Raises UsageError for play that is shorter than a chunk, of which nothing could be kept, and what Player raises.
    """
    if 1 <= steps < task.specification.chunk_steps:
        raise UsageError(
            f"--play-steps is {steps}, a chunk of the task has {task.specification.chunk_steps} actions: choose "
            f"{PUBLISHED_STEPS} as published"
        )
    player = Player(task.scene, steps, noise, seed)
    return task_source(task, count, player.record)


def task_source(task: OGBenchEnvironment, count: int, play: Callable[[int], Play]) -> Source:
    """Return `count` episodes of `play` as data of `task`."""
    specification: Specification = task.specification
    return Source("ogbench", specification, count, lambda episode: play(episode).pieces(task))


def _oracles(scene: Any, name: str, noise: float) -> dict[str, Oracle]:
    from ogbench.manipspace.oracles.plan.button_plan import ButtonPlanOracle
    from ogbench.manipspace.oracles.plan.cube_plan import CubePlanOracle
    from ogbench.manipspace.oracles.plan.drawer_plan import DrawerPlanOracle
    from ogbench.manipspace.oracles.plan.window_plan import WindowPlanOracle

    plan = {"env": scene, "noise": noise, "noise_smoothing": SMOOTHING}
    if name.startswith("cube"):
        return {"cube": CubePlanOracle(**plan)}
    if name.startswith("puzzle"):
        return {"button": ButtonPlanOracle(**plan, gripper_always_closed=True)}
    return {
        "cube": CubePlanOracle(**plan),
        "button": ButtonPlanOracle(**plan),
        "drawer": DrawerPlanOracle(**plan),
        "window": WindowPlanOracle(**plan),
    }


def _state(info: dict[str, Any]) -> tuple[Floats, Floats]:
    return np.asarray(info["qpos"], np.float64).copy(), np.asarray(info.get("button_states", ()), np.float64).copy()
