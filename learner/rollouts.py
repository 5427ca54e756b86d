"""Episodes in a gymnasium environment whose action is one whole chunk: recorded demonstrations and measured success."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import gymnasium
import numpy as np
import numpy.typing as npt

from poco.episodes import write_episode
from poco.errors import UsageError
from poco.learner.demonstrations import EPISODE_SUFFIX
from poco.learner.environment_process import EnvironmentLost, EnvironmentProcess
from poco.records import EpisodeEnd, Step
from poco.specification import Specification
from poco.statistics import wilson_interval
from poco.views import Shown, Views

Floats = npt.NDArray[np.float32]
Environment = gymnasium.Env[Floats, Floats]
Actor = Callable[[Floats, int, int], Floats]
"""From observation [O], episode and chunk number to a chunk [T, A]."""


@dataclass(frozen=True, slots=True)
class SuccessRate:
    """Successes among `episodes` with the bounds of the 95 % Wilson score interval."""

    episodes: int
    successes: int
    rate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Rolled:
    """One finished episode, and what cameras saw in it."""

    steps: tuple[Step, ...]
    end: EpisodeEnd
    views: Views | None = field(default=None, compare=False)

    @property
    def success(self) -> bool:
        """Whether the task was done."""
        return self.end.outcome == "success"


def wilson(successes: int, episodes: int) -> SuccessRate:
    """Return the success rate with its 95 % interval; `episodes` must be at least 1."""
    low, high = wilson_interval(successes, episodes)
    return SuccessRate(episodes, successes, successes / episodes, low, high)


def make_environment(task: str, **parameters: Any) -> Environment:
    """Return the gymnasium environment `task` made with `parameters`; raises UsageError if it cannot be made."""
    try:
        return gymnasium.make(task, disable_env_checker=True, **parameters)
    except (gymnasium.error.Error, ImportError, TypeError) as error:
        raise UsageError(f"the environment {task} cannot be made with {parameters} ({error}): check --task") from error


def task_label(task: str, parameters: Mapping[str, Any]) -> str:
    """Return what figures call the environment `task` made with `parameters`: its variant, otherwise its name."""
    return str(parameters.get("variant", task.rpartition("/")[2]))


def specification_of(environment: Environment) -> Specification:
    """Return the specification under which `environment` records."""
    specification: Specification = environment.unwrapped.specification  # type: ignore[attr-defined]
    return specification


def shown_by(environment: Environment) -> Shown | None:
    """Return what images `environment` gives with its observations; most give none."""
    shown: Shown | None = getattr(environment.unwrapped, "shown", None)
    return shown


def roll(environment: Environment, actor: Actor, episodes: range, seed: int) -> Iterator[Rolled]:
    """Yield one finished episode for each number in `episodes`; episode e is reset with `seed` + e.

    An episode whose worker is lost is played again from the start by the next worker.
    """
    for episode in episodes:
        while True:
            try:
                rolled = _play(environment, actor, episode, seed)
                break
            except EnvironmentLost as lost:
                cast(EnvironmentProcess, environment).restart(lost)
        yield rolled


def _play(environment: Environment, actor: Actor, episode: int, seed: int) -> Rolled:
    observation, _ = environment.reset(seed=seed + episode)
    steps: list[Step] = []
    views: list[Views] = []
    chunk, running = 0, True
    while running:
        observation, _, terminated, truncated, info = environment.step(actor(observation, episode, chunk))
        steps += info["steps"]
        if "views" in info:
            views.append(info["views"])
        chunk, running = chunk + 1, not (terminated or truncated)
    return Rolled(tuple(steps), info["end"], Views.joined(views) if views else None)


def operator_actor(environment: Environment, noise: float, bias_m: float, seed: int) -> Actor:
    """Return the scripted operator of `environment` as an actor."""
    operator = environment.unwrapped.operator(noise=noise, bias=bias_m, seed=seed)  # type: ignore[attr-defined]
    return lambda observation, episode, chunk: operator(observation)


def record(rolled: Rolled, specification: Specification, folder: Path) -> None:
    """Write the episode to `folder`, one file named by its number."""
    folder.mkdir(parents=True, exist_ok=True)
    write_episode(
        folder / f"{rolled.end.episode:06d}{EPISODE_SUFFIX}", specification, rolled.steps, rolled.end, rolled.views
    )
