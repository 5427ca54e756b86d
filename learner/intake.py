"""From the inbox into the replay: every finished episode once, in the order in which it ended, labels by revision."""

from __future__ import annotations

import msgspec

from poco.episodes import Episode
from poco.errors import ArtifactError
from poco.learner.demonstrations import EpisodeColumns, Recorded
from poco.learner.episode_assembly import EPISODE_IMAGES_BYTES, Finished
from poco.learner.replay import Replay
from poco.learner.replay_checks import name_of
from poco.learner.sight import encoded
from poco.learner.vla.eyes import Eyes


class Admitted(msgspec.Struct, kw_only=True):
    """What became of the episodes since this process began; `last_refusal` says why the replay would not take one."""

    episodes: int = 0
    steps: int = 0
    relabelled: int = 0
    refused: int = 0
    last_refusal: str = ""


def admit(finished: Finished, replay: Replay, admitted: Admitted, eyes: Eyes | None = None) -> bool:
    """Admit or relabel `finished` unless `replay` has it already, and count it; return whether the replay has changed.

    The replay remembers the position of the newest episode in the very record that makes it visible, so an episode that comes out
    of the inbox again after a crash is known. Images that robots send for a policy with `eyes` are marked. The thread that
    trains calls it.
    """
    if not finished.steps:
        changed = replay.relabel(finished.end)
        admitted.relabelled += changed
        return changed
    if finished.position <= replay.position:
        return False
    specification = replay.specification if eyes is None else replay.specification.told
    told = Episode(specification, finished.steps, finished.end, finished.views)
    try:
        if eyes is not None:
            _check_images(finished, eyes)
        episode: EpisodeColumns = told if eyes is None else encoded(Recorded.of(told), eyes, replay.specification)
        changed = replay.admit(episode, finished.position)
    except ArtifactError as error:
        admitted.refused += 1
        admitted.last_refusal = str(error)
        return False
    if changed:
        admitted.episodes += 1
        admitted.steps += len(finished.steps)
    return changed


def _check_images(finished: Finished, eyes: Eyes) -> None:
    """Raise ArtifactError unless `finished` has the images of a policy with `eyes`; of other images in one sentence a robot."""
    end, views = finished.end, finished.views
    if views is None:
        raise ArtifactError(
            f"{name_of(end)} came without the images that its policy was shown, or with more than {EPISODE_IMAGES_BYTES >> 30} GiB "
            "of them: look for lost cameras in its run folder, start its robot with the served artifact, or make episodes shorter"
        )
    theirs, ours = ((seen.cameras, seen.side) for seen in (views.shown, eyes))
    if theirs != ours:
        sent, taken = (f"{', '.join(cameras)} of {side} x {side} pixels" for cameras, side in (theirs, ours))
        raise ArtifactError(
            f"robot {end.robot} sends images of {sent}, the served policy sees {taken}: start the robot with the served artifact "
            "as --policy"
        )
