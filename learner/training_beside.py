"""Learning while environments in processes of their own go on acting.

Whenever one of them has answered it gets the next chunk of the newest policy, and in between the learner updates; which update
an action falls between depends on the machine, so two such runs are not the same. The update-to-data ratio holds as in turns:
no episode begins while the updates of more than one are owed, and the last one waits for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator

from poco.learner.environment_pool import EnvironmentPool
from poco.learner.metrics import EpisodeFigures
from poco.learner.training import Learner

AT_ONCE = 4
"""So many updates a GPU takes before the host looks after the environments again."""


def learn_beside(learner: Learner, pool: EnvironmentPool) -> Iterator[EpisodeFigures]:
    """Act in `pool` and learn until the run has reached its end, yielding the figures of each episode."""
    accepted: list[dict[str, float]] = []
    while not learner.finished:
        while pool.idle and learner.owed <= _worth(learner):
            pool.begin(learner.begin())
        rolled = pool.collect(wait=not learner.owed)
        if rolled is not None:
            beliefs = learner.admit(rolled)
            owed = learner.owed if learner.ending else 0
        else:
            owed = min(1 if learner.device.type == "cpu" else AT_ONCE, learner.owed)
        accepted += learner.updates(owed, learner.phase())
        if rolled is not None:
            yield learner.conclude(rolled.success, learner.phase(), accepted, beliefs)
            accepted = []


def _worth(learner: Learner) -> float:
    """Return how many updates an episode of mean length allows."""
    progress = learner.progress
    return learner.run.settings.updates_per_step * progress.steps / max(1, progress.episodes)
