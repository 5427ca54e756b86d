"""`python -m poco.runtime.demo_learn`: a simulated arm and a learner on this computer; the arm gets better while one looks on."""

from __future__ import annotations

import json
import shlex
import signal as signals
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import msgspec
from rich.console import Console

from poco.command_line import run_command
from poco.durable import write_durably
from poco.errors import PocoError, UsageError, guard
from poco.runtime.demo_learn import sides
from poco.runtime.demo_learn.live import View
from poco.runtime.demo_learn.records import AUDIT, FACTS, LEARNER, ROBOT, Audit, DemoFacts
from poco.runtime.demo_learn.report import print_summary, write_report
from poco.runtime.demo_learn.sides import INTERRUPTED_EXIT, ROBOT_NAME, Side
from poco.runtime.demo_learn.watch import Watch

DESCRIPTION = """A simulated arm and a learner, both on this computer: the arm gets better while it works.

It makes keys, starts poco-learner serve and poco-runtime, shows both in one view, ends them (arm first), has poco-journal audit
the journal, and draws demo_learn.png and demo_learn.html. Examples:
  python -m poco.runtime.demo_learn                            about a quarter of an hour
  python -m poco.runtime.demo_learn --fast                     the simulated arm does not wait for the clock: half the time
  python -m poco.runtime.demo_learn --minutes 3 --episodes 30

Exit code 0, also if success did not rise, which the page says; 4 if the audit found violations, that of the program that failed if
one did, 130 after Ctrl-C or SIGTERM, which draw the page too.
"""
LOOK_S = 0.25
START_LIMIT_S = 180.0
REAL_TIME_MINUTES, FAST_MINUTES = 14.0, 7.2
EPISODES_MAX = 100_000
AUDIT_EXIT = 4


@dataclass(frozen=True, slots=True)
class Options:
    """Command line of the demonstration."""

    start: Path = Path("artifacts/peg_in_hole_start")
    """What both sides begin with, as make demo-learn-start makes it: policy/ (artifact), run/ (actor, critic), demonstrations/."""
    recipe: Path = Path("configs/cpu/peg_in_hole_served.yaml")
    """Recipe of the learner."""
    fast: bool = False
    """The simulated arm goes on as soon as it is answered (lockstep), not once a millisecond."""
    minutes: float | None = None
    """How long the arm learns at most (minutes on the wall); default 14, with --fast 7.2. Starting and reporting come on top."""
    episodes: int = 400
    """How many episodes at most."""
    clearance_mm: float = 1.2
    """Gap between peg and hole on each side."""
    host: str = "127.0.0.1"
    """Loopback address of simulated arm and learner."""
    seed: int = 0
    """Seed of task, policy noise and learner."""
    robot_flags: str = "--swap.probation_episodes 3 --swap.probation_episodes_max 8"
    """Further flags for poco-runtime, in one word: --robot-flags="..."."""
    learner_flags: str = ""
    """Further flags for poco-learner serve, in one word."""
    out: Path | None = None
    """Folder of the demonstration (default: runs/demo-learn-<time>)."""


class Demo:
    """One demonstration from start to report; lives in the process that the user started."""

    def __init__(self, options: Options, console: Console) -> None:
        self.options, self.console = options, console
        self.started = datetime.now(UTC)
        self.path = (options.out or Path("runs") / f"demo-learn-{self.started:%Y%m%d-%H%M%S}").resolve()
        self.minutes = options.minutes or (FAST_MINUTES if options.fast else REAL_TIME_MINUTES)
        self.interrupted = False
        self.watch = Watch(self.path)
        self.view = View(self.watch, options.episodes, self.minutes, console)
        self._learner: Side | None = None
        self._robot: Side | None = None
        self._failure: PocoError | None = None

    def run(self) -> int:
        """Start both sides, watch, stop the arm, then the learner, audit, report; return the exit code.

        Raises PocoError if a side failed; the report is drawn first where the arm had begun.
        """
        began_s = time.monotonic()
        self._prepare()
        for number in (signals.SIGINT, signals.SIGTERM, signals.SIGHUP):
            if signals.getsignal(number) != signals.SIG_IGN:
                signals.signal(number, self._interrupt)
        self.view.start()
        try:
            ended = self._learn()
        finally:
            self._stop()
            self.view.close()
        facts = DemoFacts(
            command=sys.argv,
            recipe=str(self.options.recipe),
            started_utc=self.started.isoformat(timespec="seconds"),
            ended=ended,
            elapsed_s=time.monotonic() - began_s,
        )
        write_durably(self.path / FACTS, msgspec.json.format(msgspec.json.encode(facts)) + b"\n")
        return self._report()

    def _prepare(self) -> None:
        if (self.path / ROBOT).exists():
            raise UsageError(f"{self.path} holds a demonstration already: choose another --out")
        for name in ("policy", "run", "demonstrations"):
            if not (self.options.start / name).is_dir():
                raise UsageError(
                    f"--start {self.options.start} has no folder {name}: make one with make demo-learn-start"
                )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"--out {self.path} cannot be made ({error.strerror}): choose another folder") from error
        sides.make_keys(self.path)

    def _learn(self) -> str:
        """Watch until there is a reason to end, and return it in a word or two."""
        self.view.note("starting the learner")
        self._learner = Side("poco-learner", self._learner_words(), self.path / "learner.log")
        deadline_s = time.monotonic() + START_LIMIT_S
        while self.watch.learner is None:
            if ended := self._look(0.0, deadline_s):
                return ended
        self.view.note("starting the arm; the very first start compiles for about 20 s")
        self._robot = Side("poco-runtime", self._robot_words(self.watch.learner.address), self.path / "robot.log")
        began_s = time.monotonic()
        while not (ended := self._look(time.monotonic() - began_s)):
            if self.watch.outcomes:
                self.view.note("")
        return ended

    def _look(self, elapsed_s: float, deadline_s: float | None = None) -> str:
        """Look around once and return why to end, if so."""
        time.sleep(LOOK_S)
        try:
            self.watch.look()
        except PocoError as error:
            self._failure = error
            return "failed"
        self.view.show(elapsed_s)
        if self.interrupted:
            return "stopped by Ctrl-C"
        if self._learner is not None and not self._learner.running:
            self._failure = self._learner.error()
            return "the learner failed"
        if deadline_s is not None and time.monotonic() > deadline_s:
            self._failure = PocoError(
                f"the learner was not ready within {START_LIMIT_S:.0f} s: see {self.path / 'learner.log'}"
            )
            return "the learner failed"
        if self._robot is not None and not self._robot.running:
            if self._robot.process.returncode == 0:
                return f"{self.options.episodes} episodes"
            self._failure = self._robot.error()
            return "the arm failed"
        return f"after {self.minutes:g} min" if elapsed_s > self.minutes * 60.0 else ""

    def _learner_words(self) -> list[str]:
        options = self.options
        words = ["serve", "--artifact", str(options.start / "policy"), "--config", str(options.recipe)]
        words += ["--start", str(options.start / "run"), "--data", str(options.start / "demonstrations")]
        words += ["--out", str(self.path / LEARNER), "--bind", f"tcp://{options.host}:0"]
        words += ["--keys", str(self.path / "keys" / "learner"), "--seed", str(options.seed)]
        words += ["--signing-key", str(self.path / "trust" / "learner.key")]
        return [*words, *shlex.split(options.learner_flags)]

    def _robot_words(self, address: str) -> list[str]:
        options = self.options
        words = ["--robot", "sim", "--robot.name", ROBOT_NAME, "--robot.host", options.host]
        words += ["--policy", str(options.start / "policy"), "--episodes", str(options.episodes)]
        words += ["--out", str(self.path / ROBOT), "--seed", str(options.seed), "--link", address]
        words += ["--keys", str(self.path / "keys" / ROBOT_NAME)]
        words += ["--swap.trust", json.dumps(str(self.path / "trust" / "robot"))]
        words += ["--emulator.clearance_mm", str(options.clearance_mm)]
        words += ["--emulator.pacing", "lockstep" if options.fast else "realtime"]
        return [*words, *shlex.split(options.robot_flags)]

    def _stop(self) -> None:
        """End the arm, which brakes, sends what is left and draws its own report, then the learner, which keeps a checkpoint."""
        if self._robot is not None:
            self.view.note("stopping: the arm brakes first and draws its report")
            self._robot.stop()
        if self._learner is not None:
            self.view.note("stopping the learner, which keeps a checkpoint")
            self._learner.stop()

    def _report(self) -> int:
        journal = self.path / f"journal-{ROBOT_NAME}"
        if self._robot is None or not journal.is_dir():
            if self._failure is not None:
                raise self._failure
            return INTERRUPTED_EXIT
        clean, said = sides.audit(journal, self.path / LEARNER / "inbox")
        write_durably(
            self.path / AUDIT, msgspec.json.format(msgspec.json.encode(Audit(clean=clean, said=said))) + b"\n"
        )
        print_summary(write_report(self.path), self.path, self.console)
        if self._failure is not None:
            raise self._failure
        if self.interrupted:
            return INTERRUPTED_EXIT
        return 0 if clean else AUDIT_EXIT

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.interrupted = True


def demo_learn(options: Options) -> None:
    """Run the command line; leaves with its exit code. Raises UsageError for a wrong value."""
    if options.minutes is not None and not 0.05 <= options.minutes <= 10_000.0:
        raise UsageError(f"--minutes is {options.minutes:g}, must lie in 0.05 to 10000: 14 is a good beginning")
    if not 1 <= options.episodes <= EPISODES_MAX:
        raise UsageError(f"--episodes is {options.episodes}, must lie in 1 to {EPISODES_MAX}")
    if options.seed < 0:
        raise UsageError(f"--seed is {options.seed}, must be 0 or more")
    sys.exit(Demo(options, Console()).run())


if __name__ == "__main__":
    guard(lambda: demo_learn(run_command(Options, "python -m poco.runtime.demo_learn", DESCRIPTION)))
