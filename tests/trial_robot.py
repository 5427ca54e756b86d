"""A robot in one process, arm and task simulated, whose policy is replaced as on the real path: gate, store, shadow, probation."""

from __future__ import annotations

from functools import partial

import msgspec
import numpy as np

from poco.chunks import ChunkSequence
from poco.hw.emulator.tasks.peg_in_hole import GUARDS, PegInHole, parameters
from poco.hw.emulator.tasks.plant import SimulatedPlant
from poco.limits import PLANNING_MARGINS, STEP_MARGINS, fr3_limits
from poco.offer import Offer
from poco.rollout import Outcome, Rollout
from poco.runtime.actors import ChunkFigures, Moment
from poco.runtime.gate import judge
from poco.runtime.swap import Moved, SlotState
from poco.runtime.swapping import SwappingActor
from poco.settings import SwapSettings
from poco.succession import Floats
from workshop import Workshop

EPISODE_STEPS = 80
BASELINE_EPISODES = 10
ENDS = (SlotState.ACTIVE, SlotState.REJECTED)


class TrialRobot:
    """Runs episode after episode of peg-in-hole with whatever generation drives."""

    def __init__(self, workshop: Workshop, settings: SwapSettings) -> None:
        self.workshop = workshop
        workshop.store.adopt(workshop.artifact)
        self.moves: list[Moved] = []
        self.actor = SwappingActor(workshop.store, settings, 0, self.moves.append)
        tip = self.actor.specification.tip
        self._limits = fr3_limits(PLANNING_MARGINS, GUARDS, tip)
        self._task = PegInHole(parameters("easy"))
        self._plant = SimulatedPlant(self._task, fr3_limits(STEP_MARGINS, GUARDS, tip))
        self._episode = 0
        self.used_chunks_finite = True

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

    def episode(self) -> Outcome:
        """Run one episode as the policy process does."""
        specification = self.actor.specification
        self._plant.reset(np.array(specification.rest_q))
        self._task.place(self._episode)
        sequence = ChunkSequence(specification, self._limits, generation=self.actor.generation)
        rollout = Rollout(
            self._plant, sequence, robot="trial", boot_epoch=0, episode=self._episode, episode_steps=EPISODE_STEPS
        )
        observation, chunk = rollout.begin(0), 0
        outcome: Outcome = "running"
        while outcome == "running":
            actions = self.actor.choose(Moment(self._episode, chunk, observation, rollout.state, rollout.signal))
            self.used_chunks_finite = self.used_chunks_finite and bool(np.isfinite(actions).all())
            sequence.generation = self.actor.generation
            transition = rollout.step(actions, partial(self.actor.meanwhile, sequence.rehearse))
            plan = transition.plan
            self.actor.chunk(ChunkFigures(plan.stretched, plan.stopped_first, False, transition.interrupted))
            observation, chunk = transition.observation, chunk + 1
            outcome = "fault" if self._plant.reflex else transition.outcome
        self.actor.episode(success=outcome == "success", fault=outcome == "fault")
        self._episode += 1
        return outcome


def next_offer(workshop: Workshop, generation: int, trained: dict[str, Floats] | None = None) -> Offer:
    """An offer of `generation` that descends from the one before; without `trained` a small step of training."""
    ancestor = msgspec.structs.replace(workshop.artifact.manifest, generation=generation - 1)
    return workshop.offer(generation, ancestor=ancestor, trained=trained)
