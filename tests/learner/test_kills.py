"""A training run killed again and again, a third of the times in the middle of a checkpoint, learns what an unbroken one does."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from poco.learner import training_state
from poco.learner.learning import Run
from poco.learner.metrics import read_figures
from poco.learner.replay import Replay
from poco.learner.rollouts import make_environment
from poco.learner.training import Learner
from reach_task import SPECIFICATION
from recipes import reach_recipe

ENDLESS = 1_000_000
EVENTS_OF_A_CHECKPOINT = 9
"""Three files, each with two calls of fsync and one rename; resuming writes one such file too."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def live(run: Run, fatal: int | None) -> None:
    """Resume and learn; before fsync or rename number `fatal` kill this very process."""
    done = 0

    def deadly(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any) -> Any:
            nonlocal done
            done += 1
            if done == fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments)

        return wrapped

    os.fsync, os.rename = deadly(os.fsync), deadly(os.rename)
    for _ in Learner(run, make_environment(run.settings.task, **run.settings.environment), resume=True).episodes():
        pass


def kill(run: Run, dice: random.Random, checkpointing: bool) -> None:
    """Let the run live for a while and kill it at once, at any moment or in the middle of a checkpoint."""
    fatal = dice.randint(1, 4 * EVENTS_OF_A_CHECKPOINT) if checkpointing else None
    process = multiprocessing.get_context("fork").Process(target=live, args=(run, fatal))
    process.start()
    if not checkpointing:
        time.sleep(dice.uniform(0.02, 0.3))
        os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL


def test_killed_again_and_again_a_run_learns_what_an_unbroken_one_does(tmp_path: Path) -> None:
    """Forty kills: see `survive`."""
    survive(tmp_path, 40, 40)


@pytest.mark.proof
@pytest.mark.timeout(3600)
def test_five_hundred_kills(tmp_path: Path) -> None:
    """The same POCO_COUNT (500) times, with the dice of POCO_SEED."""
    count, seed = int(os.environ.get("POCO_COUNT", "500")), int(os.environ.get("POCO_SEED", "500"))
    episodes = survive(tmp_path, count, seed)
    print(
        f"\n{count} kills with seed {seed}, {episodes} episodes learned: every checkpoint loaded, no transition lost, same weights"
    )


def survive(tmp_path: Path, kills: int, seed: int) -> int:
    """After every kill the newest checkpoint loads and the replay holds every transition up to its watermark, as it happened.

    In the end figures, weights, moments and generator are those of a run that was never touched, bit for bit. Returns the number of
    episodes that were learned between the kills.
    """
    journal = tmp_path / "journal"
    settings = reach_recipe(
        environment={"journal": str(journal)},
        episodes=ENDLESS,
        checkpoint_interval=2,
        evaluation_interval=0,
        updates_per_step=0.2,
    )
    run = Run(settings, 5, tmp_path / "killed")
    first = Learner(run, make_environment(settings.task, **settings.environment))
    dice, counted = random.Random(seed), 0
    for number in range(kills):
        kill(run, dice, checkpointing=number % 3 == 0)
        state = training_state.read_state(run.out / "states")
        assert state.progress.episodes >= counted
        counted = state.progress.episodes
        replay = Replay.open(run.out / "replay", SPECIFICATION)
        assert replay.watermark >= state.replay_watermark == counted
        kept = [one for one in replay.after(0) if one.episode - first.first_seed < counted]
        lines = [line.split() for line in journal.read_text().splitlines()]
        happened = {int(episode): int(steps) for episode, steps in lines}
        assert [one.steps for one in kept] == [happened[first.first_seed + episode] for episode in range(counted)]
    assert counted > kills / 4

    ending = msgspec.structs.replace(settings, episodes=counted + 3)
    killed, whole = Run(ending, 5, run.out), Run(ending, 5, tmp_path / "whole")
    for one, resume in ((killed, True), (whole, False)):
        for _ in Learner(one, make_environment(settings.task, **settings.environment), resume).episodes():
            pass
    assert read_figures(killed.out) == read_figures(whole.out)
    stored, expected = (Replay.open(one.out / "replay", SPECIFICATION).after(0) for one in (killed, whole))
    assert stored == expected
    ours, theirs = (training_state.read_state(one.out / "states") for one in (killed, whole))
    assert ours.progress == theirs.progress
    assert ours.tensors.keys() == theirs.tensors.keys()
    assert all(torch.equal(value, theirs.tensors[key]) for key, value in ours.tensors.items())
    return counted
