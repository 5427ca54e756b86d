"""The policy process is watched by its signs of life: real processes that beat, stand still, end or never begin."""

from __future__ import annotations

import io
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from poco.errors import ArtifactError, PocoError
from poco.runtime.benchmarks.mischief import stopped
from poco.runtime.child import Child
from poco.runtime.policy_watch import MAX_RESTARTS, PAUSE_S, STALL_S, PolicyWatch
from poco.runtime.run_folder import EpisodeEnded, PolicyRestart, PolicyStall, RunFolder
from poco.runtime.status import Status
from poco.shm import RunMemory
from synthetic_run import facts

LIVELY = """
import sys, time
from poco.shm import RunMemory
memory = RunMemory.attach(sys.argv[1])
while True:
    memory.policy_beat()
    time.sleep(0.02)
"""
ANNOUNCING = """
import sys, time
from poco.shm import RunMemory
memory = RunMemory.attach(sys.argv[1])
for silence_s, announced_s in ((1.5, 60.0), (600.0, 1.0)):
    for _ in range(25):
        memory.policy_beat()
        time.sleep(0.02)
    memory.policy_beat(announced_s)
    time.sleep(silence_s)
"""
BUSY_TO_THE_END = """
import sys
from poco.shm import RunMemory
RunMemory.attach(sys.argv[1]).policy_beat(600.0)
sys.exit(1)
"""
MUTE = "import time; time.sleep(600)"
SHORT_LIVED = "raise SystemExit(1)"
SPEAKING = f"import sys; sys.exit(print('error: the graph is torn', file=sys.stderr) or {ArtifactError.exit_code})"

FOREVER_S = 600.0
LOOK_S = 0.02
PATIENCE_S = 60.0


class Stage:
    """A run without servo and arm, whose policy processes only pretend to be some."""

    def __init__(self, folder: Path, memory: RunMemory) -> None:
        self.folder, self.memory = RunFolder.create(folder / "run", facts()), memory
        self.children: list[Child] = []
        self.arguments: list[tuple[str, ...]] = []
        self.pauses_s: list[float] = []
        self._program = folder / "pretended_policy.py"

    def watch(self, program: str, silence_s: float, start_limit_s: float = FOREVER_S) -> PolicyWatch:
        """Start `program` and watch it."""
        self.program(program)
        status = Status(self.folder, 1, Console(file=io.StringIO()))
        return PolicyWatch(self._start, self.folder, self.memory, status, silence_s, start_limit_s)

    def program(self, program: str) -> None:
        """Let processes that start from now on be `program`."""
        self._program.write_text(program)

    def _start(self, name: str, *arguments: str) -> Child:
        self.arguments.append(arguments)
        self.children.append(Child(name, self._program.stem, [self.memory.name, *arguments], self.folder.path))
        return self.children[-1]

    def alive(self) -> bool:
        """Whether a policy process has given a sign of life so far."""
        return int(self.memory.control()["policy_ns"]) > 0

    def stalls_s(self) -> list[float]:
        """Recorded stalls of the policy."""
        return [event.silent_s for event in self.folder.events() if isinstance(event, PolicyStall)]

    def restarts(self) -> list[PolicyRestart]:
        """Recorded new starts."""
        return [event for event in self.folder.events() if isinstance(event, PolicyRestart)]


def look_until(watch: PolicyWatch, condition: Callable[[], bool] = lambda: False) -> str:
    """Look as the supervisor does until `condition` holds or the process counts as lost; return how it was lost."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not (reason := watch.look()) and not condition():
        assert time.monotonic() < deadline_s
        time.sleep(LOOK_S)
    return reason


def in_s(seconds: float) -> Callable[[], bool]:
    """A condition that holds from so long on."""
    until_s = time.monotonic() + seconds
    return lambda: time.monotonic() > until_s


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """One stage; its processes end with the test."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    memory = RunMemory.create(f"test-watch-{os.getpid()}")
    stage = Stage(tmp_path, memory)
    yield stage
    for child in stage.children:
        child.process.kill()
        child.process.wait()
    memory.unlink()


def test_a_stall_is_told_once_and_forgiven(stage: Stage) -> None:
    """A process that stood still for a while goes on; the event says for how long it was silent."""
    watch = stage.watch(LIVELY, FOREVER_S)
    watch.go()
    assert look_until(watch, stage.alive) == ""
    with stopped(watch.child.process.pid):
        assert look_until(watch, in_s(1.5 * STALL_S)) == ""
    assert look_until(watch, lambda: bool(stage.stalls_s())) == ""
    assert look_until(watch, in_s(0.2)) == ""
    assert len(stage.stalls_s()) == 1
    assert stage.stalls_s()[0] > STALL_S
    assert stage.restarts() == []


def test_a_silence_too_long_is_the_end(stage: Stage) -> None:
    """A process that stays silent is killed, and its successor is told which episode to begin with."""
    watch = stage.watch(LIVELY, 0.8 * STALL_S)
    watch.go()
    assert look_until(watch, stage.alive) == ""
    first = watch.child
    os.kill(first.process.pid, signal.SIGSTOP)
    reason = look_until(watch)
    assert "no sign of life" in reason
    assert first.process.returncode == -signal.SIGKILL
    stage.folder.append_event(EpisodeEnded(tick=1, episode=0, outcome="success", ticks=1, steps=1))
    watch.restart(reason, stage.pauses_s.append)
    assert watch.child is not first
    assert stage.arguments == [(), ("--first-episode", "1")]
    assert [(event.start, event.reason) for event in stage.restarts()] == [(2, reason)]
    assert look_until(watch, in_s(0.2)) == ""


def test_a_silence_that_was_announced_is_waited_for(stage: Stage) -> None:
    """One that says beforehand for how long it will be busy is no stall and not lost, until that and the patience are over."""
    watch = stage.watch(ANNOUNCING, 1.2)
    watch.go()
    assert look_until(watch, stage.alive) == ""
    began_s = time.monotonic()
    assert "no sign of life" in look_until(watch)
    assert time.monotonic() - began_s > 1.5 + 1.0 + 1.2
    assert stage.stalls_s() == []


def test_what_was_announced_is_forgotten_with_who_did(stage: Stage) -> None:
    """After one that died while it was excused, its successor has to show that it lives within the patience of a start."""
    watch = stage.watch(BUSY_TO_THE_END, 0.1, start_limit_s=1.0)
    reason = look_until(watch)
    assert "exit code 1" in reason
    assert stage.alive()
    stage.program(MUTE)
    watch.restart(reason, stage.pauses_s.append)
    assert not stage.alive()
    assert "no sign of life" in look_until(watch)


def test_starting_has_its_own_patience(stage: Stage) -> None:
    """Before its first sign of life a process has a limit of its own, however impatient the run is with one that works."""
    watch = stage.watch(MUTE, 0.1, start_limit_s=1.0)
    watch.go()
    assert look_until(watch, in_s(0.5)) == ""
    assert "no sign of life" in look_until(watch)


def test_who_stood_still_blames_nobody(stage: Stage) -> None:
    """After a stall of the watch itself a policy that went on is no stall, and the silence of one that did not is counted anew."""
    watch = stage.watch(LIVELY, 0.8 * STALL_S)
    watch.go()
    assert look_until(watch, stage.alive) == ""
    time.sleep(1.5 * STALL_S)
    assert look_until(watch, in_s(0.2)) == ""
    assert stage.stalls_s() == []
    with stopped(watch.child.process.pid):
        time.sleep(1.5 * STALL_S)
        assert watch.look() == ""
    assert look_until(watch, in_s(0.2)) == ""
    assert watch.child.running


def test_restarts_in_vain_come_to_an_end(stage: Stage) -> None:
    """Each new start without an episode waits twice as long; after MAX_RESTARTS there is none, unless an episode ended between."""
    watch = stage.watch(SHORT_LIVED, FOREVER_S)
    for _ in range(MAX_RESTARTS):
        watch.restart(look_until(watch), stage.pauses_s.append)
    stage.folder.append_event(EpisodeEnded(tick=1, episode=0, outcome="success", ticks=1, steps=1))
    for _ in range(MAX_RESTARTS):
        watch.restart(look_until(watch), stage.pauses_s.append)
    with pytest.raises(PocoError, match="did not help: policy ended with exit code 1"):
        watch.restart(look_until(watch), stage.pauses_s.append)
    assert stage.pauses_s == [PAUSE_S * 2.0**n for n in (1, 2, 3, 1, 2, 3)]
    assert [arguments[1:] for arguments in stage.arguments] == [()] + [("0",)] * MAX_RESTARTS + [("1",)] * MAX_RESTARTS


def test_a_policy_that_says_why_is_believed(stage: Stage) -> None:
    """A process that ended with a sentence of its own kind of error is not started again; the run ends with that error."""
    watch = stage.watch(SPEAKING, FOREVER_S)
    with pytest.raises(PocoError, match=r"^the graph is torn$") as caught:
        watch.restart(look_until(watch), stage.pauses_s.append)
    assert caught.value.exit_code == ArtifactError.exit_code
    assert stage.restarts() == []
