"""Policies that take turns in an order that nobody knows beforehand, so that neither who judges nor the day favours one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from poco.motion import Plan
from poco.runtime.actors import Actions, Actor, ChunkFigures, Moment, PolicyActor, Rehearse
from poco.runtime.chunk_session import Pixels
from poco.runtime.encoder import Encoder, Images
from poco.specification import Specification

POLICY_LABEL = "policy"
"""The label of an episode's end that says which of the policies acted, as a letter."""

LETTERS = "ABCDEFGH"


def blind_order(policies: int, trials: int, seed: int) -> tuple[int, ...]:
    """Return which of the `policies` acts in each episode: `trials` rounds, each with every policy once in random order."""
    generator = np.random.default_rng([seed, policies])
    return tuple(int(number) for _ in range(trials) for number in generator.permutation(policies))


class BlindActor(Actor):
    """One of several policies of the same specification in each episode; policy process only."""

    def __init__(self, policies: Sequence[PolicyActor], order: Sequence[int]) -> None:
        """`order` has an entry for every episode of the run; a restarted run goes on in it where it was."""
        self._policies, self._order = policies, order
        self._turn = order[0]

    @property
    def _acting(self) -> PolicyActor:
        return self._policies[self._turn]

    @property
    def specification(self) -> Specification:
        """What all of them see and do."""
        return self._acting.specification

    @property
    def generation(self) -> int:
        """That of the one whose turn it is."""
        return self._acting.generation

    @property
    def cameras(self) -> tuple[str, ...]:
        """Those of all of them."""
        return self._policies[0].cameras

    @property
    def taken_in(self) -> Images | None:
        """Those of the one that acted."""
        return self._acting.taken_in

    def images_of(self, frames: tuple[Pixels, ...]) -> Images | None:
        """Return what the one that acts would see."""
        return self._acting.images_of(frames)

    @property
    def encoder(self) -> Encoder | None:
        """That of all of them: its hash stands in their specification."""
        return self._policies[0].encoder

    @property
    def labels(self) -> dict[str, str]:
        """Which one acted."""
        return {POLICY_LABEL: LETTERS[self._turn]}

    def choose(self, moment: Moment) -> Actions:
        """Let the one act whose turn it is in this episode."""
        self._turn = self._order[moment.episode % len(self._order)]
        return self._acting.choose(moment)

    def meanwhile(self, rehearse: Rehearse, live: Plan) -> None:
        """Pass the time on to it."""
        self._acting.meanwhile(rehearse, live)

    def chunk(self, figures: ChunkFigures) -> None:
        """Pass on how its chunk went."""
        self._acting.chunk(figures)

    def episode(self, success: bool, fault: bool) -> None:
        """Pass on how its episode ended."""
        self._acting.episode(success, fault)
