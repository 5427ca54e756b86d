"""A robot's link process and a learner's link, real processes, sockets and disks, without an arm."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from armless_robot import CONFIG, ArmlessRobot, free_address, make_keys

import synthetic_run
from poco.journal.records import Boot, Ended, Record, Stepped
from poco.learner.episode_assembly import Finished
from poco.learner.link_server import LinkServer
from poco.records import EpisodeEnd, Step, StepKey
from poco.runtime.entrance import Entrance
from poco.specification import Specification

__all__ = ["CONFIG", "free_address"]

SERVING_LEARNER = Path(__file__).parent / "link" / "serving_learner.py"
PATIENCE_S = 120.0


def keys_for(folder: Path, robot: str) -> tuple[Path, Path]:
    """Make keys of a learner and a robot that know each other; return the folders of both."""
    learner, (arm,) = make_keys(folder, robot)
    return learner, arm


def until(condition: Callable[[], bool], what: str = "") -> None:
    """Wait until `condition` holds."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"waited in vain {what}"
        time.sleep(0.005)


@dataclass
class Writer:
    """A policy without an arm: offers steps and episodes, remembers what it offered."""

    entrance: Entrance
    robot: str
    specification: Specification
    boot_epoch: int
    offered: list[Record] = field(default_factory=list)
    episode: int = 0
    step: int = 0
    outcome: str = "success"
    generation: int = 1
    human: bool = False

    def begin(self) -> None:
        """Offer the boot."""
        digest = self.specification.digest()
        self.offer(
            Boot(
                robot=self.robot,
                boot_epoch=self.boot_epoch,
                generation=1,
                specification=self.specification,
                specification_hash=digest,
            )
        )

    def offer(self, record: Record) -> None:
        """Offer a record."""
        self.offered.append(record)
        self.entrance.offer(record)

    def make(self, steps: int, length: int = 20) -> None:
        """Offer `steps` steps in episodes of `length`."""
        spec = self.specification
        for _ in range(steps):
            value = (self.episode * length + self.step) % 1000 / 1000
            self.offer(
                Stepped(
                    step=Step(
                        key=StepKey(self.robot, self.boot_epoch, self.episode, self.step),
                        tick=50 * self.step,
                        generation=self.generation,
                        chunk_id=1,
                        observation=[value] * spec.observation_size,
                        action_policy=[value] * spec.action_size,
                        action_executed=[value] * spec.action_size,
                        reward=0.0,
                        intervened=self.human,
                    )
                )
            )
            self.step += 1
            if self.step == length:
                self.end()

    def end(self) -> None:
        """End the episode."""
        self.offer(
            Ended(
                end=EpisodeEnd(
                    robot=self.robot,
                    boot_epoch=self.boot_epoch,
                    episode=self.episode,
                    tick=0,
                    final_observation=[0.0] * self.specification.observation_size,
                    outcome=self.outcome,
                    terminated=True,
                    truncated=False,
                )
            )
        )
        self.episode, self.step = self.episode + 1, 0

    def settle(self) -> None:
        """Wait until everything offered is durable."""

        def durable() -> bool:
            self.entrance.pump()
            return self.entrance.spool.waiting == 0

        until(durable, f"for receipts of {self.entrance.spool.waiting} records")


class LinkRun(ArmlessRobot):
    """One robot's run folder with its link process, and a writer in place of a policy."""

    def __init__(
        self,
        folder: Path,
        robot: str,
        address: str = "",
        keys: Path | None = None,
        specification: Specification | None = None,
        **overrides: str,
    ) -> None:
        spec = specification or synthetic_run.specification()
        super().__init__(folder, robot, address, keys, spec, **overrides)
        self.writer = Writer(Entrance(self.options.run_name, "policy-1"), robot, spec, self.options.boot_epoch)


class LearnerProcess:
    """The learner's end of the link in a process of its own, which may be killed and started again."""

    def __init__(self, inbox: Path, address: str, digest: str, keys: Path | None = None) -> None:
        words = [str(inbox), address, digest, *([str(keys)] if keys else [])]
        self._words = [sys.executable, str(SERVING_LEARNER), *words]
        self.process: subprocess.Popen[bytes]
        self.start()

    def start(self) -> None:
        """Start it."""
        self.process = subprocess.Popen(self._words, stdout=subprocess.PIPE)

    def kill(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.communicate()


def finished(server: LinkServer, count: int) -> list[Finished]:
    """Wait for `count` finished episodes and return them."""
    found: list[Finished] = []

    def enough() -> bool:
        while (episode := server.next_finished()) is not None:
            found.append(episode)
        return len(found) >= count

    until(enough, f"for {count} episodes, the link says {server.status}")
    return found


def steps_of(records: list[Record]) -> list[list[Step]]:
    """Steps by episode as a writer offered them."""
    found: list[list[Step]] = [[]]
    for record in records:
        match record:
            case Stepped(step=step):
                found[-1].append(step)
            case Ended():
                found.append([])
    return found[:-1]
