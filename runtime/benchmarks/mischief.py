"""What `poco-bench kills` does to a run while the arm moves: one class a kind, each leaving everything as it was."""

from __future__ import annotations

import os
import shutil
import signal as signals
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

from poco.errors import PocoError
from poco.parent import end_with_parent
from poco.runtime.benchmarks.hogs import hogs
from poco.runtime.benchmarks.live_run import LiveRun

STOP_S = 2.0
SUPERVISOR_STOP_S = 3.0
STARVE_S = 2.0
HOUR_NS = 3_600_000_000_000
STEP_PAUSE_S = 0.5
EATER = "import time\nheld = []\nwhile True:\n held.append(bytearray(b'1') * (4 << 20))\n time.sleep(0.002)"
EAT_S = 30.0
GROUP_BYTES = 2 << 30
"""Memory of a run and the eater together, less than what the eater wants."""

CLOCK = struct.Struct("3q")
"""The file of wall_clock.cpp: offset (ns), readings, waits."""

Started = tuple[Sequence[str], Mapping[str, str]]


class Mischief(Protocol):
    """One kind of event."""

    @property
    def name(self) -> str:
        """What it is called in figures and flags."""

    def ready(self, folder: Path) -> AbstractContextManager[Started]:
        """Make in `folder` and on this computer what it needs, and undo it at the end; raises PocoError where impossible.

        Gives the words that a run must be started behind and its additional environment.
        """

    def strike(self, run: LiveRun) -> None:
        """Do it once, in full."""


class _Plain:
    @contextmanager
    def ready(self, folder: Path) -> Iterator[Started]:
        """Let the run start as a user starts it."""
        yield (), {}


@contextmanager
def stopped(process: int) -> Iterator[None]:
    """Keep a process stopped."""
    os.kill(process, signals.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signals.SIGCONT)


class PolicyKill(_Plain):
    """The policy process is killed; the supervisor starts it again."""

    name = "policy-kill"

    def strike(self, run: LiveRun) -> None:
        """Kill it."""
        os.kill(run.processes()["policy"], signals.SIGKILL)


class PolicyStop(_Plain):
    """The policy process is stopped for STOP_S and goes on."""

    name = "policy-stop"

    def strike(self, run: LiveRun) -> None:
        """Stop it and let it go on."""
        with stopped(run.processes()["policy"]):
            time.sleep(STOP_S)


class PolicyStarve(_Plain):
    """The policy process gets only what two busy processes a core leave of them, for STARVE_S."""

    name = "policy-starve"

    def strike(self, run: LiveRun) -> None:
        """Give it the lowest class of all and let others be busy."""
        policy = run.processes()["policy"]
        try:
            with hogs(2 * len(os.sched_getaffinity(0))):
                for thread in Path(f"/proc/{policy}/task").iterdir():
                    os.sched_setscheduler(int(thread.name), os.SCHED_IDLE, os.sched_param(0))
                time.sleep(STARVE_S)
        finally:
            for thread in Path(f"/proc/{policy}/task").iterdir():
                os.sched_setscheduler(int(thread.name), os.SCHED_OTHER, os.sched_param(0))


class SupervisorStop(_Plain):
    """The supervisor is stopped for SUPERVISOR_STOP_S, longer than the servo does without, and goes on."""

    name = "supervisor-stop"

    def strike(self, run: LiveRun) -> None:
        """Stop it and let it go on."""
        with stopped(run.process.pid):
            time.sleep(SUPERVISOR_STOP_S)


class MemoryShortage:
    """Policy and supervisor share GROUP_BYTES with one that wants them all, until the kernel ends one of them.

    Servo and arm do not: the servo as `poco-runtime doctor` asks for, the arm as it stands for another computer.
    """

    name = "memory"
    apart: tuple[str, ...] = ("servo", "emulator")

    def __init__(self) -> None:
        self._group = self._own = Path()

    @contextmanager
    def ready(self, folder: Path) -> Iterator[Started]:
        """Make control groups for the run; raises PocoError where this user may not."""
        root, limit = Path("/sys/fs/cgroup"), "memory.max"
        if not (root / "cgroup.controllers").is_file():
            root, limit = root / "memory", "memory.limit_in_bytes"
        self._group, self._own = root / f"poco-bench-{os.getpid()}", root / f"poco-bench-{os.getpid()}-own"
        with ExitStack() as undo:
            try:
                for group in (self._group, self._own):
                    group.mkdir()
                    undo.callback(group.rmdir)
                (self._group / limit).write_text(str(GROUP_BYTES))
            except OSError as error:
                raise PocoError(
                    f"no control group for memory at {self._group} ({error.strerror}): run as root"
                ) from error
            yield self._inside(), {}

    def strike(self, run: LiveRun) -> None:
        """Eat until the kernel ends somebody."""
        processes = run.processes()
        for name in self.apart:
            (self._own / "cgroup.procs").write_text(str(processes[name]))
        self.eat()

    def take_in(self, process: int) -> None:
        """Count what a running process uses from now on."""
        (self._group / "cgroup.procs").write_text(str(process))

    def eat(self) -> int:
        """Eat until the kernel ends somebody and return the eater's exit code; raises PocoError if that takes EAT_S."""
        words = [*self._inside(), sys.executable, "-c", EATER]
        eater = subprocess.Popen(words, preexec_fn=partial(end_with_parent, signals.SIGKILL))
        try:
            return eater.wait(EAT_S)
        except subprocess.TimeoutExpired as error:
            raise PocoError(f"the memory did not run out within {EAT_S:g} s: stop other load") from error
        finally:
            eater.kill()
            eater.wait()

    def _inside(self) -> list[str]:
        return ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self._group / "cgroup.procs")]


class MemoryShortageOfAll(MemoryShortage):
    """Servo and arm share the memory too, against the doctor's advice."""

    name = "memory-of-all"
    apart = ()


class ClockStep:
    """The wall clock of all processes of the run jumps an hour ahead, two back and one ahead again."""

    name = "clock-step"

    def __init__(self) -> None:
        self._clock = Path()

    @contextmanager
    def ready(self, folder: Path) -> Iterator[Started]:
        """Compile the wall clock to preload; raises PocoError without a compiler."""
        library, source = folder / "wall_clock.so", Path(__file__).with_name("wall_clock.cpp")
        compiler = shutil.which("c++")
        if compiler is None:
            raise PocoError("there is no C++ compiler for a wall clock of its own: install g++")
        words = [compiler, "-O2", "-shared", "-fPIC", "-std=c++20", "-o", str(library), str(source)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PocoError(f"the wall clock does not compile ({done.stderr.strip().splitlines()[-1:]}): update g++")
        self._clock = folder / "wall_clock"
        self._clock.write_bytes(CLOCK.pack(0, 0, 0))
        yield (), {"LD_PRELOAD": str(library), "POCO_WALL_CLOCK": str(self._clock)}

    def strike(self, run: LiveRun) -> None:
        """Step it three times."""
        for offset_ns in (HOUR_NS, -HOUR_NS, 0):
            self.step(offset_ns)
            time.sleep(STEP_PAUSE_S)

    def step(self, offset_ns: int) -> None:
        """Let the run's wall clock show `offset_ns` more than the computer's."""
        with self._clock.open("r+b", buffering=0) as clock:
            clock.write(struct.pack("q", offset_ns))

    def uses(self) -> tuple[int, int]:
        """Return how often a process of the run read the wall clock, and how often one waited for a time of day."""
        _, reads, waits = CLOCK.unpack(self._clock.read_bytes())
        return reads, waits


KINDS: dict[str, type[Mischief]] = {
    kind.name: kind
    for kind in (PolicyKill, PolicyStop, PolicyStarve, SupervisorStop, MemoryShortage, MemoryShortageOfAll, ClockStep)
}
