"""Measured success of a checkpoint or a training run on fresh episodes, in one acting mode, with a 95 % interval."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import msgspec

from poco.durable import write_durably
from poco.errors import ArtifactError, UsageError
from poco.learner import assembly, training_state
from poco.learner.acting import chunk_actor
from poco.learner.agent import Agent
from poco.learner.checkpoint import read_checkpoint, write_checkpoint
from poco.learner.encoder import Encoder
from poco.learner.environment_pool import EnvironmentPool
from poco.learner.environment_process import EnvironmentProcess
from poco.learner.recipe import TrainingSettings
from poco.learner.rollouts import Actor, Environment, roll, specification_of, wilson
from poco.learner.trained_policy import TrainedPolicy, encoder_before
from poco.specification import Specification

EVALUATIONS_FILE = "evaluations.json"


class Evaluation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Successes among fresh episodes with the bounds of the 95 % Wilson interval.

    `best_of` samples were drawn for each chunk, the best by the critic executed; 1 is a plain sample. The policy had learned
    from `steps` control steps of its own by then.
    """

    task: str
    best_of: int
    seed: int
    steps: int
    episodes: int
    successes: int
    rate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Subject:
    """What is evaluated: a policy, its critic if it is a training run, and how far that had got."""

    folder: Path
    policy: TrainedPolicy
    specification: Specification
    agent: Agent | None = None
    settings: TrainingSettings | None = None
    steps: int = 0
    encoder: Encoder | None = None
    """What encodes images for the policy, if it sees."""

    def actor(self, environment: Environment, best_of: int, seed: int) -> Actor:
        """Return an actor of the given mode; raises UsageError without a critic to choose, ArtifactError for another task."""
        ours, theirs = self.specification.digest(), specification_of(environment).digest()
        if ours != theirs:
            raise ArtifactError(
                f"{self.folder} was trained under specification {ours[:12]}, the environment has {theirs[:12]}: "
                "make data and train again"
            )
        if best_of > 1 and self.agent is None:
            raise UsageError(
                f"--best-of is {best_of}, but {self.folder} holds no critic: give the folder of a training run"
            )
        return chunk_actor(self.policy, self.agent, self.specification, best_of, seed)


def read_subject(folder: Path) -> Subject:
    """Read the newest state of the training run in `folder`, or the checkpoint there; raises ArtifactError."""
    if not training_state.has_state(folder / "states"):
        checkpoint = read_checkpoint(folder)
        return Subject(folder, checkpoint.policy, checkpoint.specification, encoder=checkpoint.eyes)
    state = training_state.read_state(folder / "states")
    policy, agent = assembly.assemble(state.identity)
    assembly.fill(policy, agent, state)
    acting = copy.deepcopy(policy)
    assembly.fill_average(acting, state)
    identity = state.identity
    encoder = assembly.encoder_of(state) or encoder_before(policy)
    return Subject(folder, acting, identity.specification, agent, identity.settings, state.progress.steps, encoder)


def evaluate(
    subject: Subject,
    environments: Sequence[Environment],
    task: str,
    best_of: int,
    episodes: int,
    seed: int,
    advance: Callable[[str], None],
) -> Evaluation:
    """Run `episodes` fresh ones from `seed` on, calling `advance` after each; `task` labels the result.

    One environment plays them in turn, several processes at the same time with the same result.
    """
    first, *others = environments
    actors = [subject.actor(environment, best_of, seed) for environment in environments]
    if others:
        pool = EnvironmentPool(cast(Sequence[EnvironmentProcess], environments), iter(actors).__next__, seed)
        played = pool.roll(range(episodes))
    else:
        played = roll(first, actors[0], range(episodes), seed)
    successes = 0
    for rolled in played:
        successes += rolled.success
        advance(f"{successes} succeeded")
    rate = wilson(successes, episodes)
    return Evaluation(
        task=task,
        best_of=best_of,
        seed=seed,
        steps=subject.steps,
        episodes=episodes,
        successes=successes,
        rate=rate.rate,
        low=rate.low,
        high=rate.high,
    )


def keep_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Add `evaluation` to those of `folder`, and to the figures of its checkpoint, from where export takes them."""
    kept = [one for one in read_evaluations(folder) if _question(one) != _question(evaluation)]
    write_durably(folder / EVALUATIONS_FILE, msgspec.json.format(msgspec.json.encode([*kept, evaluation])))
    checkpoint = read_checkpoint(folder)
    mode = "" if evaluation.best_of == 1 else f"best_of_{evaluation.best_of}_"
    figures = {
        f"{mode}success_{evaluation.task}": evaluation.rate,
        f"{mode}evaluation_episodes_{evaluation.task}": float(evaluation.episodes),
    }
    write_checkpoint(folder, replace(checkpoint, metrics={**checkpoint.metrics, **figures}))


def read_evaluations(folder: Path) -> list[Evaluation]:
    """Return the evaluations kept in `folder`, none if there are none; raises ArtifactError if they are damaged."""
    file = folder / EVALUATIONS_FILE
    if not file.is_file():
        return []
    try:
        return msgspec.json.decode(file.read_bytes(), type=list[Evaluation])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ArtifactError(f"evaluations {file} are damaged ({error}): remove the file and evaluate again") from error


def _question(evaluation: Evaluation) -> tuple[str, int]:
    return evaluation.task, evaluation.best_of
