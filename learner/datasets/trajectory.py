"""One recorded episode of others on its way to an episode of poco: checked, scaled, and with its end."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import yaml

from poco.durable import write_durably
from poco.episodes import Episode, write_episode
from poco.errors import ArtifactError
from poco.learner.demonstrations import EPISODE_SUFFIX
from poco.records import EpisodeEnd, Step, StepKey
from poco.specification import Field, Floats, Specification, scale
from poco.views import Views

PIECES_MAX = 1000
"""Piece p of recorded episode e becomes episode PIECES_MAX * e + p."""

MARGIN = 0.05
"""Bounds that come from data are this fraction of their range wider than the data."""

SPECIFICATION_FILE = "specification.yaml"


@dataclass(frozen=True, slots=True)
class Trajectory:
    """Observations [n + 1, O] and actions [n, A] in [-1, 1], raw rewards [n]; the last observation follows the last action.

    `views` is what cameras saw with the observations, where that is wanted.
    """

    observations: Floats
    actions: Floats
    rewards: Floats
    success: bool
    terminated: bool
    views: Views | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Source:
    """`count` recorded episodes of one specification; `read` returns episode e as the pieces that learning takes it in.

    `robot` names whose they are, `left_out` the columns that have no place in the specification, such as cameras.
    """

    robot: str
    specification: Specification
    count: int
    read: Callable[[int], Sequence[Trajectory | Episode]]
    left_out: tuple[str, ...] = ()


def checked(what: str, values: npt.ArrayLike, size: int) -> Floats:
    """Return `values` as [n, size] floats; raises ArtifactError naming `what` for another shape or a value not finite."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"{what} does not hold numbers ({error}): correct the data") from error
    if size == 1 and array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] != size:
        raise ArtifactError(f"{what} has shape {list(array.shape)}, expected [steps, {size}]: correct the data")
    wrong = np.argwhere(~np.isfinite(array))
    if len(wrong):
        row, column = wrong[0]
        raise ArtifactError(
            f"{what} is {array[row, column]} in step {row}, element {column}, must be finite: correct or remove the episode"
        )
    return array


def long_enough(what: str, steps: int, specification: Specification) -> None:
    """Raise ArtifactError if an episode of `steps` does not hold one whole chunk."""
    if steps < specification.chunk_steps:
        raise ArtifactError(
            f"{what} has {steps} steps, a chunk has {specification.chunk_steps}: remove the episode or lower --chunk-steps"
        )


def field_of(name: str, source: str, columns: Sequence[Floats]) -> Field:
    """Return the field `name` whose bounds hold all `columns` [n, size] with a margin; constants get bounds 1 away."""
    low = np.min([column.min(0) for column in columns], axis=0)
    high = np.max([column.max(0) for column in columns], axis=0)
    margin = np.where(high - low > 1e-9, MARGIN * (high - low), 1.0)
    return Field(
        name=name,
        source=source,
        frame="as recorded",
        unit="as recorded",
        low=tuple((low - margin).tolist()),
        high=tuple((high + margin).tolist()),
    )


def scaled(fields: tuple[Field, ...], columns: Sequence[Floats]) -> Floats:
    """Return `columns`, one [n, size] for each of `fields`, side by side in [-1, 1], clipped."""
    return scale(fields, np.concatenate(columns, axis=1))


def episode_of(trajectory: Trajectory, specification: Specification, robot: str, number: int) -> Episode:
    """Return `trajectory` as episode `number` of `robot`; what was asked for counts as executed."""
    period, chunk = specification.period_ticks, specification.execute_steps
    rows = zip(
        trajectory.observations[:-1].tolist(), trajectory.actions.tolist(), trajectory.rewards.tolist(), strict=True
    )
    steps = tuple(
        Step(
            key=StepKey(robot, 0, number, step),
            tick=step * period,
            generation=0,
            chunk_id=1 + step // chunk,
            observation=observation,
            action_policy=action,
            action_executed=action,
            reward=reward,
        )
        for step, (observation, action, reward) in enumerate(rows)
    )
    end = EpisodeEnd(
        robot=robot,
        boot_epoch=0,
        episode=number,
        tick=len(steps) * period,
        final_observation=trajectory.observations[-1].tolist(),
        outcome="success" if trajectory.success else "failure",
        terminated=trajectory.terminated,
        truncated=not trajectory.terminated,
        labels={"reason": "recorded"},
    )
    return Episode(specification, steps, end, trajectory.views)


@dataclass(slots=True)
class Kept:
    """What was written: pieces, their steps, and how many of their `values` lie at bounds, where clipping puts them."""

    written: int = 0
    steps: int = 0
    values: int = 0
    at_bounds: int = 0

    def add(self, episode: Episode) -> None:
        """Count one piece."""
        numbers = [value for step in episode.steps for value in (*step.observation, *step.action_executed)]
        self.written += 1
        self.steps += len(episode.steps)
        self.values += len(numbers)
        self.at_bounds += int(np.count_nonzero(np.abs(numbers) >= 1.0))


def keep(source: Source, number: int, out: Path, kept: Kept) -> None:
    """Write recorded episode `number` of `source` to `out` and count it in `kept`.

    Repeating it changes nothing. Raises ArtifactError for what does not fit.
    """
    pieces = source.read(number)
    if len(pieces) > PIECES_MAX:
        raise ArtifactError(
            f"recorded episode {number} falls into {len(pieces)} pieces, the limit is {PIECES_MAX}: give shorter recordings"
        )
    for piece, read in enumerate(pieces):
        name = PIECES_MAX * number + piece
        episode = episode_of(read, source.specification, source.robot, name) if isinstance(read, Trajectory) else read
        file = out / f"{name:09d}{EPISODE_SUFFIX}"
        write_episode(file, source.specification, episode.steps, episode.end, episode.views)
        kept.add(episode)


def begin(source: Source, out: Path) -> int:
    """Prepare folder `out` and return the recorded episode to go on with; raises ArtifactError for one of other data."""
    out.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(msgspec.to_builtins(source.specification), sort_keys=False)
    file = out / SPECIFICATION_FILE
    if file.is_file() and file.read_text() != text:
        raise ArtifactError(f"{file} is of other data or bounds: choose another --out, or remove the folder")
    write_durably(file, text.encode())
    names = [name for name in os.listdir(out) if name.endswith(EPISODE_SUFFIX)]
    return int(max(names).removesuffix(EPISODE_SUFFIX)) // PIECES_MAX if names else 0
