"""Whole learning runs with the learner's update and with the plain one of bench/plain_update.py, seed by seed, side by side.

python bench/plain_learning.py --config RECIPE [--data DIR] [--start DIR] [--seeds 0 1 2] [--episodes N] [--fresh 200] [--out DIR]

Both have the same episodes, batches and random numbers to begin with and drift apart as rounding does; what they learn must not
differ by more than seeds do. Success is that in training and that of the last policy on fresh episodes, one plain sample. The
guard is off in both, since only the learner's own update can return to an earlier actor.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import torch
from plain_update import PlainUpdate

from poco.learner.agent_settings import Phase
from poco.learner.checkpoint import read_checkpoint
from poco.learner.demonstrations import read_demonstrations
from poco.learner.learning import Run
from poco.learner.recipe import read_training_settings
from poco.learner.rollouts import Environment, make_environment
from poco.learner.success_guard import GuardSettings
from poco.learner.trained_policy import flow_policy
from poco.learner.training import Learner

FRESH_SEED = 1_000_000


class PlainLearner(Learner):
    """The learner with the plain update in place of its own; it cannot be resumed."""

    def __init__(self, run: Run, environment: Environment) -> None:
        super().__init__(run, environment)
        self._plain = PlainUpdate(flow_policy(self.policy), self.agent.critic, run.settings.agent, self.specification)

    def _update(self, phase: Phase) -> dict[str, float]:
        loss = self._plain.update(self._sample(), self.generator, phase)
        self._plain.hand_over(flow_policy(self.policy), self.agent)
        self._follow(phase)
        return {"loss": loss}


class Learned(msgspec.Struct, frozen=True, kw_only=True):
    """What one run came to: success of each episode, and of `fresh` ones before the first and after the last update."""

    seed: int
    successes: list[bool]
    updates: int
    before: float
    after: float


def learn(kind: type[Learner], run: Run, fresh: int) -> Learned:
    """Learn `run` to its end and measure it."""
    still = GuardSettings(window=20, margin=1.0, span=10_000)
    settings = msgspec.structs.replace(run.settings, guard=still, evaluation_interval=0, evaluation_interval_steps=0)
    environment = make_environment(settings.task, **settings.environment)
    learner = kind(replace(run, settings=settings), environment)
    before = learner.measure(learner.actor(1, FRESH_SEED), fresh, FRESH_SEED)
    successes = [figures.success for figures in learner.episodes()]
    after = learner.measure(learner.actor(1, FRESH_SEED), fresh, FRESH_SEED)
    environment.close()
    return Learned(seed=run.seed, successes=successes, updates=learner.progress.updates, before=before, after=after)


def both(run: Run, fresh: int) -> tuple[Learned, Learned]:
    """Learn `run` with the learner's update and with the plain one."""
    return learn(Learner, replace(run, out=run.out / "learner"), fresh), learn(
        PlainLearner, replace(run, out=run.out / "plain"), fresh
    )


def table(pairs: Sequence[tuple[Learned, Learned]]) -> str:
    """Return seeds, success in training by thirds and on fresh episodes of both kinds, and the mean difference, as text."""
    lines = ["seed  kind     updates  training by thirds  fresh: before  after"]
    for pair in pairs:
        for kind, one in zip(("learner", "plain"), pair, strict=True):
            thirds = " ".join(f"{np.mean(part):5.2f}" for part in np.array_split(one.successes, 3))
            lines.append(f"{one.seed:4}  {kind:7}  {one.updates:7}  {thirds:>18}  {one.before:13.3f}  {one.after:.3f}")
    after = np.array([[one.after for one in pair] for pair in pairs])
    difference, spread = after[:, 0] - after[:, 1], after.std(0, ddof=1) if len(pairs) > 1 else np.full(2, np.nan)
    lines.append(
        f"learner {after[:, 0].mean():.3f}, plain {after[:, 1].mean():.3f}, mean difference {difference.mean():+.3f}, largest "
        f"{np.abs(difference).max():.3f}; between seeds {spread[0]:.3f} and {spread[1]:.3f}"
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, metavar="RECIPE")
    parser.add_argument("--data", type=Path, metavar="DIR", help="demonstrations that begin the replay")
    parser.add_argument("--start", type=Path, metavar="DIR", help="cloned checkpoint to begin with")
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2), metavar="N")
    parser.add_argument("--episodes", type=int, metavar="N", help="instead of the recipe's")
    parser.add_argument("--fresh", type=int, default=200, metavar="N", help="fresh episodes for each measurement")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/plain_learning"), metavar="DIR")
    flags = parser.parse_args()
    torch.set_num_threads(1)
    settings = read_training_settings(flags.config)
    if flags.episodes:
        settings = msgspec.structs.replace(settings, episodes=flags.episodes)
    demonstrations = () if flags.data is None else read_demonstrations(flags.data).episodes
    start = None if flags.start is None else read_checkpoint(flags.start)
    pairs = [
        both(Run(settings, seed, flags.out / f"seed-{seed}", demonstrations, start), flags.fresh)
        for seed in flags.seeds
    ]
    print(table(pairs))
    (flags.out / "plain_learning.json").write_bytes(msgspec.json.format(msgspec.json.encode(pairs)))


if __name__ == "__main__":
    main()
