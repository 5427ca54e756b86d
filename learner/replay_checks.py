"""What an episode has to be before a replay takes it: of its specification, in shape, finite and within bounds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from poco.errors import ArtifactError
from poco.learner.demonstrations import EpisodeColumns
from poco.learner.replay_layout import ReplayHeader
from poco.records import EpisodeEnd

TOLERANCE = 1e-5
REWARD_MAX = 1e4


def name_of(end: EpisodeEnd) -> str:
    """Return how messages call the episode that ended with `end`."""
    return f"episode {end.robot}/{end.boot_epoch}/{end.episode}"


def checked(episode: EpisodeColumns, header: ReplayHeader) -> dict[str, npt.NDArray[np.float32]]:
    """Return the columns of `episode` for a replay with `header`, by their names there; raises ArtifactError for a misfit."""
    end, spec = episode.end, header.specification
    name = name_of(end)
    if episode.specification is not spec and episode.specification.digest() != spec.digest():
        raise ArtifactError(
            f"{name} has specification {episode.specification.digest()[:12]}, the replay {spec.digest()[:12]}: record it "
            "under the specification of the run"
        )
    if len(end.robot.encode()) > 64:
        raise ArtifactError(f"{name}: the robot's name takes {len(end.robot.encode())} bytes, the limit is 64")
    try:
        columns = {
            "observation": episode.observations,
            "action": episode.actions_policy,
            "reward": episode.rewards,
        }
        final = np.array(end.final_observation, np.float32)
    except ValueError as error:
        raise ArtifactError(f"{name} has rows of different length ({error}): discard it") from error
    count = len(columns["reward"])
    if not 1 <= count <= header.rows:
        raise ArtifactError(f"{name} has {count} steps, the replay takes 1 to {header.rows}: discard it")
    expected = {
        "observation": (count, spec.observation_size),
        "action": (count, spec.action_size),
        "reward": (count,),
    }
    bounds = {"observation": 1.0 + TOLERANCE, "action": 1.0 + TOLERANCE, "reward": REWARD_MAX}
    for key, column in columns.items():
        _check(f"{name}: {key}", column, expected[key], bounds[key])
    _check(f"{name}: final observation", final, (spec.observation_size,), 1.0 + TOLERANCE)
    return columns


def sound(table: npt.NDArray[np.void], rows: int) -> bool:
    """Whether every episode in `table` has the slot of its number, steps among `rows` and a readable name.

    After a power cut episodes that had just made room may overlap with others; a resumed run forgets those others.
    """
    live = np.flatnonzero(table["number"] > 0)
    held = table[live]
    first, steps = held["first"], held["steps"]
    inside = (first >= 0) & (first < rows) & (steps >= 1) & (steps <= rows - first)
    try:
        np.char.decode(held["robot"], "utf-8")
    except UnicodeDecodeError:
        return False
    return bool((inside & (held["number"] % len(table) == live)).all())


def _check(what: str, values: npt.NDArray[np.float32], shape: tuple[int, ...], bound: float) -> None:
    if values.shape != shape:
        raise ArtifactError(f"{what} has shape {list(values.shape)}, expected {list(shape)}: discard the episode")
    worst = float(np.max(np.abs(values)))
    if not worst <= bound:
        raise ArtifactError(f"{what} has a value of magnitude {worst}, the limit is {bound:g}: discard the episode")
