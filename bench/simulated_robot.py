"""A robot in one process, arm and task simulated without a clock, whose policy is replaced as on the real path.

Store, swap, shadow and probation are those of the policy process; whoever owns it fills the store and takes the records.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from poco.chunks import ChunkSequence
from poco.hw.emulator.tasks.peg_in_hole import GUARDS, PegInHole, Variant, parameters
from poco.hw.emulator.tasks.plant import SimulatedPlant
from poco.journal.records import Ended, Record, Stepped
from poco.limits import PLANNING_MARGINS, STEP_MARGINS, fr3_limits
from poco.rollout import Outcome, Rollout
from poco.runtime.actors import ChunkFigures, Moment
from poco.runtime.store import ArtifactStore
from poco.runtime.swap import Moved
from poco.runtime.swapping import SwappingActor
from poco.settings import SwapSettings

EPISODE_STEPS = 80


class SimulatedRobot:
    """Runs episode after episode of peg-in-hole with whatever generation drives; `record` takes what a journal would."""

    def __init__(
        self,
        store: ArtifactStore,
        settings: SwapSettings,
        variant: Variant,
        robot: str = "trial",
        boot_epoch: int = 0,
        seed: int = 0,
        record: Callable[[Record], object] = lambda record: None,
    ) -> None:
        """Start with what the store says; `seed` draws the holes and the noise."""
        self.moves: list[Moved] = []
        self.actor = SwappingActor(store, settings, seed, self.moves.append)
        tip = self.actor.specification.tip
        self._limits = fr3_limits(PLANNING_MARGINS, GUARDS, tip)
        self._task = PegInHole(parameters(variant))
        self._plant = SimulatedPlant(self._task, fr3_limits(STEP_MARGINS, GUARDS, tip))
        self._robot, self._boot_epoch, self._seed, self._record = robot, boot_epoch, seed, record
        self.episodes = 0
        self.used_chunks_finite = True
        self.figures: list[ChunkFigures] = []
        """How the chunks of the last episode went."""

    def episode(self) -> Outcome:
        """Run one episode as the policy process does."""
        specification = self.actor.specification
        self._plant.reset(np.array(specification.rest_q))
        self._task.place(self._seed + self.episodes)
        sequence = ChunkSequence(specification, self._limits, generation=self.actor.generation)
        rollout = Rollout(
            self._plant,
            sequence,
            robot=self._robot,
            boot_epoch=self._boot_epoch,
            episode=self.episodes,
            episode_steps=EPISODE_STEPS,
        )
        observation, chunk = rollout.begin(0), 0
        self.figures = []
        outcome: Outcome = "running"
        while outcome == "running":
            actions = self.actor.choose(Moment(self.episodes, chunk, observation, rollout.state, rollout.signal))
            self.used_chunks_finite = self.used_chunks_finite and bool(np.isfinite(actions).all())
            sequence.generation = self.actor.generation
            transition = rollout.step(actions, partial(self.actor.meanwhile, sequence.rehearse))
            plan = transition.plan
            self.figures.append(ChunkFigures(plan.stretched, plan.stopped_first, False, transition.interrupted))
            self.actor.chunk(self.figures[-1])
            for step in transition.steps:
                self._record(Stepped(step=step))
            observation, chunk = transition.observation, chunk + 1
            outcome = "fault" if self._plant.reflex else transition.outcome
        self.actor.episode(success=outcome == "success", fault=outcome == "fault")
        self._record(Ended(end=rollout.end(outcome)))
        self.episodes += 1
        return outcome
