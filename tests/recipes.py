"""The training recipe of the reach task: learns in seconds, for tests that kill, resume and compare."""

from __future__ import annotations

from typing import Any

import msgspec

from learning_toys import SMALL
from poco.learner.recipe import TrainingSettings
from poco.learner.success_guard import GuardSettings
from reach_task import TASK


def reach_recipe(**changes: Any) -> TrainingSettings:
    """The recipe with some of its values replaced."""
    settings = TrainingSettings(
        version=1,
        task=TASK,
        environment={},
        episodes=12,
        batch=8,
        updates_per_step=0.5,
        warm_up="frozen",
        warm_up_steps=30,
        evaluation_interval=4,
        evaluation_episodes=2,
        checkpoint_interval=3,
        replay_bytes=1_000_000,
        actor_hidden_sizes=(16, 16),
        agent=SMALL,
        guard=GuardSettings(window=20, margin=0.15, span=20),
    )
    return msgspec.structs.replace(settings, **changes)
