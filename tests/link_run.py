"""A robot's link process and a learner's link, real processes, sockets and disks, without an arm."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from poco.clock import monotonic_ns
from poco.episodes import write_durably
from poco.journal.records import Boot, Ended, Record, Stepped
from poco.learner.gathering import Finished
from poco.learner.link_server import LinkServer
from poco.link.keys import KeyFolder
from poco.records import EpisodeEnd, Step, StepKey
from poco.runtime.entrance import Entrance
from poco.runtime.link import LinkReport
from poco.runtime.run_folder import RunFolder
from poco.runtime.run_options import RunOptions
from poco.settings import read_settings
from poco.specification import Specification
from synthetic_run import facts

CONFIG = Path(__file__).parents[1] / "configs" / "fr3_peg_in_hole.yaml"
SERVING_LEARNER = Path(__file__).parent / "link" / "serving_learner.py"
PATIENCE_S = 60.0


def keys_for(folder: Path, robot: str) -> tuple[Path, Path]:
    """Make keys of a learner and a robot that know each other; return the folders of both."""
    learner, arm = (
        KeyFolder.create(folder / "keys-learner", "learner"),
        KeyFolder.create(folder / f"keys-{robot}", robot),
    )
    learner.add(robot, arm.own().public)
    arm.add("learner", learner.own().public)
    return learner.path, arm.path


def free_address(host: str) -> str:
    """An address of the link at a port of `host` that nobody listens to."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return f"tcp://{host}:{probe.getsockname()[1]}"


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


class LinkRun:
    """One robot's run folder with its link process, which may be killed and started again."""

    def __init__(
        self,
        folder: Path,
        robot: str,
        address: str = "",
        keys: Path | None = None,
        specification: Specification | None = None,
        **overrides: str,
    ) -> None:
        settings = {
            "robot.name": robot,
            "swap.trust": "none",
            "link.learner": f'"{address}"',
            "link.keys": f'"{keys or ""}"',
            **overrides,
        }
        self.options = RunOptions(
            settings=read_settings(CONFIG, settings),
            policy="none",
            episodes=1,
            speed=1.0,
            seed=0,
            recover=False,
            keep_minutes=1,
            run_name=f"test-{robot}-{monotonic_ns()}",
            boot_epoch=monotonic_ns() // 1_000_000,
            folder=str(folder / f"run-{robot}"),
        )
        spec = specification or facts().specification
        told = msgspec.structs.replace(facts(), specification=spec, specification_hash=spec.digest())
        self.folder = RunFolder.create(Path(self.options.folder), told).path
        write_durably(self.folder / "options.json", msgspec.json.encode(self.options))
        self.journal = folder / f"journal-{robot}"
        self.writer = Writer(Entrance(self.options.run_name, "policy-1"), robot, spec, self.options.boot_epoch)
        self.log = self.folder / "link.log"
        self.process: subprocess.Popen[bytes]
        self.start()

    def start(self, environment: dict[str, str] | None = None) -> None:
        """Start the link process and wait until it is ready."""
        arguments = [sys.executable, "-m", "poco.runtime.link", "--options", str(self.folder / "options.json")]
        with self.log.open("ab") as errors:
            self.process = subprocess.Popen(
                arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment
            )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n", self.log.read_text()

    def kill(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.communicate()

    def stop(self) -> str:
        """Ask it to end; return what it said."""
        self.process.send_signal(signal.SIGTERM)
        said, _ = self.process.communicate(timeout=PATIENCE_S)
        assert self.process.returncode == 0, self.log.read_text()
        return said.decode()

    @property
    def report(self) -> LinkReport:
        """What it says of itself once a second."""
        return msgspec.json.decode((self.folder / "link_status.json").read_bytes(), type=LinkReport)


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
