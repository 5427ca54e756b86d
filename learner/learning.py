"""What every learning run has: replay, agent, updates owed to the data, a guard over the success, a state that survives.

Where the episodes come from is the business of who uses it: an environment (`training`) or robots (`service`).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from poco.errors import ArtifactError, SettingsError, UsageError
from poco.learner import assembly, training_state
from poco.learner.agent_settings import Phase
from poco.learner.captured_update import CapturedUpdate
from poco.learner.checkpoint import Checkpoint, write_checkpoint
from poco.learner.cloning import SMALLEST_STD
from poco.learner.critic import ChunkCritic
from poco.learner.demonstrations import EpisodeColumns
from poco.learner.encoder import Encoder
from poco.learner.fast_flow import bf16_is_faster
from poco.learner.image_policy import ImageEncoder
from poco.learner.metrics import EpisodeFigures, Origin, append_figures, keep_figures, means
from poco.learner.networks import Architecture, FlowPolicy
from poco.learner.ranks import ALONE, Ranks
from poco.learner.recipe import TrainingSettings
from poco.learner.replay import Replay
from poco.learner.replay_mirror import ReplayMirror
from poco.learner.replay_shards import ReplayShards, own_watermark, replay_folder
from poco.learner.rollouts import task_label
from poco.learner.success_guard import judge
from poco.learner.trained_policy import architecture_of, network_of
from poco.learner.training_state import Identity, Progress, Tensors, TrainingState
from poco.learner.vla.eyes import Eyes, ReplayAlbum
from poco.learner.windows import Batch
from poco.specification import Specification
from poco.views import Shown

REFUSED_MAX = 20
"""So many refused updates in one episode end the run."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a learning run is made of: recipe, seed, folder, and what was learned or recorded before it.

    `start` is a policy to begin with, `warmed` the state of an earlier run with actor, critics and optimizer to begin with.
    """

    settings: TrainingSettings
    seed: int
    out: Path
    demonstrations: tuple[EpisodeColumns, ...] = ()
    start: Checkpoint | None = None
    warmed: TrainingState | None = None
    beside: bool = False
    """Whether acting goes on beside the learning: a resumed run then keeps every episode in the replay."""
    threads: int = 1
    """So many threads share the candidates of an update out."""
    device: str = "cpu"
    """Where the networks and the updates are, as torch names it."""
    encoder: ImageEncoder | None = None
    """What encodes images for the policy, if it sees; it stays as it is."""
    ranks: Ranks = ALONE
    """Which of how many processes this is that share every batch, each with its own part of the replay."""

    @property
    def eyes(self) -> Encoder | None:
        """What makes observations from images: the encoder, or the vision part of the policy that the run began with."""
        return self.encoder or (None if self.start is None else self.start.eyes)


class Learning:
    """Runs POCO on the episodes it is given; one instance, one process, one run folder.

    With `run.start` it goes offline to online, without it learns purely online from a fresh actor; demonstrations are
    in the replay in both cases. Raises ArtifactError for data or checkpoint of another specification than that of `source`.
    """

    def __init__(
        self,
        run: Run,
        specification: Specification,
        source: str,
        resume: bool = False,
        shown: Shown | None = None,
        image_interval: int = 1,
    ) -> None:
        """`shown` are the images that come with what is observed, every `image_interval` steps, for the replay to keep."""
        self.run, self.specification, self._shown, self._image_interval = run, specification, shown, image_interval
        _same_specification(run, specification, source)
        _fit_for(run)
        state = training_state.read_state(run.out / "states") if resume else None
        self.identity = self._identity(state)
        self.device = torch.device(run.device)
        self.progress = Progress(bf16_sampling=self._bf16_sampling()) if state is None else state.progress
        self.generator = torch.Generator(self.device).manual_seed(run.seed)
        self.replay = self._replay(resume)
        self.position = 0 if state is None else state.inbox_position
        self._refused_before = self.progress.refused
        self._shards = None if run.ranks.count == 1 else ReplayShards(self.replay, run.ranks)
        self.policy, self.agent = assembly.assemble(
            self.identity,
            self.progress.bf16_sampling,
            run.threads,
            self.device,
            run.ranks,
            None if run.start is None else run.start.policy,
        )
        if isinstance(run.eyes, Eyes):
            run.eyes.albums.append(ReplayAlbum(run.eyes, self.replay))
        self.acting = copy.deepcopy(self.policy) if run.settings.average_rate else self.policy
        self.best: Tensors = {}
        if state is None:
            self._begin()
        else:
            self._restore(state)
        mirrored = self.agent.fixed_shapes and self._shards is None
        self._mirror = ReplayMirror(self.replay, self.device) if mirrored else None
        self._captured = CapturedUpdate(self.agent, self._sample, self.generator, self._follow)

    @property
    def owed(self) -> int:
        """Number of updates that the control steps so far allow and that were not taken yet."""
        return self.run.settings.updates_due(self.progress.steps) - self.progress.updates

    def phase(self) -> Phase:
        """Return what updates do to the actor now."""
        if self.progress.steps < self.run.settings.warm_up_steps:
            return self.run.settings.warm_up
        return "frozen" if self.progress.frozen else "learning"

    def count(self, steps: int) -> list[float]:
        """Count the newest episode of the replay, `steps` long; return what the critic expected of it, chunk after chunk."""
        self.progress.steps += steps
        read = self.specification.delay_steps + self.specification.execute_steps
        starts = np.arange(0, steps - read + 1, self.specification.execute_steps)
        if not len(starts):
            return []
        newest = self.replay.windows(len(self.replay) - steps + starts).to(self.device)
        return [float(value) for value in self.agent.beliefs(newest)]

    def _sample(self) -> Batch:
        settings = self.run.settings
        source = self._source if self._mirror is None else self._mirror
        return source.sample(settings.batch, self.generator, settings.windows == "acted").to(self.device)

    @property
    def _source(self) -> Replay | ReplayShards:
        """The whole replay, wherever its parts are."""
        return self.replay if self._shards is None else self._shards

    def update(self, phase: Phase) -> dict[str, float]:
        """Take one update and return its diagnostics, none if it was refused; raises ArtifactError if too many were."""
        return next(iter(self.updates(1, phase)), {})

    def updates(self, count: int, phase: Phase) -> list[dict[str, float]]:
        """Take `count` updates and return the diagnostics of those that were not refused; raises ArtifactError if too many were."""
        progress = self.progress
        if self._shards is not None:
            self._shards.refresh()
        if self._mirror is None:
            accepted = [figures for _ in range(count) if (figures := self._update(phase))]
        else:
            self._mirror.refresh()
            accepted = self._captured.take(count, phase)
        progress.updates += count
        progress.refused = self.agent.refused
        if progress.refused - self._refused_before > REFUSED_MAX:
            raise ArtifactError(
                f"{REFUSED_MAX + 1} updates of one episode were not finite or exploded: lower the learning rates and "
                "resume from the last checkpoint"
            )
        return accepted

    def _update(self, phase: Phase) -> dict[str, float]:
        refused = self.agent.refused
        figures = self.agent.update(self._sample(), phase, self.generator)
        if self.agent.refused > refused:
            return {}
        self._follow(phase)
        return figures

    @torch.no_grad()
    def _follow(self, phase: Phase) -> None:
        """Let the average come nearer to the actor, which a frozen one has no need of."""
        rate = self.run.settings.average_rate
        if rate and phase != "frozen":
            torch._foreach_lerp_(list(self.acting.parameters()), list(self.policy.parameters()), rate)

    def conclude(
        self,
        success: bool,
        phase: Phase,
        accepted: Sequence[dict[str, float]],
        beliefs: list[float],
        origin: Origin | None = None,
        driver: Tensors | None = None,
    ) -> EpisodeFigures:
        """Count an episode as finished: ask the guard, evaluate where that is due, write the figures.

        `driver` holds the weights that acted, for an actor that has learned more since; `best` itself where nobody knows them.
        """
        settings, progress = self.run.settings, self.progress
        warming_up = phase != "learning" and progress.guard.roll_backs == 0
        acted = driver or self.acting.state_dict()
        by_best = driver is not self.best and assembly.equal(acted, self.best)
        verdict = judge(progress.guard, settings.guard, success, warming_up, by_best)
        if verdict == "best_so_far":
            self.best = copy.deepcopy(acted)
        elif verdict == "roll_back":
            self._roll_back()
        progress.episodes += 1
        self._refused_before = progress.refused
        figures = EpisodeFigures(
            episode=progress.episodes,
            steps=progress.steps,
            updates=progress.updates,
            phase=phase,
            success=success,
            recent_success=progress.guard.recent,
            verdict=verdict,
            diagnostics=means(accepted),
            evaluation=self.evaluation(),
            beliefs=beliefs,
            origin=origin,
        )
        if self.run.ranks.first:
            append_figures(self.run.out, figures)
        return figures

    def evaluation(self) -> dict[str, float]:
        """Return what was measured of the policy after this episode; nothing, where there is nothing to measure it in."""
        return {}

    def _roll_back(self) -> None:
        """Return to the best actor, without the momentum that led away from it, and let the critic catch up with it."""
        for policy in (self.policy, self.acting):
            policy.load_state_dict(self.best)
        assembly.forget_moments(self.policy, self.agent)
        self.progress.frozen_until_step = self.progress.steps + self.run.settings.warm_up_steps

    def checkpoint(self) -> None:
        """Write the state of the run and the policy as it is, everything in the replay being on the disk first.

        Of several ranks the first one writes, when the parts of all are on the disk.
        """
        self.replay.flush()
        watermark = int(self.run.ranks.total(torch.tensor(self.replay.watermark)))
        if not self.run.ranks.first:
            return
        tensors = assembly.tensors_of(self.policy, self.agent) | training_state.generator_tensors(self.generator)
        tensors |= training_state.prefixed("best.", self.best)
        if self.run.settings.average_rate:
            tensors |= training_state.prefixed(assembly.AVERAGE, self.acting.state_dict())
        encoder = self.run.encoder
        if encoder is not None:
            tensors |= training_state.prefixed(assembly.ENCODER, encoder.weights())
        state = TrainingState(self.identity, self.progress, watermark, tensors, self.position)
        training_state.write_state(self.run.out / "states", state)
        write_checkpoint(self.run.out, Checkpoint(self.specification, self.acting, self.metrics(), encoder))
        best = copy.deepcopy(self.policy)
        best.load_state_dict(self.best)
        write_checkpoint(self.run.out / "best", Checkpoint(self.specification, best, self.metrics(), encoder))

    def metrics(self) -> dict[str, float]:
        """Return the figures that go with the policy."""
        progress = self.progress
        return {
            "online_episodes": float(progress.episodes),
            "online_steps": float(progress.steps),
            "online_updates": float(progress.updates),
            "recent_success": progress.guard.recent,
            "roll_backs": float(progress.guard.roll_backs),
            "bf16_sampling": float(progress.bf16_sampling),
        }

    def _begin(self) -> None:
        """Start from what was learned before, if anything; normalisers of fresh networks come from the demonstrations."""
        networks: list[FlowPolicy | ChunkCritic] = [self.agent.critic, self.agent.target]
        if self.run.start is not None:
            self._expect(self.run.start)
        elif isinstance(self.policy, FlowPolicy):
            networks.append(self.policy)
        if self.run.warmed is not None:
            self._take_over(self.run.warmed)
        elif len(self._source) > 1:
            mean, std = self._source.observation_moments()
            for network in networks:
                network.mean[: len(mean)].copy_(mean)
                network.std[: len(std)].copy_(std.clamp_min(SMALLEST_STD))
        self.acting.load_state_dict(self.policy.state_dict())
        self.best = copy.deepcopy(self.policy.state_dict())
        self.checkpoint()

    def _expect(self, start: Checkpoint) -> None:
        """Give the guard the success that `poco-learner evaluate` has measured of `start`, if it has."""
        settings, guard = self.run.settings, self.progress.guard
        level = start.metrics.get(f"success_{task_label(settings.task, settings.environment)}")
        if level is not None:
            guard.baseline, guard.measured = level, True

    def _take_over(self, warmed: TrainingState) -> None:
        """Go on with the networks of another run and with the success that its guard holds them to."""
        assembly.fill(self.policy, self.agent, warmed)
        self.agent.refused = 0
        before, guard = warmed.progress.guard, self.progress.guard
        if before.measured or before.outcomes:
            guard.baseline, guard.measured = before.baseline, True

    def _restore(self, state: TrainingState) -> None:
        assembly.fill(self.policy, self.agent, state)
        assembly.fill_average(self.acting, state)
        training_state.restore_generator(self.generator, state.tensors)
        self.best = training_state.under("best.", state.tensors)
        if self.run.ranks.first:
            keep_figures(self.run.out, self.progress.episodes)
        self.catch_up(state.replay_watermark)

    def catch_up(self, watermark: int) -> None:
        """Make replay and counters agree after a resumption: what was admitted after the checkpoint comes again."""
        self.replay.rewind(own_watermark(watermark, self.run.ranks))

    def _replay(self, resume: bool) -> Replay:
        ranks = self.run.ranks
        folder = replay_folder(self.run.out, ranks)
        if resume and not folder.is_dir():
            raise ArtifactError(
                f"{folder} is not there: a run is resumed with as many ranks as it began with, here they are {ranks.count}"
            )
        if resume:
            return Replay.open(folder, self.specification)
        replay = Replay.create(
            folder, self.specification, self.run.settings.replay_bytes, self._shown, self._image_interval
        )
        replay.begin_with(self.run.demonstrations[ranks.rank :: ranks.count])
        return replay

    def _bf16_sampling(self) -> bool:
        settings, architecture = self.run.settings, self.identity.architecture
        if settings.bf16_sampling != "auto" or architecture is None:
            return settings.bf16_sampling == "on"
        rows = settings.batch * settings.agent.candidates // self.run.ranks.count
        return self.run.ranks.agree(bf16_is_faster(architecture, rows, self.device))

    def _identity(self, state: TrainingState | None) -> Identity:
        settings = self.run.settings
        network = None
        if self.run.start is not None:
            architecture, network = architecture_of(self.run.start.policy), network_of(self.run.start.policy)
        elif state is not None:
            architecture, network = state.identity.architecture, state.identity.network
        else:
            architecture = Architecture.of(self.specification, settings.actor_hidden_sizes)
        encoder = self.run.encoder
        identity = Identity(
            settings=settings,
            seed=self.run.seed,
            specification=self.specification,
            architecture=architecture,
            network=network,
            encoder=None if encoder is None else encoder.architecture,
        )
        if state is not None and state.identity.digest() != identity.digest():
            raise ArtifactError(
                f"the run in {self.run.out} has other settings, seed or specification: resume it with its own"
            )
        return identity


def _fit_for(run: Run) -> None:
    """Raise PocoError if the ranks of `run` cannot share its batches."""
    settings, ranks = run.settings, run.ranks
    if ranks.count > 1 and isinstance(run.eyes, Eyes):
        raise UsageError(f"{ranks.count} ranks cannot share a policy that sees by marks: train it with one process")
    for name, rows in (("batch", settings.batch), ("posterior_states", settings.agent.posterior_states)):
        if rows % ranks.count:
            raise SettingsError(
                f"{name} is {rows}, must be a multiple of the {ranks.count} ranks that share it: change it or their number"
            )


def _same_specification(run: Run, specification: Specification, source: str) -> None:
    others: dict[str, Specification] = {}
    if run.demonstrations:
        others["the first demonstration"] = run.demonstrations[0].specification
    if run.start is not None:
        others["the starting checkpoint"] = run.start.specification
    if run.warmed is not None:
        others["the run to start from"] = run.warmed.identity.specification
    for name, other in others.items():
        if other.digest() != specification.digest():
            raise ArtifactError(
                f"{name} has specification {other.digest()[:12]}, {source} {specification.digest()[:12]}: "
                f"make data and clone again for {source}"
            )
