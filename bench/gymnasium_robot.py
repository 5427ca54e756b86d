"""A robot in the gymnasium environment in real time, in place of the policy process of one on an arm; started by robots.py.

Environment and policy, the session of an exported artifact, live in this process. It offers every step, when its time has come, to
the link process of the run that --options names, and begins no episode while that has no room. It begins when told on standard
input, ends with the episode under way after --seconds, and prints one line of JSON.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import gymnasium
import msgspec
import numpy as np

from poco.artifact import Artifact, read_artifact
from poco.journal.records import Boot, Ended, Stepped
from poco.noise import NoiseSource
from poco.records import EpisodeEnd, Step, StepKey
from poco.runtime.entrance import Entrance
from poco.runtime.run_options import RunOptions
from poco.runtime.session import Session

TASK = "poco.hw.emulator.tasks:poco/PegInHole-v0"
POLL_S = 0.05
SETTLE_S = 60.0
LATE_S = 0.05


class Played(msgspec.Struct, frozen=True, kw_only=True):
    """What one robot did; lateness is that of a chunk's end against 20 Hz, `waited_s` the time without room for an episode."""

    robot: str
    steps: int
    episodes: int
    successes: int
    seconds: float
    late_chunks: int
    chunks: int
    latest_s: float
    waited_s: float
    lost: int
    processor_s: float


class GymnasiumRobot:
    """One robot with its clock."""

    def __init__(self, options: RunOptions, artifact: Artifact, variant: str) -> None:
        """Make the environment and open the session; nothing is recorded yet."""
        self._robot, self._boot_epoch = options.settings.robot.name, options.boot_epoch
        self._artifact, self._seed = artifact, options.boot_epoch % 1_000_003
        self._environment = gymnasium.make(TASK, disable_env_checker=True, variant=variant)
        self._session, self._noise = Session(artifact), NoiseSource(self._seed)
        self._entrance = Entrance(options.run_name, f"policy-{options.boot_epoch}")
        self._period_s = 1.0 / artifact.specification.rate_hz
        self._lateness_s: list[float] = []
        self._steps = self._episodes = self._successes = 0
        self._waited_s = 0.0

    def play(self, seconds: float) -> Played:
        """Play episodes for `seconds` and what the last one takes more; return when all of them are durable."""
        specification = self._artifact.specification
        boot = Boot(
            robot=self._robot,
            boot_epoch=self._boot_epoch,
            generation=self._artifact.manifest.generation,
            specification=specification,
            specification_hash=specification.digest(),
        )
        self._entrance.offer(boot)
        began_s, began_processor_s = time.monotonic(), time.process_time()
        while time.monotonic() < began_s + seconds:
            self._wait_for_room()
            self._episode(self._episodes)
            self._episodes += 1
        played_s, used_s = time.monotonic() - began_s, time.process_time() - began_processor_s
        self._entrance.settle(SETTLE_S)
        return Played(
            robot=self._robot,
            steps=self._steps,
            episodes=self._episodes,
            successes=self._successes,
            seconds=played_s,
            late_chunks=sum(late_s > LATE_S for late_s in self._lateness_s),
            chunks=len(self._lateness_s),
            latest_s=max(self._lateness_s),
            waited_s=self._waited_s,
            lost=self._entrance.spool.lost + self._entrance.spool.waiting,
            processor_s=used_s,
        )

    def _wait_for_room(self) -> None:
        began_s = time.monotonic()
        self._entrance.pump()
        while self._entrance.spool.trouble:
            time.sleep(POLL_S)
            self._entrance.pump()
        self._waited_s += time.monotonic() - began_s

    def _episode(self, episode: int) -> None:
        observation, _ = self._environment.reset(seed=self._seed + episode)
        due_s = time.monotonic()
        running, chunk = True, 0
        while running:
            noise = self._noise.sample(episode, chunk, self._session.noise_shape)
            actions = self._session.run(np.asarray(observation, np.float32), noise)
            observation, _, terminated, truncated, info = self._environment.step(actions)
            due_s += len(info["steps"]) * self._period_s
            self._wait_until(due_s)
            for step in info["steps"]:
                self._entrance.offer(Stepped(step=self._own(step, episode)))
            self._steps += len(info["steps"])
            chunk, running = chunk + 1, not (terminated or truncated)
        end: EpisodeEnd = info["end"]
        self._successes += end.outcome == "success"
        own = msgspec.structs.replace(end, robot=self._robot, boot_epoch=self._boot_epoch, episode=episode)
        self._entrance.offer(Ended(end=own))

    def _own(self, step: Step, episode: int) -> Step:
        key = StepKey(self._robot, self._boot_epoch, episode, step.key.step)
        return msgspec.structs.replace(step, key=key, generation=self._artifact.manifest.generation)

    def _wait_until(self, due_s: float) -> None:
        """Let robot time pass, with the journal's answers taken in as a policy process does."""
        while (left_s := due_s - time.monotonic()) > 0.0:
            time.sleep(min(left_s, POLL_S))
            self._entrance.pump()
        self._lateness_s.append(max(0.0, -left_s))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--options", type=Path, required=True, help="JSON file of RunOptions")
    parser.add_argument("--artifact", type=Path, required=True)
    parser.add_argument("--variant", default="hard")
    parser.add_argument("--seconds", type=float, required=True)
    arguments = parser.parse_args()
    options = msgspec.json.decode(arguments.options.read_bytes(), type=RunOptions)
    robot = GymnasiumRobot(options, read_artifact(arguments.artifact), arguments.variant)
    print("ready", flush=True)
    if sys.stdin.readline():
        print(msgspec.json.encode(robot.play(arguments.seconds)).decode(), flush=True)


if __name__ == "__main__":
    main()
