"""What a serving learner has published and when it publishes next.

The newest generation is durable before any robot hears of it, so that a learner that was killed never gives its number away again.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from poco.clock import monotonic_ns
from poco.durable import append_durably, write_durably
from poco.errors import ArtifactError
from poco.learner.publish import Publisher, Tensors, Withheld
from poco.learner.trained_policy import TrainedPolicy
from poco.offer import Offer, unpack_offer

OFFER_FILE = "published.offer"
PUBLICATIONS_FILE = "publications.jsonl"

ACTORS = 16
"""So many generations that may be driving still are remembered."""

Cause = Literal["learned", "rolled_back", "floor"]
"""Why a generation was published: enough was learned, the guard took the best actor back, a robot had seen a higher one."""


class PublishSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a learner publishes: after so many `updates` of the actor or, if there was any, after `interval_s`; 0 turns either off.

    A generation expires `lifetime_s` after its publication.
    """

    updates: Annotated[int, msgspec.Meta(ge=0)] = 100
    interval_s: Annotated[float, msgspec.Meta(ge=0.0)] = 60.0
    lifetime_s: Annotated[int, msgspec.Meta(ge=60)] = 30 * 86_400


class Publication(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of publications.jsonl; `monotonic_s` is CLOCK_MONOTONIC, `bytes` the size of the offer."""

    generation: int
    parent: int
    cause: Cause
    unix_s: float
    monotonic_s: float
    episodes: int
    steps: int
    updates: int
    bytes: int
    metrics: dict[str, float]


class Publications:
    """The generations of one run; the thread that trains calls it."""

    def __init__(self, folder: Path, publisher: Publisher, settings: PublishSettings) -> None:
        """Go on after the newest generation in `folder`, if there is one; raises ArtifactError if it is not of this policy."""
        self._folder, self._publisher, self._settings = folder, publisher, settings
        self.newest: Offer | None = None
        self._roll_backs = 0
        self.published, self.withheld, self.last_withheld = 0, 0, ""
        self._updates = 0
        self._looked_s = time.monotonic()
        if (folder / OFFER_FILE).exists():
            self.newest = unpack_offer((folder / OFFER_FILE).read_bytes())
            publisher.go_on(self.newest)
            self._roll_backs = int(publisher.parent.metrics["roll_backs"])
        self.published = _mend(folder, self.generation if self.newest else 0)

    @property
    def generation(self) -> int:
        """The newest generation there is, the artifact's before anything is published."""
        return self._publisher.parent.generation

    def actor(self, generation: int) -> Tensors | None:
        """Return the weights of `generation`, None if it is not known any more or was never this learner's."""
        return self._publisher.actors.get(generation)

    def forget(self, before: int) -> None:
        """No robot is driven by a generation `before` that any more; of others the newest ACTORS are kept."""
        actors = self._publisher.actors
        for generation in sorted(actors)[:-1]:
            if generation < before or len(actors) > ACTORS:
                del actors[generation]

    def learned(self) -> None:
        """Count one update of the actor."""
        self._updates += 1

    def due(self, floor: int, roll_backs: int) -> Cause | None:
        """Return why to publish now, if so: robots have seen generations up to `floor`, the guard went back `roll_backs` times."""
        if roll_backs > self._roll_backs:
            return "rolled_back"
        if self.newest is not None and floor > self.generation:
            return "floor"
        settings = self._settings
        enough = 0 < settings.updates <= self._updates
        late = self._updates > 0 and 0.0 < settings.interval_s <= time.monotonic() - self._looked_s
        return "learned" if enough or late else None

    def make(self, policy: TrainedPolicy, cause: Cause, floor: int, metrics: dict[str, float]) -> Offer | None:
        """Return the next generation, nothing of it written yet; None if it was withheld, which is counted."""
        self._updates, self._looked_s = 0, time.monotonic()
        self._roll_backs = int(metrics["roll_backs"])
        try:
            return self._publisher.publish(policy, floor, time.time(), metrics, restored=cause == "rolled_back")
        except Withheld as reason:
            self.withheld += 1
            self.last_withheld = str(reason)
            return None

    def keep(self, offer: Offer, cause: Cause) -> Publication:
        """Make `offer` durable as the newest generation and note it; raises ArtifactError if the disk does not take it."""
        packed, manifest = offer.pack(), self._publisher.parent
        metrics = manifest.metrics
        publication = Publication(
            generation=manifest.generation,
            parent=manifest.parent or 0,
            cause=cause,
            unix_s=time.time(),
            monotonic_s=monotonic_ns() / 1e9,
            episodes=int(metrics["online_episodes"]),
            steps=int(metrics["online_steps"]),
            updates=int(metrics["online_updates"]),
            bytes=len(packed),
            metrics=metrics,
        )
        try:
            append_durably(self._folder / PUBLICATIONS_FILE, msgspec.json.encode(publication) + b"\n")
            write_durably(self._folder / OFFER_FILE, packed)
        except OSError as error:
            raise ArtifactError(
                f"generation {manifest.generation} cannot be kept in {self._folder} ({error.strerror}): free space and resume"
            ) from error
        self.newest, self.published = offer, self.published + 1
        return publication


def read_publications(folder: Path) -> list[Publication]:
    """Return what the run in `folder` has published, oldest first; a last line that is not whole is left out."""
    file = folder / PUBLICATIONS_FILE
    lines = file.read_bytes().splitlines(keepends=True) if file.is_file() else []
    return [msgspec.json.decode(line, type=Publication) for line in lines if line.endswith(b"\n")]


def _mend(folder: Path, newest: int) -> int:
    """Take out what a killed process noted of a generation that it had not come to keep; return how many are left."""
    kept = [one for one in read_publications(folder) if one.generation <= newest]
    if (folder / PUBLICATIONS_FILE).exists():
        write_durably(folder / PUBLICATIONS_FILE, b"".join(msgspec.json.encode(one) + b"\n" for one in kept))
    return len(kept)
