"""Learning from the policy's own episodes: act, admit the episode to the replay, update, watch the success, keep checkpoints.

Acting and learning take turns, so a resumed run repeats what an unbroken one would have done, unless the replay is full: the oldest
episodes, which made room after the checkpoint, do not come back. `training_beside` lets the acting go on meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from poco.errors import ArtifactError
from poco.learner.acting import chunk_actor
from poco.learner.agent_settings import Phase
from poco.learner.learning import Learning, Run
from poco.learner.metrics import EpisodeFigures, Origin
from poco.learner.rollouts import Actor, Environment, Rolled, roll, shown_by, specification_of, wilson
from poco.learner.training_state import Tensors

TRAINING_SEED = 10_000_000
"""Episode e of the run with seed s is reset with (s + 1) * TRAINING_SEED + e, far from demonstrations and evaluations."""

EVALUATION_SEED = 5_000_000
"""First seed of the evaluations during training, which stay below twice this: others than those of training and `evaluate`."""

EVALUATION_STRIDE = 10_000
"""So much further on begin the seeds of the evaluation after the next episode, round and round."""

BEST_OF = 8


class _Acted(msgspec.Struct, frozen=True):
    """What an episode means to the ranks that did not act it."""

    steps: int
    success: bool
    beliefs: list[float]


class Learner(Learning):
    """Runs POCO on a gymnasium task whose action is a chunk; one instance, one process, one run folder.

    Several `ranks` of a run have an instance each, all do the same at the same time, and each episode is acted by one of them.

    Raises ArtifactError for data or checkpoint of another specification than the environment's.
    """

    def __init__(self, run: Run, environment: Environment, resume: bool = False) -> None:
        self.environment = environment
        super().__init__(run, specification_of(environment), "the environment", resume, shown_by(environment))

    def episodes(self) -> Iterator[EpisodeFigures]:
        """Act and learn in turns until the run has reached its end, yielding the figures of each episode."""
        while not self.finished:
            phase = self.phase()
            acted = self._act(self.begin())
            accepted = self.updates(self.owed, phase)
            yield self.conclude(acted.success, phase, accepted, acted.beliefs)

    def _act(self, number: int) -> _Acted:
        """Act and admit episode `number`; of several ranks the one does with which it will lie, and tells the others."""
        ranks, turn = self.run.ranks, 0
        if self._shards is not None:
            self._shards.refresh()
            turn = self._shards.turn

        def play() -> bytes:
            (rolled,) = roll(self.environment, self.collecting_actor(), range(number, number + 1), self.first_seed)
            beliefs = self.admit(rolled)
            return msgspec.msgpack.encode(_Acted(steps=len(rolled.steps), success=rolled.success, beliefs=beliefs))

        acted = msgspec.msgpack.decode(ranks.told(turn, play), type=_Acted)
        if ranks.rank != turn:
            self.progress.steps += acted.steps
        return acted

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

    def actor(self, best_of: int, seed: int) -> Actor:
        """Return the policy as an actor: one plain sample, or the best by the critic's value of `best_of` samples."""
        return chunk_actor(self.acting, self.agent, self.specification, best_of, seed)

    def collecting_actor(self) -> Actor:
        """Return the policy as it acts while it learns; the critic has no say in that before the warm-up is over."""
        settings = self.run.settings
        warming_up = self.progress.steps < settings.warm_up_steps
        return self.actor(settings.best_of if warming_up else settings.collect_best_of, self.run.seed)

    def begin(self) -> int:
        """Return the number of the next episode to act."""
        self.progress.begun += 1
        return self.progress.begun - 1

    def admit(self, rolled: Rolled) -> list[float]:
        """Take one finished episode into the replay and return what the critic believed along it, chunk after chunk."""
        if not self.replay.add(rolled.steps, rolled.end, views=rolled.views):
            raise ArtifactError(
                f"episode {rolled.end.episode} is already in the replay: give every run a seed of its own"
            )
        return self.count(len(rolled.steps))

    def conclude(
        self,
        success: bool,
        phase: Phase,
        accepted: Sequence[dict[str, float]],
        beliefs: list[float],
        origin: Origin | None = None,
        driver: Tensors | None = None,
    ) -> EpisodeFigures:
        """Count an episode after its updates and write a checkpoint where it is due."""
        figures = super().conclude(success, phase, accepted, beliefs, origin, driver)
        interval = self.run.settings.checkpoint_interval
        if self.finished or figures.verdict == "roll_back" or self.progress.episodes % interval == 0:
            self.checkpoint()
        return figures

    def evaluation(self) -> dict[str, float]:
        """Return, where it is due, the success of one plain sample and of the best of 8.

        Their difference says how far to trust the critic.
        """
        settings = self.run.settings
        if not self._evaluation_due() or not self.run.ranks.first:
            return {}
        episodes, seed = settings.evaluation_episodes, evaluation_seed(self.progress.episodes)
        plain, best = (self.measure(self.actor(count, seed), episodes, seed) for count in (1, BEST_OF))
        return {"plain": plain, f"best_of_{BEST_OF}": best, "critic_trust": best - plain}

    def _evaluation_due(self) -> bool:
        """Whether this episode ended an interval between evaluations; one of control steps has then begun anew."""
        settings, progress = self.run.settings, self.progress
        by_steps = 0 < settings.evaluation_interval_steps <= progress.steps - progress.evaluated_step
        if by_steps:
            progress.evaluated_step = progress.steps - progress.steps % settings.evaluation_interval_steps
        return by_steps or (settings.evaluation_interval > 0 and progress.episodes % settings.evaluation_interval == 0)

    def measure(self, actor: Actor, episodes: int, seed: int) -> float:
        """Return the success of `actor` over fresh `episodes`."""
        return wilson(sum(one.success for one in roll(self.environment, actor, range(episodes), seed)), episodes).rate

    def catch_up(self, watermark: int) -> None:
        """Repeat what followed the checkpoint or, where acting goes on beside the learning, count it; its updates are owed.

        The next checkpoint comes when all of it is counted, since its watermark says that all of it was.
        """
        if not self.run.beside:
            return super().catch_up(watermark)
        for stored in self.replay.after(watermark):
            self.progress.steps += stored.steps
            self.progress.begun = max(self.progress.begun, stored.episode - self.first_seed + 1)
            super().conclude(stored.success, self.phase(), accepted=[], beliefs=[])
        if self.replay.watermark > watermark:
            self.checkpoint()


def evaluation_seed(episodes: int) -> int:
    """Return the first seed of the evaluation after so many training episodes."""
    return EVALUATION_SEED + EVALUATION_STRIDE * episodes % EVALUATION_SEED
