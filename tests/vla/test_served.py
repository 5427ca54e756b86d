"""The whole loop of a VLA that sees: a robot works, its learner learns from what it saw, what was learned drives the arm."""

from __future__ import annotations

import ctypes.util
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from poco.export.vla.exporting import export_vla
from poco.export.vla.options import Progress
from poco.learner.checkpoint import Checkpoint, write_checkpoint
from poco.learner.metrics import EpisodeFigures, read_figures
from poco.learner.publish import vla_policy_of
from poco.learner.recipe import TrainingSettings, read_training_settings
from poco.learner.replay import Replay
from poco.learner.vla.eyes import ReplayAlbum
from poco.learner.vla.opening import open_vla
from poco.noise import NoiseSource
from poco.runtime.gate import read_verdicts
from poco.runtime.run_folder import Fault, RunFolder
from poco.specification import read_specification
from poco.trust import read_private_key
from programs import Program
from served import Served
from vla import tiny
from vla.learning_policies import network_of
from vla.tiny_artifact import options_of

HOST = "127.0.46.9"

needs_rendering = pytest.mark.skipif(
    ctypes.util.find_library("EGL") is None and ctypes.util.find_library("OSMesa") is None,
    reason="neither libegl1 nor libosmesa6 is installed",
)


def recipe() -> TrainingSettings:
    """That of a VLA, for one that sees, which publishes after a few small updates."""
    given = read_training_settings(tiny.CONFIGS / "cpu" / "peg_in_hole_vla.yaml")
    agent = msgspec.structs.replace(
        given.agent,
        critic_reads="actions",
        candidates=4,
        posterior_states=4,
        critic_clock_steps=0,
        time_limit="bootstrap",
    )
    publish = msgspec.structs.replace(given.publish, updates=3, interval_s=0.0)
    return msgspec.structs.replace(given, batch=8, warm_up_steps=0, updates_per_step=0.1, agent=agent, publish=publish)


@needs_rendering
def test_what_it_learned_from_what_it_saw_drives_the_arm(tmp_path: Path) -> None:
    """Images come once a chunk; the learner chooses every chunk of the first generation again from them; a later one drives."""
    torch.set_num_threads(1)
    made = tiny.make("smolvla", tmp_path, specification=tiny.SEEN_SPECIFICATION)
    told = read_specification(tiny.SEEN_SPECIFICATION)
    network = msgspec.structs.replace(network_of(made, "smolvla"), cameras=("near=near", "wrist=wrist"))
    options = replace(options_of(made, tmp_path / "artifact"), specification=tiny.SEEN_SPECIFICATION)
    trust = Program("poco-trust", "init", "--folder", tmp_path / "trust", folder=tmp_path)
    assert trust.wait() == 0, trust.err
    key = read_private_key(tmp_path / "trust" / "learner.key")
    with tiny.tiny_sizes(made):
        artifact = export_vla(options, Progress(lambda line: None))
        policy = open_vla(network, told)
        write_checkpoint(tmp_path / "adopted", Checkpoint(policy.specification, policy, {}))
        served = Served(tmp_path, artifact, recipe(), key, HOST, adopted=tmp_path / "adopted")
        served.start()
    run = tmp_path / "run"
    trial = ("--swap.shadow_chunks", "2", "--swap.baseline_episodes", "0", "--swap.probation_episodes", "1")
    where = ("--robot.host", HOST, "--link", served.address, "--swap.trust", tmp_path / "trust" / "robot", "--out", run)
    pace = ("--emulator.pacing", "lockstep", "--task.episode_steps", "30", "--episodes", "1000")
    words = ("--robot", "sim", "--policy", artifact.path, "--task", tiny.TASK)
    robot = Program("poco-runtime", *words, *where, *pace, *trial, folder=tmp_path)
    try:
        robot.until(lambda: any(one.origin and one.origin.generation > 1 for one in figures(served.out)))
    finally:
        robot.end()
        assert served.stop() == 0, served.log
    folder = RunFolder.open(run)
    assert not [event for event in folder.events() if isinstance(event, Fault)]
    assert {one.reason for one in read_verdicts(tmp_path / "store-fr3")} == {""}
    with tiny.tiny_sizes(made):
        assert artifact.manifest.vla is not None
        policy = vla_policy_of(artifact, artifact.manifest.vla, tmp_path / "adopted")
    assert chosen_again(policy, Replay.open(served.out / "replay", policy.specification)) >= 5


def chosen_again(policy: object, replay: Replay) -> int:
    """Choose every chunk of the first episode, which the first generation drove, from the replay's images; return how many."""
    from poco.learner.vla.policy import VlaPolicy

    assert isinstance(policy, VlaPolicy)
    assert policy.eyes is not None
    policy.eyes.albums.append(ReplayAlbum(policy.eyes, replay))
    first, specification, noise = next(replay.recorded()), replay.specification, NoiseSource(0)
    assert first.end.episode == 0
    assert first.views is not None
    delay, execute = specification.delay_steps, specification.execute_steps
    marked = np.abs(first.observations[:, : policy.eyes.size]).max(axis=1) > 0
    np.testing.assert_array_equal(np.flatnonzero(marked), np.arange(0, len(marked), execute))
    checked = 0
    for number, step in enumerate(range(0, len(marked) - delay - execute + 1, execute)):
        made = noise.sample(0, number, policy.noise_shape)
        context = torch.from_numpy(np.array(first.observations[step][None]))
        chunk = policy(context, torch.from_numpy(made)[None])[0].numpy()
        done = first.actions_policy[step + delay : step + delay + execute]
        np.testing.assert_allclose(done, chunk[: len(done)], atol=1e-4, rtol=0.0)
        checked += 1
    return checked


def figures(out: Path) -> list[EpisodeFigures]:
    """What the learner noted of the episodes so far."""
    return read_figures(out) if (out / "metrics.jsonl").exists() else []
