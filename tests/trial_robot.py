"""A robot in one process, arm and task simulated, whose policy is replaced as on the real path: gate, store, shadow, probation."""

from __future__ import annotations

import msgspec
from simulated_robot import SimulatedRobot

from poco.offer import Offer
from poco.runtime.gate import judge
from poco.runtime.swap import Moved, SlotState
from poco.settings import SwapSettings
from poco.succession import Floats
from workshop import Workshop

BASELINE_EPISODES = 10
ENDS = (SlotState.ACTIVE, SlotState.REJECTED)


class TrialRobot(SimulatedRobot):
    """Runs episode after episode of the easy peg-in-hole with whatever generation drives."""

    def __init__(self, workshop: Workshop, settings: SwapSettings) -> None:
        self.workshop = workshop
        workshop.store.adopt(workshop.artifact)
        super().__init__(workshop.store, settings, "easy")

    def baseline(self) -> int:
        """Run the active generation for a while; return how many episodes succeeded."""
        return sum(self.episode() == "success" for _ in range(BASELINE_EPISODES))

    def try_out(self, offer: Offer) -> str:
        """Offer a policy and run until it is decided: `gate: ...`, `shadow: ...`, `probation: ...` with the reason, or `active`."""
        verdict = judge(offer, self.workshop.store, self.workshop.trust, self.workshop.rules)
        if verdict.reason:
            return f"gate: {verdict.sentence}"
        while not (ended := [move for move in self.moves if self._decides(move, verdict.generation)]):
            self.episode()
        end = ended[-1]
        return "active" if end.after == SlotState.ACTIVE else f"{end.before}: {end.reason}"

    def _decides(self, move: Moved, generation: int) -> bool:
        return move.generation == generation and move.after in ENDS


def next_offer(workshop: Workshop, generation: int, trained: dict[str, Floats] | None = None) -> Offer:
    """An offer of `generation` that descends from the one before; without `trained` a small step of training."""
    ancestor = msgspec.structs.replace(workshop.artifact.manifest, generation=generation - 1)
    return workshop.offer(generation, ancestor=ancestor, trained=trained)
