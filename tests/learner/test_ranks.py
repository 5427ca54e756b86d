"""Ranks of a data-parallel learner, started by torchrun, take the very step that one takes alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import torch
import yaml
from safetensors.torch import load_file

from learning_toys import SMALL, small_agent
from poco.episodes import Episode, write_episode
from poco.errors import ArtifactError, SettingsError
from poco.learner import training_state
from poco.learner.learning import Run
from poco.learner.metrics import read_figures
from poco.learner.own_episodes import own_successes
from poco.learner.ranks import Ranks
from poco.learner.rollouts import make_environment
from poco.learner.training import Learner
from poco.learner.training_commands import train
from reach_task import SPECIFICATION, TASK
from recipes import reach_recipe

TESTS = Path(__file__).parents[1]
PROGRAM = Path(__file__).with_name("rank_program.py")
ENDED_AFTER, EPISODES = 4, 7


def start(ranks: int, *words: str) -> str:
    """Run a program or module with so many ranks to its end and return what it printed."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *torchrun, *words], env=environment, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_ranks_on_halves_equal_one_on_the_whole(tmp_path: Path) -> None:
    """After critic-only, cloning and POCO updates all weights agree to 1e-5; poison on one rank is refused by both."""
    for ranks in (1, 2):
        start(ranks, str(PROGRAM), str(tmp_path))
    one, first, second = (load_file(tmp_path / f"{name}.safetensors") for name in ("0-of-1", "0-of-2", "1-of-2"))
    assert len(one) > 15
    assert one["refused"] == first["refused"] == second["refused"] == 1.0
    for key, value in one.items():
        assert torch.equal(first[key], second[key]), key
        assert float((value - first[key]).abs().max()) < 1e-5, key
    for key, value in small_agent(SPECIFICATION).critic.state_dict(prefix="critic.").items():
        assert key in ("critic.mean", "critic.std") or float((value - one[key]).abs().max()) > 1e-3


def test_batches_that_cannot_be_shared_are_refused(tmp_path: Path) -> None:
    """Nine windows or five posterior states do not fall into two equal parts; nothing is made on the disk."""
    odd = (
        (reach_recipe(batch=9), "batch is 9"),
        (
            reach_recipe(agent=msgspec.structs.replace(SMALL, posterior_states=5)),
            "posterior_states is 5",
        ),
    )
    for settings, sentence in odd:
        with pytest.raises(SettingsError, match=f"{sentence}, must be a multiple of the 2 ranks"):
            Learner(Run(settings, 0, tmp_path / "run", ranks=Ranks(1, 2)), make_environment(TASK))
    assert not (tmp_path / "run").exists()


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """All that a batch is shared out for: few posterior states, successes as the anchor, sampled endings, warm-up, an average."""
    agent = msgspec.structs.replace(
        SMALL, posterior_states=4, anchor="successes", endings="completed", critic_clock_steps=15, critic_loss="bce"
    )
    settings = reach_recipe(agent=agent, episodes=EPISODES, windows="acted", average_rate=0.01, bf16_sampling="off")
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(msgspec.to_builtins(settings)))
    return path


def test_a_run_of_two_ranks_is_that_of_one(tmp_path: Path, recipe: Path, demonstrations: tuple[Episode, ...]) -> None:
    """`poco-learner train` with two ranks, broken off and resumed, acts the same episodes and ends within 1e-5 of one process.

    Each rank keeps every other episode, demonstrations included, eleven of them so that the turns are not even.
    """
    (tmp_path / "data").mkdir()
    for episode in demonstrations[:11]:
        path = tmp_path / "data" / f"{episode.end.episode:06d}.safetensors"
        write_episode(path, episode.specification, episode.steps, episode.end)
    one, two = tmp_path / "one", tmp_path / "two"
    words = ["-m", "poco.learner.cli", "train", "--seed", "3"]
    begin = ["--config", str(recipe), "--data", str(tmp_path / "data")]
    start(1, *words, *begin, "--out", str(one))
    start(2, *words, *begin, "--out", str(two), "--episodes", str(ENDED_AFTER))
    printed = start(2, *words[:-2], "--out", str(two), "--resume", "--episodes", str(EPISODES))
    assert printed.count('"online_updates"') == 1
    ours, theirs = read_figures(two), read_figures(one)
    assert len(ours) == len(theirs) == EPISODES
    for mine, plain in zip(ours, theirs, strict=True):
        assert (mine.steps, mine.updates, mine.success, mine.phase) == (
            plain.steps,
            plain.updates,
            plain.success,
            plain.phase,
        )
        assert mine.beliefs == pytest.approx(plain.beliefs, abs=1e-4)
    assert theirs[-1].phase == "learning"
    assert theirs[-1].updates > 20
    shared, alone = (training_state.read_state(folder / "states") for folder in (two, one))
    assert shared.replay_watermark == alone.replay_watermark == 11 + EPISODES
    assert shared.tensors.keys() == alone.tensors.keys()
    for key, value in alone.tensors.items():
        assert float((value.float() - shared.tensors[key].float()).abs().max()) < 1e-5, key
    with pytest.raises(ArtifactError, match="with as many ranks as it began with, here they are 1"):
        train(two, resume=True)
    parts = [episode.end.episode for episode in own_successes(two).episodes]
    assert sorted(parts) == sorted(episode.end.episode for episode in own_successes(one).episodes)
    assert parts[:6] == [0, 2, 4, 6, 8, 10]
