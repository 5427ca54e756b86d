"""A robot's side of the link without an arm: run folder, journal and link process, which may be killed and started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import msgspec

from poco.clock import monotonic_ns
from poco.durable import write_durably
from poco.link.keys import LEARNER, KeyFolder
from poco.runtime.link import LinkReport
from poco.runtime.run_folder import RunFacts, RunFolder, host_facts
from poco.runtime.run_options import RunOptions
from poco.settings import read_settings
from poco.specification import Specification

CONFIG = Path(__file__).parents[1] / "configs" / "fr3_peg_in_hole.yaml"
END_LIMIT_S = 60.0


class ArmlessRobot:
    """One robot; whatever stands for its policy connects to the link process of `options.run_name`."""

    def __init__(
        self,
        folder: Path,
        robot: str,
        address: str,
        keys: Path | None,
        specification: Specification,
        policy: str = "none",
        **overrides: str,
    ) -> None:
        """Make run-ROBOT and journal-ROBOT in `folder` and start the link process; `overrides` are keys of the settings.

        `policy` is the artifact that the gate, where there is one, takes robot and specification from.
        """
        settings = {
            "robot.name": robot,
            "swap.trust": "none",
            "link.learner": f'"{address}"',
            "link.keys": f'"{keys or ""}"',
            **overrides,
        }
        self.options = RunOptions(
            settings=read_settings(CONFIG, settings),
            policy=policy,
            episodes=1,
            speed=1.0,
            seed=0,
            recover=False,
            keep_minutes=1,
            run_name=f"{robot}-{monotonic_ns()}",
            boot_epoch=monotonic_ns() // 1_000_000,
            folder=str(folder / f"run-{robot}"),
        )
        facts = RunFacts(
            robot="sim",
            host="127.0.0.1",
            artifact="none",
            generation=1,
            specification=specification,
            specification_hash=specification.digest(),
            speed=1.0,
            pacing="realtime",
            started_utc="2026-01-01T00:00:00Z",
            computer=host_facts(),
        )
        self.robot = robot
        self.folder = RunFolder.create(Path(self.options.folder), facts).path
        self.options_file = self.folder / "options.json"
        write_durably(self.options_file, msgspec.json.encode(self.options))
        self.journal = folder / f"journal-{robot}"
        self.log = self.folder / "link.log"
        self.process: subprocess.Popen[bytes]
        self.start()

    def start(self, environment: dict[str, str] | None = None) -> None:
        """Start the link process and wait until it is ready."""
        arguments = [sys.executable, "-m", "poco.runtime.link", "--options", str(self.options_file)]
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
        said, _ = self.process.communicate(timeout=END_LIMIT_S)
        assert self.process.returncode == 0, self.log.read_text()
        return said.decode()

    @property
    def report(self) -> LinkReport:
        """What it says of itself once a second."""
        return msgspec.json.decode((self.folder / "link_status.json").read_bytes(), type=LinkReport)


def make_keys(folder: Path, *robots: str) -> tuple[Path, list[Path]]:
    """Make keys of a learner and of robots that know it, and it them; return the learner's folder and those of the robots."""
    learner = KeyFolder.create(folder / "keys-learner", LEARNER)
    arms = [KeyFolder.create(folder / f"keys-{robot}", robot) for robot in robots]
    for robot, arm in zip(robots, arms, strict=True):
        learner.add(robot, arm.own().public)
        arm.add(LEARNER, learner.own().public)
    return learner.path, [arm.path for arm in arms]


def free_address(host: str) -> str:
    """Return an address of the link at a port of `host` that nobody listens to."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return f"tcp://{host}:{probe.getsockname()[1]}"


def processor_s(process: int) -> float:
    """Return the processor time (s) that a running process has used, all its threads together."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
