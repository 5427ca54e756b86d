"""A whole learning run with the learner's update learns what one with the plain update does."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from plain_learning import both, table

from learning_toys import SMALL
from poco.learner.agent_settings import AgentSettings
from poco.learner.learning import Run
from poco.learner.recipe import TrainingSettings
from recipes import reach_recipe

LEARNS: AgentSettings = msgspec.structs.replace(
    SMALL,
    candidates=16,
    posterior_states=16,
    eta=0.02,
    zeta=1.0,
    anchor="successes",
    time_limit="failure",
    endings="completed",
    discount=0.9,
    target_rate=0.02,
    critic_clock_steps=15,
    critic_hidden_sizes=(32, 32),
    critic_learning_rate=3e-3,
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def recipe(episodes: int, warm_up_steps: int) -> TrainingSettings:
    """Purely online from a fresh actor; candidates are drawn in bfloat16 by the learner, in float32 by the plain update."""
    return reach_recipe(
        agent=LEARNS,
        episodes=episodes,
        batch=32,
        updates_per_step=1.0,
        warm_up_steps=warm_up_steps,
        windows="acted",
        checkpoint_interval=1000,
        actor_hidden_sizes=(32, 32),
        bf16_sampling="on",
        replay_bytes=4_000_000,
    )


def test_a_short_run_acts_the_same_episodes(tmp_path: Path) -> None:
    """Warm-up and learning, 14 episodes: each ends alike, after as many updates."""
    ours, plain = both(Run(recipe(14, 60), 0, tmp_path), fresh=10)
    assert ours == plain
    assert ours.updates > 100


@pytest.mark.proof
@pytest.mark.timeout(1800)
def test_runs_learn_the_same_within_seeds(tmp_path: Path) -> None:
    """Three seeds of 150 episodes: both learn, and their means on fresh episodes differ by less than one seed does from another."""
    pairs = [both(Run(recipe(150, 200), seed, tmp_path / str(seed)), fresh=200) for seed in range(3)]
    print("\n" + table(pairs))
    before, after = (np.array([[getattr(one, name) for one in pair] for pair in pairs]) for name in ("before", "after"))
    assert (after.mean(0) > before.mean(0) + 0.2).all()
    assert abs(after[:, 0].mean() - after[:, 1].mean()) < after.std(0, ddof=1).max()
