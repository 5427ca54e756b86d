"""`python -m poco.runtime.soak`: run a task for minutes or hours and say whether anything grew, slowed down or stopped."""

from __future__ import annotations

import os
import signal as signals
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import msgspec
from rich.console import Console

from poco.command_line import run_command
from poco.durable import write_durably
from poco.errors import PocoError, UsageError, guard
from poco.records import TICK
from poco.runtime.run_folder import (
    CHUNKS,
    OLD_TICKS,
    TICKS,
    EpisodeEnded,
    EventReader,
    Fault,
    Hold,
    HostFacts,
    Reflex,
    RunFolder,
    host_facts,
)
from poco.runtime.run_options import RunOptions
from poco.runtime.soak.checks import Check, check
from poco.runtime.soak.figures import SoakFigures, Watched, measure
from poco.runtime.soak.picture import draw
from poco.runtime.soak.watch import Sample, look

DESCRIPTION = """Run the task through the whole real path on the emulated arm and watch it from outside.

It starts poco-runtime, samples memory, handles and threads of all its processes, stops it as Ctrl-C does and writes soak.json
and soak.png. Exit code 0 if every check passed, 1 if one failed, 130 if stopped by Ctrl-C or SIGTERM. Examples:
  python -m poco.runtime.soak                                        30 minutes with the scripted operator
  python -m poco.runtime.soak --minutes 600 --host 127.0.0.5         a night, beside another emulated arm
  python -m poco.runtime.soak --policy artifacts/peg_in_hole --reflexes-per-100 1
"""
SAMPLES, REPORT, PICTURE, LOG = "samples.jsonl", "soak.json", "soak.png", "runtime.log"
JOURNAL = "journal"
"""Folder of the soak's own journal, so that another run beside it keeps the one of the robot."""

SAMPLE_S = 5.0
POLL_S = 0.1
TELL_S = 60.0
EPISODES_PER_MIN = 40
"""More than there ever are, so that a run whose watcher was killed still ends."""

EPISODES_MAX = 100_000
MINUTES_MAX = EPISODES_MAX / EPISODES_PER_MIN
STOPPED = 130
TOLD = {EpisodeEnded: "episodes", Reflex: "reflexes", Fault: "faults", Hold: "holds"}
WRITTEN_IN_MOTION = (".jsonl", ".safetensors", ".log")


@dataclass(frozen=True, slots=True)
class Options:
    """Command line of a soak."""

    minutes: float = 30.0
    """How long to run (wall minutes, from the first sample on). A minute keeps 46 MB, at most 20 minutes are kept."""
    policy: str = "operator"
    """Artifact folder, or operator."""
    host: str = "127.0.0.1"
    """Loopback address of the emulated arm."""
    reflexes_per_100: float = 0.0
    """How many reflexes per 100 episodes are allowed."""
    seed: int = 0
    """Seed of policy noise and task."""
    out: Path | None = None
    """Folder of the run and of the soak's own files (default: runs/soak-<time>)."""


class SoakReport(msgspec.Struct, frozen=True, kw_only=True):
    """Content of soak.json."""

    command: list[str]
    policy: str
    asked_min: float
    disk_mb_h: float
    figures: SoakFigures
    checks: list[Check]
    load_average: float
    computer: HostFacts


class Soak:
    """One soak from start to report; lives in the process that the user started."""

    def __init__(self, options: Options, console: Console) -> None:
        started = datetime.now(UTC)
        self.options, self.console = options, console
        self.path = options.out or Path("runs") / f"soak-{started:%Y%m%d-%H%M%S}"
        self.interrupted = False

    def run(self) -> int:
        """Run, watch, stop, report; return the exit code. Raises PocoError if the run did not get as far as moving."""
        for number in (signals.SIGINT, signals.SIGTERM):
            signals.signal(number, self._interrupt)
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / LOG).open("wb") as log:
            run = subprocess.Popen(self._command(), stdout=log, stderr=log, start_new_session=True)
        try:
            self._watch(run)
        finally:
            asked = run.poll() is None
            if asked:
                self.console.print("stopping: the arm brakes first")
                run.send_signal(signals.SIGTERM)
            code = run.wait()
        passed = self._report("" if asked and code == STOPPED else self._last_words(code))
        return STOPPED if self.interrupted else int(not passed)

    def _command(self) -> list[str]:
        options = self.options
        episodes = min(EPISODES_MAX, max(10, round(options.minutes * EPISODES_PER_MIN)))
        words = [
            "--robot",
            "sim",
            "--robot.host",
            options.host,
            "--policy",
            options.policy,
            "--seed",
            str(options.seed),
            "--journal.folder",
            str(self.path / JOURNAL),
        ]
        program = str(Path(sys.executable).with_name("poco-runtime"))
        return [program, *words, "--episodes", str(episodes), "--out", str(self.path)]

    def _watch(self, run: subprocess.Popen[bytes]) -> None:
        """Sample until the time is over, Ctrl-C is pressed or the run ends by itself; the time begins with the first chunk."""
        while not (self.path / CHUNKS).exists():
            if run.poll() is not None or self.interrupted:
                return
            time.sleep(POLL_S)
        name = msgspec.json.decode((self.path / "options.json").read_bytes(), type=RunOptions).run_name
        progress = Progress(self.path, self.options.minutes, self.console)
        started_s = next_s = time.monotonic()
        while run.poll() is None and not self.interrupted:
            elapsed_s = time.monotonic() - started_s
            with (self.path / SAMPLES).open("ab") as stream:
                stream.write(msgspec.json.encode(look(run.pid, name, elapsed_s)) + b"\n")
            progress.tell(elapsed_s)
            if elapsed_s >= self.options.minutes * 60.0:
                return
            next_s += SAMPLE_S
            while time.monotonic() < next_s and not self.interrupted:
                time.sleep(POLL_S)

    def _report(self, ended: str) -> bool:
        """Write soak.json and soak.png of what was seen, print the checks and tell whether all passed."""
        samples = read_samples(self.path / SAMPLES)
        if not samples:
            raise PocoError(f"nothing was seen of the run: {ended or 'it was stopped before it moved'}")
        folder = RunFolder.open(self.path)
        watched = Watched(samples, folder.minutes(), folder.chunks(), folder.events())
        figures = measure(watched)
        checks = check(figures, self.options.reflexes_per_100, ended)
        report = SoakReport(
            command=sys.argv,
            policy=self.options.policy,
            asked_min=self.options.minutes,
            disk_mb_h=disk_mb(self.path, watched) / max(figures.watched_min / 60.0, 1e-3),
            figures=figures,
            checks=checks,
            load_average=os.getloadavg()[0],
            computer=host_facts(),
        )
        write_durably(self.path / REPORT, msgspec.json.format(msgspec.json.encode(report)) + b"\n")
        draw(watched, figures, checks, subtitle(report), self.path / PICTURE)
        for item in checks:
            word = {True: "passed", False: "FAILED", None: "not judged"}[item.passed]
            self.console.print(f"{item.name:9} {word:10} {item.said}", highlight=False, soft_wrap=True)
        for name in (REPORT, PICTURE):
            self.console.print(f"  {self.path / name}", highlight=False, soft_wrap=True)
        return all(item.passed is not False for item in checks)

    def _last_words(self, code: int) -> str:
        words = (self.path / LOG).read_text(errors="replace").strip().splitlines()
        return f"the run ended by itself with exit code {code}: {words[-1] if words else 'it said nothing'}"

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.interrupted = True


class Progress:
    """Tells every minute how a run fares."""

    def __init__(self, path: Path, minutes: float, console: Console) -> None:
        self._events = EventReader(RunFolder.open(path))
        self._counts: Counter[str] = Counter()
        self._minutes, self._console = minutes, console
        self._next_s = 0.0

    def tell(self, elapsed_s: float) -> None:
        """Print a line if it is time."""
        if elapsed_s < self._next_s:
            return
        self._next_s = elapsed_s + TELL_S
        self._counts.update(type(event).__name__ for event in self._events.new())
        said = ", ".join(f"{self._counts[kind.__name__]} {word}" for kind, word in TOLD.items())
        self._console.print(f"{elapsed_s / 60.0:.0f} of {self._minutes:g} min: {said}", highlight=False)


def read_samples(path: Path) -> list[Sample]:
    """Return the samples in `path`, none if there is no such file."""
    lines = path.read_bytes().splitlines() if path.is_file() else []
    return [msgspec.json.decode(line, type=Sample) for line in lines]


def disk_mb(path: Path, watched: Watched) -> float:
    """Return how much the run has written (MB), ticks that are no longer kept included."""
    ticks = sum(minute.ticks for minute in watched.minutes) * TICK.itemsize
    others = [file for file in path.rglob("*") if file.is_file() and file.name not in (TICKS, OLD_TICKS)]
    return (ticks + sum(file.stat().st_size for file in others if file.suffix in WRITTEN_IN_MOTION)) / 1e6


def subtitle(report: SoakReport) -> str:
    """Return in one line what ran on what."""
    computer = report.computer
    return (
        f"{Path(report.policy).name}, {report.disk_mb_h:.0f} MB written an hour; {computer.cores} x {computer.cpu}, "
        f"kernel {computer.kernel}, load {report.load_average:.1f} at the end"
    )


def soak(options: Options) -> None:
    """Run the command line; leaves with its exit code. Raises UsageError for a wrong value."""
    if not 0.05 <= options.minutes <= MINUTES_MAX:
        raise UsageError(
            f"--minutes is {options.minutes:g}, must lie in 0.05 to {MINUTES_MAX:g}: 30 is a good beginning"
        )
    if not 0.0 <= options.reflexes_per_100 <= 100.0:
        raise UsageError(
            f"--reflexes-per-100 is {options.reflexes_per_100:g}, must lie in 0 to 100: 1 is usual for a policy"
        )
    sys.exit(Soak(options, Console()).run())


if __name__ == "__main__":
    guard(lambda: soak(run_command(Options, "python -m poco.runtime.soak", DESCRIPTION)))
