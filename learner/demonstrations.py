"""From a folder of episode files to the training pairs of a chunk policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from poco.episodes import Episode, read_episode
from poco.errors import ArtifactError
from poco.records import EpisodeEnd
from poco.specification import Specification, scale
from poco.views import Views

Floats = npt.NDArray[np.float32]

EPISODE_SUFFIX = ".safetensors"


class EpisodeColumns(Protocol):
    """What learning needs of one finished episode; an `episodes.Episode` has it too."""

    @property
    def specification(self) -> Specification:
        """Contract under which it was recorded."""
        ...

    @property
    def observations(self) -> Floats:
        """Observations [steps, observation_size] in [-1, 1]."""
        ...

    @property
    def actions_policy(self) -> Floats:
        """What was asked for, [steps, action_size] in action units."""
        ...

    @property
    def rewards(self) -> Floats:
        """Raw rewards [steps]."""
        ...

    @property
    def end(self) -> EpisodeEnd:
        """How it ended."""
        ...

    @property
    def views(self) -> Views | None:
        """What cameras saw, where there were any."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Recorded:
    """One finished episode in columns, without what only the robot's records hold; a tenth of the size of its steps.

    `views` is what cameras saw, where there were any.
    """

    specification: Specification
    observations: Floats
    actions_policy: Floats
    rewards: Floats
    end: EpisodeEnd
    views: Views | None = None

    @classmethod
    def of(cls, episode: Episode) -> Recorded:
        """Return the columns of `episode`."""
        columns = episode.observations, episode.actions_policy, episode.rewards
        return cls(episode.specification, *columns, episode.end, episode.views)


@dataclass(frozen=True, slots=True)
class Demonstrations:
    """Episodes recorded under one specification, in the order of their file names."""

    specification: Specification
    episodes: tuple[Recorded, ...]


@dataclass(frozen=True, slots=True)
class Windows:
    """Training pairs: observation [N, O], the chunk that answers it [N, T, A], which of its actions are real [N, T]."""

    observation: Floats
    chunk: Floats
    valid: Floats

    def __len__(self) -> int:
        return len(self.observation)


def episode_files(folder: Path) -> list[Path]:
    """Return the episode files of `folder`, by name; raises ArtifactError if there are none."""
    files = sorted(folder.glob(f"*{EPISODE_SUFFIX}"))
    if not files:
        inside = folder / "episodes"
        remedy = (
            f"give {inside}"
            if inside.is_dir()
            else "record some with `poco-runtime record`, or in the environment with `poco-learner make-data`"
        )
        raise ArtifactError(f"no episode files (*{EPISODE_SUFFIX}) in {folder}: {remedy}")
    return files


def read_demonstrations(folder: Path) -> Demonstrations:
    """Read all episode files of `folder`; raises ArtifactError if there are none or their specifications or cameras differ."""
    files = episode_files(folder)
    episodes = tuple(Recorded.of(read_episode(file)) for file in files)
    digests = [episode.specification.digest() for episode in episodes]
    for file, digest in zip(files, digests, strict=True):
        if digest != digests[0]:
            raise ArtifactError(
                f"episode files {files[0]} and {file} have different specifications ({digests[0][:12]} and {digest[:12]}): "
                "keep one specification per folder"
            )
    shown = [None if one.views is None else one.views.shown for one in episodes]
    for file, images in zip(files, shown, strict=True):
        if images != shown[0]:
            raise ArtifactError(
                f"episode files {files[0]} and {file} differ in what cameras saw ({shown[0]} and {images}): keep them apart"
            )
    return Demonstrations(episodes[0].specification, episodes)


def split(count: int, fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Return the numbers of the episodes to train on and of those held out, a `fraction` of `count` but one at least.

    Raises ArtifactError for fewer than two episodes.
    """
    if count < 2:
        raise ArtifactError(f"{count} episode is too few to hold some out for validation: record at least 2")
    order = np.random.default_rng(seed).permutation(count)
    held_out = min(count - 1, max(1, round(fraction * count)))
    return sorted(order[held_out:].tolist()), sorted(order[:held_out].tolist())


def windows(episodes: Sequence[EpisodeColumns], specification: Specification) -> Windows:
    """Cut every episode into windows: the observation of step k and the actions of steps k + delay_steps and following.

    A window never crosses the end of its episode: what lies beyond is zero motion and marked invalid; windows without a
    single real action are left out. Raises ArtifactError if nothing is left.
    """
    parts = [_episode_windows(episode, specification) for episode in episodes]
    if not any(len(part) for part in parts):
        raise ArtifactError(
            f"{len(parts)} episodes hold no step followed by {specification.delay_steps} more: record longer episodes"
        )
    return Windows(
        np.concatenate([part.observation for part in parts]),
        np.concatenate([part.chunk for part in parts]),
        np.concatenate([part.valid for part in parts]),
    )


def _episode_windows(episode: EpisodeColumns, specification: Specification) -> Windows:
    actions = episode.actions_policy.reshape(-1, specification.action_size)
    count = max(0, len(actions) - specification.delay_steps)
    padded = np.concatenate([actions, _no_motion(actions, specification)])
    index = np.arange(count)[:, None] + specification.delay_steps + np.arange(specification.chunk_steps)
    return Windows(
        episode.observations.reshape(-1, specification.observation_size)[:count],
        padded[np.minimum(index, len(actions))],
        (index < len(actions)).astype(np.float32),
    )


def _no_motion(actions: Floats, specification: Specification) -> Floats:
    if specification.action_space != "tip_delta":
        return actions[-1:]
    return np.asarray(scale(specification.action, np.zeros((1, specification.action_size))), dtype=np.float32)
