"""A tiny SmolVLA that sees, the learner that serves it in a process of its own, and the robots that it drives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import torch

from poco.export.vla.exporting import export_vla
from poco.export.vla.options import Progress
from poco.learner.checkpoint import Checkpoint, write_checkpoint
from poco.learner.demonstrations import Recorded
from poco.learner.metrics import EpisodeFigures, read_figures
from poco.learner.publish import vla_policy_of
from poco.learner.recipe import TrainingSettings, read_training_settings
from poco.learner.replay import Replay
from poco.learner.vla.eyes import ReplayAlbum
from poco.learner.vla.opening import open_vla
from poco.learner.vla.policy import VlaPolicy
from poco.noise import NoiseSource
from poco.specification import read_specification
from poco.trust import read_private_key
from programs import Program
from served import Served
from vla import tiny
from vla.learning_policies import network_of
from vla.tiny_artifact import options_of


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


class Loop:
    """Artifact, keys and learner in one folder; nothing runs yet."""

    def __init__(self, folder: Path, host: str, precision: Literal["fp32", "fp16"] = "fp32") -> None:
        """`host` is the learner's address on this computer; robots have others."""
        torch.set_num_threads(1)
        self.folder = folder
        self._made = made = tiny.make("smolvla", folder, specification=tiny.SEEN_SPECIFICATION)
        network = msgspec.structs.replace(network_of(made, "smolvla"), cameras=("near=near", "wrist=wrist"))
        options = options_of(made, folder / "artifact")
        options = replace(options, specification=tiny.SEEN_SPECIFICATION, precision=precision)
        trust = Program("poco-trust", "init", "--folder", folder / "trust", folder=folder)
        assert trust.wait() == 0, trust.err
        key = read_private_key(folder / "trust" / "learner.key")
        with tiny.tiny_sizes(made):
            self.artifact = export_vla(options, Progress(lambda line: None))
            policy = open_vla(network, read_specification(tiny.SEEN_SPECIFICATION))
            write_checkpoint(folder / "adopted", Checkpoint(policy.specification, policy, {}))
        self.served = Served(folder, self.artifact, recipe(), key, host, adopted=folder / "adopted")

    def serve(self) -> None:
        """Start the learner, again if there was one."""
        with tiny.tiny_sizes(self._made):
            self.served.start()

    def robot(self, name: str, host: str, seed: int = 0) -> Program:
        """Let the robot `name` work in short episodes, with a trial of one episode for each generation."""
        trial = ("--swap.shadow_chunks", "2", "--swap.baseline_episodes", "0", "--swap.probation_episodes", "1")
        trust = ("--swap.trust", self.folder / "trust" / "robot")
        where = (
            "--robot.host",
            host,
            "--robot.name",
            name,
            "--seed",
            str(seed),
            "--link",
            self.served.address,
            "--out",
            self.run_of(name),
        )
        pace = ("--emulator.pacing", "lockstep", "--task.episode_steps", "30", "--episodes", "1000")
        words = ("--robot", "sim", "--policy", self.artifact.path, "--task", tiny.TASK)
        return Program("poco-runtime", *words, *where, *trust, *pace, *trial, folder=self.folder / name)

    def run_of(self, name: str) -> Path:
        """The run folder of the robot `name`; its store lies beside it."""
        return self.folder / f"run-{name}"

    def store_of(self, name: str) -> Path:
        """The folder of what the robot `name` was offered."""
        return self.folder / f"store-{name}"

    @property
    def figures(self) -> list[EpisodeFigures]:
        """What the learner noted of the episodes so far."""
        out = self.served.out
        return read_figures(out) if (out / "metrics.jsonl").exists() else []

    def newest(self, robot: str) -> int:
        """The newest generation that has driven an episode of `robot` which the learner has, 0 if there is none."""
        origins = [one.origin for one in self.figures if one.origin]
        return max((origin.generation for origin in origins if origin.robot == robot), default=0)

    def replay(self) -> Replay:
        """What the learner has learned from."""
        return Replay.open(self.served.out / "replay", self.policy().specification)

    def policy(self) -> VlaPolicy:
        """The policy of the first generation."""
        with tiny.tiny_sizes(self._made):
            assert self.artifact.manifest.vla is not None
            return vla_policy_of(self.artifact, self.artifact.manifest.vla, self.folder / "adopted")

    def chosen_again(self, episode: Recorded, tolerance: float, seed: int = 0) -> int:
        """Choose every chunk of `episode`, which the first generation drove, from the replay's images; return how many.

        `seed` is that of its robot.
        """
        policy = self.policy()
        assert policy.eyes is not None
        policy.eyes.albums.append(ReplayAlbum(policy.eyes, self.replay()))
        assert episode.views is not None
        specification, noise = policy.specification, NoiseSource(seed)
        delay, execute = specification.delay_steps, specification.execute_steps
        marked = np.abs(episode.observations[:, : policy.eyes.size]).max(axis=1) > 0
        np.testing.assert_array_equal(np.flatnonzero(marked), np.arange(0, len(marked), execute))
        assert np.abs(episode.end.final_observation[: policy.eyes.size]).max() > 0
        checked = 0
        for number, step in enumerate(range(0, len(marked) - delay - execute + 1, execute)):
            made = noise.sample(episode.end.episode, number, policy.noise_shape)
            context = torch.from_numpy(np.array(episode.observations[step][None]))
            chunk = policy(context, torch.from_numpy(made)[None])[0].numpy()
            done = episode.actions_policy[step + delay : step + delay + execute]
            np.testing.assert_allclose(done, chunk[: len(done)], atol=tolerance, rtol=0.0)
            checked += 1
        return checked
