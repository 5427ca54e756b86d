"""What a run of `poco-learner train` can be cloned from: the successful episodes of its replay, its demonstrations included."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec

from poco.errors import ArtifactError
from poco.learner import training_state
from poco.learner.demonstrations import Demonstrations, Recorded
from poco.learner.image_policy import EncoderArchitecture, without_features
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
    if identity.encoder is not None:
        specification = without_features(specification, identity.encoder)
        successes = [_unseen(episode, identity.encoder, specification) for episode in successes]
    return Demonstrations(specification, tuple(successes))


def _unseen(episode: Recorded, encoder: EncoderArchitecture, specification: Specification) -> Recorded:
    """Return `episode` as it was before an encoder of that architecture saw it."""
    end = msgspec.structs.replace(episode.end, final_observation=episode.end.final_observation[encoder.size :])
    return replace(episode, specification=specification, observations=episode.observations[:, encoder.size :], end=end)
