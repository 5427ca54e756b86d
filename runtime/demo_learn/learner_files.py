"""What `poco-learner serve` leaves in its run folder, as far as the demonstration reads it; it imports nothing of the learner."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from poco.errors import ArtifactError

STATUS, METRICS, PUBLICATIONS = "status.json", "metrics.jsonl", "publications.jsonl"

LEARNING = "learning"
"""The phase in which updates change the actor."""

_Line = TypeVar("_Line", bound=msgspec.Struct)


class RobotSeen(msgspec.Struct, frozen=True, kw_only=True):
    """One robot as the learner sees it; `generation` is the highest that it has taken."""

    connected: bool
    generation: int


class GuardSeen(msgspec.Struct, frozen=True, kw_only=True):
    """The guard of the learner: the level it defends (success rate), and how often it went back to the best actor."""

    baseline: float
    roll_backs: int


class LearnerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """status.json: how far the learner is. `owed` updates are still to be made for steps that have arrived."""

    address: str
    robots: dict[str, RobotSeen]
    episodes: int
    steps: int
    updates: int
    owed: float
    phase: str
    guard: GuardSeen
    generation: int
    published: int
    withheld: int
    last_withheld: str
    refused_episodes: int
    trouble: str


class Publication(msgspec.Struct, frozen=True, kw_only=True):
    """A line of publications.jsonl; `monotonic_s` is CLOCK_MONOTONIC, `episodes` and `updates` what it had learned from."""

    generation: int
    parent: int
    cause: str
    monotonic_s: float
    episodes: int
    updates: int


class Admitted(msgspec.Struct, frozen=True, kw_only=True):
    """Which episode of which process of a robot a line of metrics.jsonl is about."""

    robot: str
    boot_epoch: int
    episode: int
    steps: int


class LearnedEpisode(msgspec.Struct, frozen=True, kw_only=True):
    """A line of metrics.jsonl: an episode that the replay has taken; `origin` None for one that no robot sent.

    `phase` is what updates did to the actor when it came: nothing ("frozen"), "cloning" or "learning".
    """

    episode: int
    success: bool
    phase: str
    origin: Admitted | None = None


def read_status(folder: Path) -> LearnerStatus | None:
    """Read how the learner in `folder` stands, None before it has said so; raises ArtifactError if it is not readable."""
    file = folder / STATUS
    if not file.is_file():
        return None
    try:
        return msgspec.json.decode(file.read_bytes(), type=LearnerStatus)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{file} is not readable ({error}): is it of the same poco?") from error


def read_publications(folder: Path) -> list[Publication]:
    """Read every publication of the learner in `folder` in order; raises ArtifactError naming a line that is not one."""
    return _lines(folder / PUBLICATIONS, Publication)


def read_learned(folder: Path) -> list[LearnedEpisode]:
    """Read every episode that the replay has taken, in order; raises ArtifactError naming a line that is not one."""
    return _lines(folder / METRICS, LearnedEpisode)


def _lines(file: Path, kind: type[_Line]) -> list[_Line]:
    """Return the whole lines of `file`, none if it is not there; one that is being written is left out."""
    *whole, _ = file.read_bytes().split(b"\n") if file.is_file() else [b""]
    decoder = msgspec.json.Decoder(kind)
    found = []
    for number, line in enumerate(whole, start=1):
        try:
            found.append(decoder.decode(line))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ArtifactError(
                f"line {number} of {file} is not readable ({error}): is it of the same poco?"
            ) from error
    return found
