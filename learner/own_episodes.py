"""What a run of `poco-learner train` can be cloned from: the successful episodes of its replay, its demonstrations included."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec

from poco.errors import ArtifactError
from poco.learner import training_state
from poco.learner.demonstrations import Demonstrations, Recorded
from poco.learner.replay import Replay
from poco.learner.replay_shards import replay_folders
from poco.specification import Specification


def is_run(folder: Path) -> bool:
    """Whether `folder` is that of a run."""
    return training_state.has_state(folder / "states")


def own_successes(folder: Path) -> Demonstrations:
    """Read the successful episodes of the run in `folder`, which must not be going on; what an encoder made of images is left out.

    Raises ArtifactError if there are none or the run is damaged.
    """
    identity = training_state.read_header(folder / "states").identity
    replays = [Replay.open(part, identity.specification) for part in replay_folders(folder)]
    successes = [one for replay in replays for one in replay.recorded() if one.end.outcome == "success"]
    if not successes:
        count = sum(replay.episodes for replay in replays)
        raise ArtifactError(f"none of the {count} episodes of {folder} was a success: give other data")
    specification = identity.specification
    if specification.cameras:
        specification = specification.told
        successes = [_unseen(episode, specification) for episode in successes]
    return Demonstrations(specification, tuple(successes))


def _unseen(episode: Recorded, told: Specification) -> Recorded:
    """Return `episode` as it was before an encoder saw it: what was `told` stands behind the features."""
    size = told.observation_size
    end = msgspec.structs.replace(episode.end, final_observation=episode.end.final_observation[-size:])
    return replace(episode, specification=told, observations=episode.observations[:, -size:], end=end)
