"""Learning from the policy's own episodes: act, admit the episode to the replay, update, watch the success, keep checkpoints.

Acting and learning take turns in one process, so a resumed run repeats what an unbroken one would have done.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import gymnasium
import msgspec
import numpy as np
import numpy.typing as npt
import torch
import yaml

from poco.episodes import Episode, write_durably
from poco.errors import ArtifactError, SettingsError
from poco.learner import training_state
from poco.learner.agent import Agent, AgentSettings, Phase
from poco.learner.checkpoint import Checkpoint, write_checkpoint
from poco.learner.cloning import SMALLEST_STD
from poco.learner.critic import ChunkCritic, CriticArchitecture
from poco.learner.networks import Architecture, FlowPolicy
from poco.learner.replay import Replay
from poco.learner.rollouts import Actor, Floats, Rolled, roll, specification_of, wilson
from poco.learner.success_guard import GuardSettings, judge
from poco.learner.training_state import Progress, TrainingState
from poco.noise import NoiseSource
from poco.settings import convert_strictly
from poco.specification import Specification, scale

TRAINING_SEED = 10_000_000
"""Episode e of the run with seed s is reset with (s + 1) * TRAINING_SEED + e, far from demonstrations and evaluations."""

EVALUATION_SEED = 5_000_000
"""First seed of the evaluations during training; others than those of `poco-learner evaluate`."""

BEST_OF = 8
REFUSED_MAX = 20
"""So many refused updates in one episode end the run."""

METRICS_FILE = "metrics.jsonl"

Count = Annotated[int, msgspec.Meta(ge=1)]
Environment = gymnasium.Env[Floats, Floats]


class TrainingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One whole training recipe.

    updates_per_step is the update-to-data ratio in control steps; warm_up says what updates do to the actor in the first
    warm_up_steps control steps besides training the critic. evaluation_interval 0 turns the evaluations off.
    """

    version: Literal[1]
    task: str
    environment: dict[str, bool | int | float | str]
    episodes: Count
    batch: Count
    updates_per_step: Annotated[float, msgspec.Meta(ge=0.0)]
    warm_up: Literal["frozen", "cloning"]
    warm_up_steps: Annotated[int, msgspec.Meta(ge=0)]
    evaluation_interval: Annotated[int, msgspec.Meta(ge=0)]
    evaluation_episodes: Count
    checkpoint_interval: Count
    replay_bytes: Count
    actor_hidden_sizes: tuple[int, ...]
    agent: AgentSettings
    guard: GuardSettings


class EpisodeFigures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of metrics.jsonl: one training episode, means of the diagnostics of its updates, evaluation after it if any."""

    episode: int
    steps: int
    updates: int
    phase: Phase
    success: bool
    recent_success: float
    verdict: str
    diagnostics: dict[str, float]
    evaluation: dict[str, float] = {}


@dataclass(frozen=True, slots=True)
class Run:
    """What a training run is made of: recipe, seed, folder, and what was learned or recorded before it."""

    settings: TrainingSettings
    seed: int
    out: Path
    demonstrations: tuple[Episode, ...] = ()
    start: Checkpoint | None = None


def read_training_settings(path: Path) -> TrainingSettings:
    """Read the YAML file at `path`; raises SettingsError with file, key and nearest known key or limit."""
    if not path.is_file():
        raise SettingsError(f"settings file {path} does not exist: see configs/cpu for whole examples")
    try:
        tree = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"settings file {path} is not YAML ({' '.join(str(error).split())})") from error
    return convert_strictly(tree, TrainingSettings, str(path))


class Learner:
    """Runs POCO on a gymnasium task whose action is a chunk; one instance, one process, one run folder.

    With `run.start` it goes offline to online, without it learns purely online from a fresh actor; demonstrations are
    in the replay in both cases. Raises ArtifactError for data, checkpoint or environment of different specifications.
    """

    def __init__(self, run: Run, environment: Environment, resume: bool = False) -> None:
        self.run, self.environment = run, environment
        self.specification = specification_of(environment)
        _same_specification(run, self.specification)
        self.progress = Progress()
        self.generator = torch.Generator().manual_seed(run.seed)
        self.replay = self._replay(resume)
        self.policy, self.agent = self._networks()
        self.best = copy.deepcopy(self.policy.state_dict())
        if resume:
            self._restore()
        else:
            self.checkpoint()

    def episodes(self) -> Iterator[EpisodeFigures]:
        """Run until the recipe's number of episodes is reached, yielding the figures of each; the last one is in a checkpoint."""
        settings = self.run.settings
        while self.progress.episodes < settings.episodes:
            yield self._episode()

    def actor(self, count: int, seed: int) -> Actor:
        """Return the policy as an actor: one plain sample, or the best by the critic's value of `count` samples."""
        return chunk_actor(self.policy, self.agent, self.specification, count, seed)

    def measure(self, actor: Actor, episodes: int, seed: int) -> float:
        """Return the success of `actor` over fresh `episodes`."""
        return wilson(sum(one.success for one in roll(self.environment, actor, range(episodes), seed)), episodes).rate

    def phase(self) -> Phase:
        """Return what updates do to the actor now."""
        if self.progress.steps < self.run.settings.warm_up_steps:
            return self.run.settings.warm_up
        return "frozen" if self.progress.steps < self.progress.frozen_until_step else "learning"

    def _episode(self) -> EpisodeFigures:
        settings, progress, phase = self.run.settings, self.progress, self.phase()
        warming_up = progress.steps < settings.warm_up_steps
        count = settings.agent.candidates if settings.agent.method == "qc" else 1
        actor = self.actor(count, self.run.seed)
        number = progress.episodes
        (rolled,) = roll(self.environment, actor, range(number, number + 1), TRAINING_SEED * (self.run.seed + 1))
        self._admit(rolled)
        diagnostics = self._update(phase)
        verdict = judge(progress.guard, settings.guard, rolled.success, warming_up)
        if verdict == "best_so_far":
            self.best = copy.deepcopy(self.policy.state_dict())
        elif verdict == "roll_back":
            self.policy.load_state_dict(self.best)
            progress.frozen_until_step = progress.steps + settings.warm_up_steps
        progress.episodes += 1
        last = progress.episodes == settings.episodes
        due = settings.evaluation_interval and progress.episodes % settings.evaluation_interval == 0
        figures = EpisodeFigures(
            episode=progress.episodes,
            steps=progress.steps,
            updates=progress.updates,
            phase=phase,
            success=rolled.success,
            recent_success=progress.guard.recent,
            verdict=verdict,
            diagnostics=diagnostics,
            evaluation=self._evaluate() if due else {},
        )
        with (self.run.out / METRICS_FILE).open("ab") as stream:
            stream.write(msgspec.json.encode(figures) + b"\n")
        if last or progress.episodes % settings.checkpoint_interval == 0:
            self.checkpoint()
        return figures

    def _admit(self, rolled: Rolled) -> None:
        if not self.replay.add(rolled.steps, rolled.end):
            raise ArtifactError(
                f"episode {rolled.end.episode} is already in the replay: give every run a seed of its own"
            )
        self.progress.steps += len(rolled.steps)

    def _update(self, phase: Phase) -> dict[str, float]:
        """Take the updates that the new control steps allow; return the mean of each diagnostic over those not refused."""
        settings, progress = self.run.settings, self.progress
        count = int(settings.updates_per_step * progress.steps) - progress.updates
        refused = self.agent.refused
        accepted: list[dict[str, float]] = []
        for _ in range(count):
            before = self.agent.refused
            figures = self.agent.update(self.replay.sample(settings.batch, self.generator), phase, self.generator)
            if self.agent.refused == before:
                accepted.append(figures)
            if self.agent.refused - refused > REFUSED_MAX:
                raise ArtifactError(
                    f"{REFUSED_MAX + 1} updates of one episode were not finite or exploded: lower the learning rates and "
                    "resume from the last checkpoint"
                )
        progress.updates += count
        progress.refused = self.agent.refused
        return {key: float(np.mean([figures[key] for figures in accepted])) for key in (accepted or [{}])[0]}

    def _evaluate(self) -> dict[str, float]:
        """Return the success of one plain sample and of the best of 8; their difference says how far to trust the critic."""
        episodes = self.run.settings.evaluation_episodes
        seed = EVALUATION_SEED + 10_000 * self.progress.episodes
        plain, best = (self.measure(self.actor(count, seed), episodes, seed) for count in (1, BEST_OF))
        return {"plain": plain, f"best_of_{BEST_OF}": best, "critic_trust": best - plain}

    def checkpoint(self) -> None:
        """Write the state of the run and the policy as it is, everything in the replay being on the disk first."""
        self.replay.flush()
        tensors = training_state.optimizer_tensors(self.agent.optimizer)
        tensors |= training_state.generator_tensors(self.generator)
        modules = {"actor.": self.policy, "critic.": self.agent.critic, "target.": self.agent.target}
        for prefix, module in modules.items():
            tensors |= training_state.prefixed(prefix, module.state_dict())
        tensors |= training_state.prefixed("best.", self.best)
        state = TrainingState(self.digest(), self.progress, self.replay.watermark, tensors)
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
        }

    def _restore(self) -> None:
        state = training_state.read_state(self.run.out / "states", self.digest())
        self.progress = state.progress
        self.agent.refused = state.progress.refused
        modules = {"actor.": self.policy, "critic.": self.agent.critic, "target.": self.agent.target}
        try:
            for prefix, module in modules.items():
                module.load_state_dict(training_state.under(prefix, state.tensors))
            self.best = training_state.under("best.", state.tensors)
            training_state.restore_optimizer(self.agent.optimizer, state.tensors)
            training_state.restore_generator(self.generator, state.tensors)
        except (RuntimeError, KeyError, ValueError) as error:
            raise ArtifactError(
                f"the checkpoint in {self.run.out} does not hold what this run needs ({str(error).splitlines()[0]}): "
                "remove it to resume from the one before"
            ) from error
        self.replay.rewind(state.replay_watermark)
        _keep_lines(self.run.out / METRICS_FILE, self.progress.episodes)

    def _replay(self, resume: bool) -> Replay:
        folder = self.run.out / "replay"
        if resume:
            return Replay.open(folder, self.specification)
        replay = Replay.create(folder, self.specification, self.run.settings.replay_bytes)
        for episode in self.run.demonstrations:
            replay.add(episode.steps, episode.end)
        return replay

    def _networks(self) -> tuple[FlowPolicy, Agent]:
        settings, start = self.run.settings, self.run.start
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.run.seed)
            fresh = FlowPolicy(Architecture.of(self.specification, settings.actor_hidden_sizes))
            policy = fresh if start is None else copy.deepcopy(start.policy)
            agent = settings.agent
            architecture = CriticArchitecture.of(
                self.specification, agent.critic_hidden_sizes, agent.critic_heads, agent.critic_loss
            )
            critic = ChunkCritic(architecture)
        if len(self.replay):
            observations = self.replay.windows(np.arange(len(self.replay))).observation
            for network in (critic, *((policy,) if start is None else ())):
                network.mean.copy_(observations.mean(0))
                network.std.copy_(observations.std(0).clamp_min(SMALLEST_STD))
        return policy, Agent(policy, critic, agent, self.specification)

    def digest(self) -> str:
        """Return the hash of what a resumed run must share; the number of episodes may be raised."""
        settings = msgspec.structs.replace(self.run.settings, episodes=1)
        start = "" if self.run.start is None else str(self.run.start.policy.architecture)
        text = f"{msgspec.json.encode(settings)!r}{self.run.seed}{self.specification.digest()}{start}"
        return hashlib.sha256(text.encode()).hexdigest()


def chunk_actor(policy: FlowPolicy, agent: Agent, specification: Specification, count: int, seed: int) -> Actor:
    """Return an actor that draws `count` chunks and executes the one the critic values most; with 1 the critic is not asked.

    The critic is told the last delay_steps of the previous chunk, or no motion at the start of an episode.
    """
    source, delay, execute = NoiseSource(seed), specification.delay_steps, specification.execute_steps
    shape = (count, specification.chunk_steps, specification.action_size)
    still = np.tile(scale(specification.action, np.zeros(specification.action_size)), (delay, 1)).astype(np.float32)
    pending: npt.NDArray[np.float32] = still

    def act(observation: Floats, episode: int, chunk: int) -> Floats:
        nonlocal pending
        noise = torch.from_numpy(source.sample(episode, chunk, shape))
        seen = torch.from_numpy(observation)[None]
        with torch.inference_mode():
            if count == 1:
                actions: Floats = policy(seen, noise)[0].numpy()
            else:
                before = torch.from_numpy(still if chunk == 0 else pending)[None]
                actions = agent.best(seen, before, noise[None])[0].numpy()
        pending = actions[execute - delay : execute]
        return actions

    return act


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


def _keep_lines(path: Path, count: int) -> None:
    lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    write_durably(path, b"".join(lines[:count]))
