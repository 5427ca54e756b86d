"""Learning from the policy's own episodes: act, admit the episode to the replay, update, watch the success, keep checkpoints.

Acting and learning take turns, so a resumed run repeats what an unbroken one would have done; `training_beside` lets the
acting go on meanwhile.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from poco.errors import ArtifactError
from poco.learner import assembly, training_state
from poco.learner.acting import chunk_actor
from poco.learner.agent import Phase
from poco.learner.checkpoint import Checkpoint, write_checkpoint
from poco.learner.cloning import SMALLEST_STD
from poco.learner.critic import ChunkCritic
from poco.learner.demonstrations import EpisodeColumns
from poco.learner.fast_flow import bf16_is_faster
from poco.learner.metrics import EpisodeFigures, append_figures, keep_figures
from poco.learner.networks import Architecture, FlowPolicy
from poco.learner.recipe import TrainingSettings
from poco.learner.replay import Replay
from poco.learner.replay_index import Stored
from poco.learner.rollouts import Actor, Environment, Rolled, roll, specification_of, task_label, wilson
from poco.learner.success_guard import judge
from poco.learner.training_state import Identity, Progress, TrainingState
from poco.specification import Specification

TRAINING_SEED = 10_000_000
"""Episode e of the run with seed s is reset with (s + 1) * TRAINING_SEED + e, far from demonstrations and evaluations."""

EVALUATION_SEED = 5_000_000
"""First seed of the evaluations during training; others than those of `poco-learner evaluate`."""

BEST_OF = 8
REFUSED_MAX = 20
"""So many refused updates in one episode end the run."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a training run is made of: recipe, seed, folder, and what was learned or recorded before it."""

    settings: TrainingSettings
    seed: int
    out: Path
    demonstrations: tuple[EpisodeColumns, ...] = ()
    start: Checkpoint | None = None
    beside: bool = False
    """Whether acting goes on beside the learning: a resumed run then keeps every episode in the replay."""
    threads: int = 1
    """So many threads share the candidates of an update out."""


class Learner:
    """Runs POCO on a gymnasium task whose action is a chunk; one instance, one process, one run folder.

    With `run.start` it goes offline to online, without it learns purely online from a fresh actor; demonstrations are
    in the replay in both cases. Raises ArtifactError for data, checkpoint or environment of different specifications.
    """

    def __init__(self, run: Run, environment: Environment, resume: bool = False) -> None:
        self.run, self.environment = run, environment
        self.specification = specification_of(environment)
        _same_specification(run, self.specification)
        state = training_state.read_state(run.out / "states") if resume else None
        self.identity = self._identity(state)
        self.progress = Progress(bf16_sampling=self._bf16_sampling()) if state is None else state.progress
        self.generator = torch.Generator().manual_seed(run.seed)
        self.replay = self._replay(resume)
        self._refused_before = self.progress.refused
        self.policy, self.agent = assembly.assemble(self.identity, self.progress.bf16_sampling, run.threads)
        if state is None:
            self._begin()
        else:
            self._restore(state)

    def episodes(self) -> Iterator[EpisodeFigures]:
        """Act and learn in turns until the run has reached its end, yielding the figures of each episode."""
        while not self.finished:
            phase = self.phase()
            for rolled in roll(
                self.environment, self.collecting_actor(), range(self.begin(), self.progress.begun), self.first_seed
            ):
                beliefs = self.admit(rolled)
                accepted = [figures for _ in range(self.owed) if (figures := self.update(phase))]
                yield self.conclude(rolled.success, phase, accepted, beliefs)

    @property
    def finished(self) -> bool:
        """Whether the run has reached the episodes or control steps of its recipe."""
        return self.progress.reached(self.run.settings)

    @property
    def ending(self) -> bool:
        """Whether the run has reached its end once the episode admitted last is counted."""
        return self.progress.reached(self.run.settings, uncounted=1)

    @property
    def first_seed(self) -> int:
        """Seed with which its episode 0 is reset."""
        return TRAINING_SEED * (self.run.seed + 1)

    @property
    def owed(self) -> int:
        """Number of updates that the control steps so far allow and that were not taken yet."""
        return int(self.run.settings.updates_per_step * self.progress.steps) - self.progress.updates

    def actor(self, best_of: int, seed: int) -> Actor:
        """Return the policy as an actor: one plain sample, or the best by the critic's value of `best_of` samples."""
        return chunk_actor(self.policy, self.agent, self.specification, best_of, seed)

    def collecting_actor(self) -> Actor:
        """Return the policy as it acts while it learns; the critic has no say in that before the warm-up is over."""
        settings = self.run.settings
        warming_up = self.progress.steps < settings.warm_up_steps
        return self.actor(settings.best_of if warming_up else settings.collect_best_of, self.run.seed)

    def phase(self) -> Phase:
        """Return what updates do to the actor now."""
        if self.progress.steps < self.run.settings.warm_up_steps:
            return self.run.settings.warm_up
        return "frozen" if self.progress.steps < self.progress.frozen_until_step else "learning"

    def begin(self) -> int:
        """Return the number of the next episode to act."""
        self.progress.begun += 1
        return self.progress.begun - 1

    def admit(self, rolled: Rolled) -> list[float]:
        """Take one finished episode into the replay and return what the critic believed along it, chunk after chunk."""
        if not self.replay.add(rolled.steps, rolled.end):
            raise ArtifactError(
                f"episode {rolled.end.episode} is already in the replay: give every run a seed of its own"
            )
        self.progress.steps += len(rolled.steps)
        return self._beliefs(len(rolled.steps))

    def _beliefs(self, steps: int) -> list[float]:
        """Return what the critic expected along the newest episode, which has `steps` of them, chunk after chunk."""
        read = self.specification.delay_steps + self.specification.execute_steps
        starts = np.arange(0, steps - read + 1, self.specification.execute_steps)
        if not len(starts):
            return []
        newest = self.replay.windows(len(self.replay) - steps + starts)
        return [float(value) for value in self.agent.beliefs(newest)]

    def update(self, phase: Phase) -> dict[str, float]:
        """Take one update and return its diagnostics, none if it was refused; raises ArtifactError if too many were."""
        progress, batch = self.progress, self.replay.sample(self.run.settings.batch, self.generator)
        figures = self.agent.update(batch, phase, self.generator)
        progress.updates += 1
        if self.agent.refused == progress.refused:
            return figures
        progress.refused = self.agent.refused
        if progress.refused - self._refused_before > REFUSED_MAX:
            raise ArtifactError(
                f"{REFUSED_MAX + 1} updates of one episode were not finite or exploded: lower the learning rates and "
                "resume from the last checkpoint"
            )
        return {}

    def conclude(
        self, success: bool, phase: Phase, accepted: list[dict[str, float]], beliefs: list[float]
    ) -> EpisodeFigures:
        """Count an episode after its updates: ask the guard, evaluate, write figures and checkpoint where they are due."""
        settings, progress = self.run.settings, self.progress
        warming_up = phase != "learning" and progress.guard.roll_backs == 0
        verdict = judge(progress.guard, settings.guard, success, warming_up)
        if verdict == "best_so_far":
            self.best = copy.deepcopy(self.policy.state_dict())
        elif verdict == "roll_back":
            self._roll_back()
        progress.episodes += 1
        self._refused_before = progress.refused
        due = settings.evaluation_interval and progress.episodes % settings.evaluation_interval == 0
        figures = EpisodeFigures(
            episode=progress.episodes,
            steps=progress.steps,
            updates=progress.updates,
            phase=phase,
            success=success,
            recent_success=progress.guard.recent,
            verdict=verdict,
            diagnostics=_means(accepted),
            evaluation=self._evaluate() if due else {},
            beliefs=beliefs,
        )
        append_figures(self.run.out, figures)
        if self.finished or verdict == "roll_back" or progress.episodes % settings.checkpoint_interval == 0:
            self.checkpoint()
        return figures

    def _roll_back(self) -> None:
        """Return to the best actor, without the momentum that led away from it, and let the critic catch up with it."""
        self.policy.load_state_dict(self.best)
        assembly.forget_moments(self.policy, self.agent)
        self.progress.frozen_until_step = self.progress.steps + self.run.settings.warm_up_steps

    def _evaluate(self) -> dict[str, float]:
        """Return the success of one plain sample and of the best of 8; their difference says how far to trust the critic."""
        episodes = self.run.settings.evaluation_episodes
        seed = EVALUATION_SEED + 10_000 * self.progress.episodes
        plain, best = (self.measure(self.actor(count, seed), episodes, seed) for count in (1, BEST_OF))
        return {"plain": plain, f"best_of_{BEST_OF}": best, "critic_trust": best - plain}

    def measure(self, actor: Actor, episodes: int, seed: int) -> float:
        """Return the success of `actor` over fresh `episodes`."""
        return wilson(sum(one.success for one in roll(self.environment, actor, range(episodes), seed)), episodes).rate

    def checkpoint(self) -> None:
        """Write the state of the run and the policy as it is, everything in the replay being on the disk first."""
        self.replay.flush()
        tensors = assembly.tensors_of(self.policy, self.agent) | training_state.generator_tensors(self.generator)
        tensors |= training_state.prefixed("best.", self.best)
        state = TrainingState(self.identity, self.progress, self.replay.watermark, tensors)
        training_state.write_state(self.run.out / "states", state)
        write_checkpoint(self.run.out, Checkpoint(self.specification, self.policy, self.metrics()))
        best = FlowPolicy(self.policy.architecture)
        best.load_state_dict(self.best)
        write_checkpoint(self.run.out / "best", Checkpoint(self.specification, best, self.metrics()))

    def metrics(self) -> dict[str, float]:
        """Return the figures that go with the policy."""
        progress = self.progress
        return {
            "online_episodes": float(progress.episodes),
            "online_steps": float(progress.steps),
            "online_updates": float(progress.updates),
            "recent_success": progress.guard.recent,
            "bf16_sampling": float(progress.bf16_sampling),
        }

    def _begin(self) -> None:
        """Start from the cloned policy if there is one; normalisers of fresh networks come from the demonstrations."""
        networks: list[FlowPolicy | ChunkCritic] = [self.agent.critic, self.agent.target]
        if self.run.start is None:
            networks.append(self.policy)
        else:
            self.policy.load_state_dict(self.run.start.policy.state_dict())
            self._expect(self.run.start)
        if len(self.replay) > 1:
            mean, std = self.replay.observation_moments()
            for network in networks:
                network.mean[: len(mean)].copy_(mean)
                network.std[: len(std)].copy_(std.clamp_min(SMALLEST_STD))
        self.best = copy.deepcopy(self.policy.state_dict())
        self.checkpoint()

    def _expect(self, start: Checkpoint) -> None:
        """Give the guard the success that `poco-learner evaluate` has measured of `start`, if it has."""
        settings, guard = self.run.settings, self.progress.guard
        level = start.metrics.get(f"success_{task_label(settings.task, settings.environment)}")
        if level is not None:
            guard.baseline, guard.measured = level, True

    def _restore(self, state: TrainingState) -> None:
        assembly.fill(self.policy, self.agent, state)
        training_state.restore_generator(self.generator, state.tensors)
        self.best = training_state.under("best.", state.tensors)
        keep_figures(self.run.out, self.progress.episodes)
        if self.run.beside:
            self._count(self.replay.after(state.replay_watermark))
        else:
            self.replay.rewind(state.replay_watermark)

    def _count(self, later: list[Stored]) -> None:
        """Count the episodes that were admitted after the checkpoint; the updates they allow are owed."""
        for stored in later:
            self.progress.steps += stored.steps
            self.progress.begun = max(self.progress.begun, stored.episode - self.first_seed + 1)
            self.conclude(stored.success, self.phase(), accepted=[], beliefs=[])

    def _replay(self, resume: bool) -> Replay:
        folder = self.run.out / "replay"
        if resume:
            return Replay.open(folder, self.specification)
        replay = Replay.create(folder, self.specification, self.run.settings.replay_bytes)
        replay.begin_with(self.run.demonstrations)
        return replay

    def _bf16_sampling(self) -> bool:
        settings = self.run.settings
        if settings.bf16_sampling != "auto":
            return settings.bf16_sampling == "on"
        return bf16_is_faster(self.identity.architecture, settings.batch * settings.agent.candidates)

    def _identity(self, state: TrainingState | None) -> Identity:
        settings = self.run.settings
        if self.run.start is not None:
            architecture = self.run.start.policy.architecture
        elif state is not None:
            architecture = state.identity.architecture
        else:
            architecture = Architecture.of(self.specification, settings.actor_hidden_sizes)
        identity = Identity(
            settings=settings, seed=self.run.seed, specification=self.specification, architecture=architecture
        )
        if state is not None and state.identity.digest() != identity.digest():
            raise ArtifactError(
                f"the run in {self.run.out} has other settings, seed or specification: resume it with its own"
            )
        return identity


def _means(figures: list[dict[str, float]]) -> dict[str, float]:
    return {key: float(np.mean([one[key] for one in figures])) for key in (figures or [{}])[0]}


def _same_specification(run: Run, specification: Specification) -> None:
    others: dict[str, Specification] = {}
    if run.demonstrations:
        others["the first demonstration"] = run.demonstrations[0].specification
    if run.start is not None:
        others["the starting checkpoint"] = run.start.specification
    for name, other in others.items():
        if other.digest() != specification.digest():
            raise ArtifactError(
                f"{name} has specification {other.digest()[:12]}, the environment {specification.digest()[:12]}: "
                "make data and clone again for this environment"
            )
