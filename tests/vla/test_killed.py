"""A run of `poco-learner train` that improves a VLA survives `kill -9` in its very first checkpoint."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import torch
import yaml

from poco.learner import training_state
from poco.learner.checkpoint import FILE, Checkpoint, read_checkpoint, write_checkpoint
from poco.learner.recipe import read_training_settings
from poco.learner.training_commands import train
from poco.learner.vla.opening import open_vla
from vla import tiny
from vla.learning_policies import network_of


def recipe(file: Path) -> Path:
    """That of a VLA, with two short episodes and few small updates."""
    given = read_training_settings(tiny.CONFIGS / "cpu" / "peg_in_hole_vla.yaml")
    agent = msgspec.structs.replace(given.agent, candidates=4, posterior_states=4, critic_hidden_sizes=(16, 16))
    environment = {"variant": "easy", "episode_steps": 12}
    changed = msgspec.structs.replace(
        given, environment=environment, episodes=2, batch=8, warm_up_steps=0, replay_bytes=1_000_000, agent=agent
    )
    file.write_text(yaml.safe_dump(msgspec.to_builtins(changed)))
    return file


def killed_before(name: str, act: Callable[[], None]) -> None:
    """Act in a process of its own that is killed just before it puts a file with `name` into its place."""
    rename = os.rename

    def deadly(source: Any, target: Any) -> None:
        if Path(target).name == name:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(source, target)

    def live() -> None:
        with mock.patch("os.rename", deadly):
            act()

    process = multiprocessing.get_context("fork").Process(target=live)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def test_a_run_killed_in_its_first_checkpoint_goes_on(tmp_path: Path) -> None:
    """Its state was there, its policy was not: resumed, it ends with the policy of a run that nobody touched."""
    torch.set_num_threads(1)
    made, config = tiny.make("pi0", tmp_path), recipe(tmp_path / "recipe.yaml")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    with tiny.tiny_sizes(made):
        policy = open_vla(network_of(made, "pi0"), tiny.specification())
        write_checkpoint(tmp_path / "start", Checkpoint(policy.specification, policy, {}))
        killed_before(FILE, lambda: train(killed, config, start=tmp_path / "start"))
        assert training_state.has_state(killed / "states")
        assert not (killed / FILE).exists()
        train(killed, resume=True)
        train(whole, config, start=tmp_path / "start")
        ours, theirs = (read_checkpoint(folder).policy.state_dict() for folder in (killed, whole))
    before = policy.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in before)
    assert any(not torch.equal(ours[name], before[name]) for name in before)
