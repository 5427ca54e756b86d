"""Cameras that go bad beside a moving arm, with all processes real: it holds within the bound and goes on by itself."""

from __future__ import annotations

import ctypes.util
import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pytest

from poco.errors import PocoError
from poco.hw.task_messages import CameraFault
from poco.hw.task_signals import EmulatorSignals
from poco.runtime.run_events import CameraFresh, CameraStale
from poco.runtime.run_folder import EpisodeEnded, Event, EventReader, RunFolder
from poco.settings import read_settings
from poco.shm import RunMemory
from poco.trouble import Mode
from programs import PATIENCE_S, ROOT, Program, StartProgram

SEEING = ROOT / "artifacts" / "peg_in_hole_seen"
CAMERA = read_settings(ROOT / "configs" / "fr3_peg_in_hole.yaml", {}).cameras[0]
CAMERAS = ("near", "wrist")
SPOILED_TICKS = 1500
STOPPED_S = 1.0
PERIOD_TICKS = 50
BRAKE_TICKS = 200
QUICK, LONG = 4, 50

Kind = Literal["frozen", "slow", "dropped", "swapped", "killed", "stopped"]
KINDS: tuple[Kind, ...] = get_args(Kind)

pytestmark = pytest.mark.skipif(
    ctypes.util.find_library("EGL") is None and ctypes.util.find_library("OSMesa") is None,
    reason="neither libegl1 nor libosmesa6 is installed",
)


@dataclass(frozen=True)
class Injected:
    """One fault that a camera suffered from robot tick `tick` on, when it was noticed and when trust came back."""

    kind: Kind
    camera: str
    tick: int
    stale_tick: int
    fresh_tick: int

    @property
    def bound_ticks(self) -> int:
        """How long after its onset the arm must be at rest: noticed, looked at, braked."""
        frames = CAMERA.repeats_max + 1 if self.kind == "frozen" else 1
        return round(frames * 1000 * CAMERA.age_max_s) + PERIOD_TICKS + BRAKE_TICKS


class SeeingRun:
    """A run in real time whose cameras are made to suffer."""

    def __init__(self, program: Program, folder: Path, host: str) -> None:
        self.program = program
        program.until(
            lambda: (folder / "events.jsonl").is_file() and "episode_start" in (folder / "events.jsonl").read_text()
        )
        self._folder = RunFolder.open(folder)
        self._reader, self._events = EventReader(self._folder), list[Event]()
        self._memory = RunMemory.attach(json.loads((folder / "options.json").read_bytes())["run_name"])
        self._signals = EmulatorSignals(host)

    def events(self) -> list[Event]:
        """All events so far."""
        self._events += self._reader.new()
        return self._events

    def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert self.program.process.poll() is None, self.program.err + self.program.out
            assert time.monotonic() < deadline_s, self.program.out
            time.sleep(0.01)

    def process_of(self, camera: str) -> int:
        """The process of `camera`."""
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_text().split("\0")
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ProcessLookupError):
                continue
            if parent == self.program.process.pid and words[-2:-1] == [camera] and "--camera" in words:
                return int(entry.name)
        raise AssertionError(f"no process of {camera}")

    def _trusted(self) -> bool:
        """Whether no camera is in trouble and the policy's motion is under way in an episode."""
        troubled = set()
        ended = False
        for event in self.events():
            if isinstance(event, CameraStale):
                troubled.add(event.camera)
            elif isinstance(event, CameraFresh):
                troubled.discard(event.camera)
            elif event.__struct_config__.tag in ("episode_start", "episode_end"):
                ended = isinstance(event, EpisodeEnded)
        state = self._memory.read_state()
        return not troubled and not ended and state is not None and int(state["mode"]) == Mode.FOLLOWING

    def inject(self, kind: Kind, camera: str) -> Injected | None:
        """Let `camera` suffer in the middle of an episode; None if the episode ended by itself meanwhile."""
        self.wait(self._trusted)
        tick = self._act(kind, camera)

        def told(which: type[CameraStale] | type[CameraFresh], after: int) -> list[int]:
            return [
                event.tick
                for event in self.events()
                if isinstance(event, which) and event.camera == camera and event.tick >= after
            ]

        self.wait(lambda: bool(told(CameraStale, tick)))
        stale = told(CameraStale, tick)[0]
        self.wait(
            lambda: bool(told(CameraFresh, max(stale, tick + (SPOILED_TICKS if kind in get_args(CameraFault) else 0))))
        )
        injected = Injected(kind, camera, tick, stale, told(CameraFresh, stale)[0])
        ends = [event.tick for event in self.events() if isinstance(event, EpisodeEnded)]
        return None if any(tick <= end <= tick + injected.bound_ticks for end in ends) else injected

    def _act(self, kind: Kind, camera: str) -> int:
        if kind == "killed":
            tick = self._signals.status().tick
            os.kill(self.process_of(camera), signal.SIGKILL)
            return tick
        if kind == "stopped":
            process, tick = self.process_of(camera), self._signals.status().tick
            os.kill(process, signal.SIGSTOP)
            time.sleep(STOPPED_S)
            os.kill(process, signal.SIGCONT)
            return tick
        return self._signals.spoil(camera, kind, SPOILED_TICKS)

    def end(self) -> np.ndarray[tuple[int], np.dtype[np.void]]:
        """Stop the run, once the arm has gone on for a moment, and return its ticks."""
        self.wait(self._trusted)
        gone_on = self._signals.status().tick + PERIOD_TICKS
        self.wait(lambda: self._signals.status().tick > gone_on)
        self._signals.close()
        self.program.end()
        assert self.program.process.returncode == 130
        return self._folder.ticks()


def prove(start: StartProgram, folder: Path, host: str, count: int) -> None:
    """Make cameras suffer `count` times, every kind alike often, and print how long the arm took to rest at most."""
    flags = ["--robot", "sim", "--robot.host", host, "--policy", SEEING, "--out", folder, "--episodes", "100000"]
    run = SeeingRun(start("poco-runtime", *flags, "--keep-minutes", "60"), folder, host)
    injections: list[Injected] = []
    while len(injections) < count:
        kind, camera = KINDS[len(injections) % len(KINDS)], CAMERAS[len(injections) // len(KINDS) % len(CAMERAS)]
        if (injected := run.inject(kind, camera)) is not None:
            injections.append(injected)
    ticks = run.end()
    numbers, moving = ticks["state"]["tick"], np.any(ticks["command"]["dq"] != 0.0, axis=1)
    slowest: dict[str, int] = {}
    stopped = 0
    for injected in injections:
        rows = slice(*np.searchsorted(numbers, (injected.tick, injected.fresh_tick)))
        under_way = np.flatnonzero(moving[rows])
        took = int(numbers[rows][under_way[-1]]) - injected.tick if len(under_way) else 0
        assert took <= injected.bound_ticks, injected
        assert moving[rows.stop :].any(), "it never went on"
        stopped += len(under_way) > 0
        slowest[injected.kind] = max(slowest.get(injected.kind, 0), took)
    assert stopped >= 0.7 * count
    print(f"{count} injections, ticks from onset to rest at most: {slowest}")


def test_the_arm_holds_in_time(start: StartProgram, tmp_path: Path) -> None:
    """Frozen, slow, dropped and swapped frames, from the emulator's scene through every process."""
    prove(start, tmp_path / "run", "127.0.2.55", QUICK)


def test_only_the_emulator_can_be_asked(start: StartProgram, tmp_path: Path) -> None:
    """A fault that is none is refused."""
    program = start("poco-emulator", "--host", "127.0.2.57")
    program.until(lambda: "ready" in program.out)
    with EmulatorSignals("127.0.2.57") as signals, pytest.raises(PocoError, match="not a request"):
        signals.spoil("near", "upside_down", 10)  # type: ignore[arg-type]


@pytest.mark.proof
def test_the_arm_holds_in_time_at_length(start: StartProgram, tmp_path: Path) -> None:
    """The same fifty times, with killed and stopped camera processes."""
    prove(start, tmp_path / "run", "127.0.2.56", LONG)
