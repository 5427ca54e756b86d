"""Which generation drives the arm: one table of states, moved only between two inferences of the policy process.

```
OFFERED -> VERIFIED      the gate process
VERIFIED -> LOADED       weights mapped and bound beside those in use
LOADED -> SHADOW         runs on every live observation with the same noise, without authority
SHADOW -> PROBATION      the flip: one assignment, the next chunk continues the motion; waits until the active one is known
PROBATION -> ACTIVE      its episodes went well: the robot starts with it from now on
ACTIVE -> RETIRED        another one became active; it stays bound until then
any -> REJECTED          with a reason; the generation before drives on
```
Weights of the ACTIVE generation that were compiled in as constants are one more candidate and take the same way, SHADOW
included; as what they say has been on trial already, the flip makes them ACTIVE at once. The same as inputs stay bound, RETIRED.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal

import msgspec

from poco.artifact import Artifact
from poco.runtime.actors import ChunkFigures
from poco.runtime.backends.backend import Binding
from poco.runtime.chunk_session import ChunkSession, Floats
from poco.runtime.probation import Probation
from poco.runtime.trial import Shadow
from poco.settings import SwapSettings


class SlotState(StrEnum):
    """Where a generation stands on this robot."""

    OFFERED = "offered"
    VERIFIED = "verified"
    LOADED = "loaded"
    SHADOW = "shadow"
    PROBATION = "probation"
    ACTIVE = "active"
    RETIRED = "retired"
    REJECTED = "rejected"


S = SlotState
NEXT: dict[SlotState, frozenset[SlotState]] = {
    S.OFFERED: frozenset({S.VERIFIED, S.REJECTED}),
    S.VERIFIED: frozenset({S.LOADED, S.REJECTED}),
    S.LOADED: frozenset({S.SHADOW, S.PROBATION, S.REJECTED}),
    S.SHADOW: frozenset({S.PROBATION, S.REJECTED}),
    S.PROBATION: frozenset({S.ACTIVE, S.REJECTED}),
    S.ACTIVE: frozenset({S.RETIRED, S.REJECTED}),
    S.RETIRED: frozenset({S.ACTIVE}),
    S.REJECTED: frozenset(),
}
"""The only moves there are; RETIRED -> ACTIVE is the operator's rollback, or the return from one that cannot be run any more."""

Weights = Literal["inputs", "compiled"]
"""How a graph has its weights: bound as inputs, or compiled in as constants."""

VETOED, ROLLED_BACK = "operator", "rolled back by the operator"
"""What the record says of an operator's act."""

SUPERSEDED = "superseded"
"""Why a candidate without authority is rejected that a newer one takes the place of: nothing is wrong with it."""


@dataclass(frozen=True, slots=True)
class Bound:
    """One set of weights, bound to the session of its graph; `artifact` is the first one with that graph."""

    session: ChunkSession
    binding: Binding
    artifact: Artifact


@dataclass(slots=True)
class Slot:
    """One generation with its bound weights; `folder` is where the store keeps it."""

    generation: int
    folder: Path
    bound: Bound
    state: SlotState = SlotState.VERIFIED
    inputs: Slot | None = None
    """Where the weights are compiled in: the same generation with its weights as inputs, which serves where this one fails."""

    @property
    def plain(self) -> Slot:
        """This generation with its weights as inputs."""
        return self.inputs or self


@dataclass(frozen=True, slots=True)
class Moved:
    """One move of the table, for the record; `weights` names them where one form of the same generation gives way to another."""

    generation: int
    before: SlotState
    after: SlotState
    reason: str
    weights: Weights | None = None


@dataclass
class Swap:
    """The generation in use, the one before it and a candidate; policy process only, one thread, between two inferences.

    `use` makes weights those of the next inference; `moved` is told of every move; both return at once.
    """

    settings: SwapSettings
    active: Slot
    use: Callable[[Bound], object]
    moved: Callable[[Moved], None]
    previous: Slot | None = None
    candidate: Slot | None = None
    _shadow: Shadow = field(init=False)
    _probation: Probation = field(init=False)

    def __post_init__(self) -> None:
        self.active.state = SlotState.ACTIVE
        self._shadow = Shadow(self.settings)
        self._probation = Probation(self.settings)

    @property
    def driver(self) -> Slot:
        """The slot whose weights drive the arm: the candidate while it is on probation, else the active one."""
        on_probation = self.candidate is not None and self.candidate.state == SlotState.PROBATION
        return self.candidate if on_probation and self.candidate is not None else self.active

    @property
    def speed(self) -> float:
        """Factor on the speed of the motion, below 1 only where probation is to be slower."""
        return self.settings.probation_speed if self.driver is self.candidate else 1.0

    @property
    def wants_shadow(self) -> bool:
        """Whether the candidate is to be run on the live observation."""
        return self.candidate is not None and self.candidate.state == SlotState.SHADOW and not self._shadow.whole

    def load(self, slot: Slot) -> None:
        """Take in a verified generation with its weights bound; a candidate that has no authority yet gives way to it."""
        if self.candidate is not None:
            if self.candidate.state == SlotState.PROBATION:
                return
            self._reject(SUPERSEDED)
        self.candidate = slot
        self._move(slot, SlotState.LOADED)
        if self.settings.shadow_chunks > 0:
            self._shadow = Shadow(self._settings_for(slot))
            self._move(slot, SlotState.SHADOW)
        self._flip_if_ready()

    def shadowed(
        self, candidate: Floats, live: Floats, seconds: float, *, stretched: bool, live_stretched: bool
    ) -> None:
        """Take in one shadow inference: both chunks [T, A], how long it took and whether the planner had to slow them down."""
        assert self.candidate is not None
        self._shadow.add(candidate, live, seconds, stretched, live_stretched)
        reason = self._shadow.objection()
        if reason:
            self._reject(reason)
        else:
            self._flip_if_ready()

    def chunk(self, figures: ChunkFigures) -> None:
        """Take in how a chunk of the driver went; a candidate on probation that does worse than allowed loses the arm at once."""
        self._probation.chunk(figures)
        if self.driver is self.candidate:
            self._judge_probation()

    def episode(self, success: bool, fault: bool) -> None:
        """Take in how an episode of the driver ended."""
        if self.driver is not self.candidate:
            self._probation.baseline_episode(success, fault)
            self._flip_if_ready()
            return
        self._probation.episode(success, fault)
        self._judge_probation()
        if self.driver is self.candidate and self._probation.served:
            self._promote()

    def helped_episode(self) -> None:
        """Leave out an episode that a person helped in."""
        self._probation.helped_episode()

    def broken(self, reason: str) -> None:
        """Reject the candidate, which could not be run in shadow."""
        assert self.candidate is not None
        self._reject(reason)

    def unusable(self, reason: str) -> bool:
        """Take the arm away from weights whose chunk cannot be used; False if nothing else is there.

        From a candidate the active generation takes it, from compiled weights the same as inputs, from these the generation before.
        """
        if self.driver is self.candidate:
            self._reject(reason)
            return True
        compiled, inputs = self.active, self.active.inputs
        if inputs is None:
            return self.roll_back(reason)
        self.active = inputs
        self.use(inputs.bound)
        self._move(compiled, SlotState.REJECTED, reason, "compiled")
        self._move(inputs, SlotState.ACTIVE, reason, "inputs")
        return True

    def veto(self, reason: str = VETOED) -> None:
        """Throw the candidate out, at whatever state; the operator's act."""
        if self.candidate is not None:
            self._reject(reason)

    def roll_back(self, reason: str = ROLLED_BACK) -> bool:
        """Return to the generation before the active one, an operator's act but for other `reason`s; False if there is none."""
        if self.previous is None:
            return False
        self.veto("rolled back")
        self._move(self.active, SlotState.REJECTED, reason)
        self.active, self.previous = self.previous, None
        self._move(self.active, SlotState.ACTIVE, reason)
        self.use(self.active.bound)
        return True

    def _flip_if_ready(self) -> None:
        """Give the arm to a candidate that has been through shadow, once it is known what is usual for the active generation."""
        slot = self.candidate
        if slot is None or (slot.state == SlotState.SHADOW and not self._shadow.whole):
            return
        if slot.inputs is not None:
            self._take_over(slot, slot.inputs)
        elif self.settings.probation_episodes == 0 or self._probation.baseline_known:
            self._flip(slot)

    def _take_over(self, compiled: Slot, inputs: Slot) -> None:
        """Let the active generation's compiled weights serve in the place of its inputs."""
        self.use(compiled.bound)
        self._move(compiled, SlotState.PROBATION)
        self._move(compiled, SlotState.ACTIVE)
        self._move(inputs, SlotState.RETIRED, weights="inputs")
        self.active, self.candidate = compiled, None

    def _settings_for(self, slot: Slot) -> SwapSettings:
        """Return the bounds for `slot` in shadow: the same weights, compiled in, may differ by no more than golden chunks do.

        Whether they are fast was measured before.
        """
        if slot.inputs is None:
            return self.settings
        tolerance = slot.bound.artifact.manifest.golden_tolerance
        return msgspec.structs.replace(self.settings, distance_max=tolerance, inference_max_s=math.inf)

    def _flip(self, slot: Slot) -> None:
        self.use(slot.bound)
        self._move(slot, SlotState.PROBATION)
        self._probation.begin()
        if self.settings.probation_episodes == 0:
            self._promote()

    def _promote(self) -> None:
        assert self.candidate is not None
        self._move(self.candidate, SlotState.ACTIVE)
        self._move(self.active, SlotState.RETIRED)
        self.previous, self.active, self.candidate = self.active.plain, self.candidate, None
        self._probation.promoted()

    def _judge_probation(self) -> None:
        reason = self._probation.objection()
        if reason:
            self._reject(reason)

    def _reject(self, reason: str) -> None:
        assert self.candidate is not None
        if self.driver is self.candidate:
            self.use(self.active.bound)
            self._probation.lost_the_arm()
        self._move(self.candidate, SlotState.REJECTED, reason)
        self.candidate = None

    def _move(self, slot: Slot, after: SlotState, reason: str = "", weights: Weights | None = None) -> None:
        assert after in NEXT[slot.state], (slot.state, after)
        before, slot.state = slot.state, after
        if slot is self.candidate and slot.inputs is not None:
            weights = "compiled"
        self.moved(Moved(slot.generation, before, after, reason, weights))
