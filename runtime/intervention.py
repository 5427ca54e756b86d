"""A policy that a person's hands take over from: as soon as they move, for as long as they do, and a moment longer.

Taking over and giving back are seams between chunks like any other: planned from the planned motion of the chunk before, inside all
limits. Policy process only.
"""

from __future__ import annotations

from poco.hw.devices.device import Reading
from poco.motion import Plan
from poco.runtime.actors import Actions, Actor, ChunkFigures, Moment, Rehearse
from poco.runtime.chunk_session import Pixels
from poco.runtime.encoder import Encoder, Images
from poco.runtime.hands import HandsActor, moves
from poco.specification import Specification

RELEASE_LOOKS = 4
"""So often in a row the hands have to be found at rest before the policy goes on."""


class InterveningActor(Actor):
    """Lets `policy` choose until `hands` move; looks at them at the end of every control period."""

    def __init__(self, policy: Actor, hands: HandsActor) -> None:
        self._policy, self._hands = policy, hands
        self._seen = Reading()
        self._human = self._intervened = False
        self._at_rest = 0

    @property
    def specification(self) -> Specification:
        """That of the policy."""
        return self._policy.specification

    @property
    def generation(self) -> int:
        """That of the policy, 0 where the person chose."""
        return 0 if self._human else self._policy.generation

    @property
    def cameras(self) -> tuple[str, ...]:
        """Those of the policy."""
        return self._policy.cameras

    @property
    def encoder(self) -> Encoder | None:
        """That of the policy."""
        return self._policy.encoder

    @property
    def taken_in(self) -> Images | None:
        """Those of the policy, none where the person chose."""
        return None if self._human else self._policy.taken_in

    def images_of(self, frames: tuple[Pixels, ...]) -> Images | None:
        """Return what the policy would see."""
        return self._policy.images_of(frames)

    @property
    def execute_steps(self) -> int:
        """That of who chose."""
        return self._hands.execute_steps if self._human else self._policy.execute_steps

    @property
    def human(self) -> bool:
        """Whether the hands chose the newest chunk."""
        return self._human

    @property
    def labels(self) -> dict[str, str]:
        """An intervention, where there was one in the episode."""
        return {"intervention": self._hands.name} if self._intervened else self._policy.labels

    @property
    def speed(self) -> float:
        """That of the policy, unless the person acts."""
        return 1.0 if self._human else self._policy.speed

    def yields(self) -> bool:
        """Tell whether the hands have begun to move."""
        if self._human:
            return False
        self._seen = self._hands.glance()
        return moves(self._seen)

    def choose(self, moment: Moment) -> Actions:
        """Let the hands choose if they move or have just moved, else the policy."""
        if moment.chunk == 0:
            self._human = self._intervened = False
        reading, seen = self._hands.look(moment), self._seen
        self._seen = Reading()
        if moves(seen) and not moves(reading):
            reading = seen
        self._at_rest = 0 if moves(reading) else self._at_rest + 1
        self._human = self._at_rest == 0 or (self._human and self._at_rest < RELEASE_LOOKS)
        if not self._human:
            return self._policy.choose(moment)
        self._intervened = True
        return self._hands.answer(moment, reading)

    def meanwhile(self, rehearse: Rehearse, live: Plan) -> None:
        """The policy's, where it chose."""
        if not self._human:
            self._policy.meanwhile(rehearse, live)

    def chunk(self, figures: ChunkFigures) -> None:
        """How a chunk went concerns who chose it."""
        (self._hands if self._human else self._policy).chunk(figures)

    def episode(self, success: bool, fault: bool) -> None:
        """An episode that a person helped in tells nothing of the policy."""
        if self._intervened:
            self._policy.helped_episode()
        else:
            self._policy.episode(success, fault)
