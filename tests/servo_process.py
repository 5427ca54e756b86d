"""The real servo process on an emulated arm, with the test in the places of supervisor, policy and operator."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from poco.artifact import read_artifact
from poco.limits import PLANNING_MARGINS, fr3_limits
from poco.motion import plan_path, warm_up
from poco.runtime.run_options import HandsOptions, RunOptions
from poco.settings import read_settings
from poco.shm import RunMemory
from poco.trouble import TROUBLES, Mode, Request
from programs import ARTIFACT, ROOT

Floats = npt.NDArray[np.float64]
Records = npt.NDArray[np.void]

ATTACH_DELAY_TICKS = 60
PATIENCE_S = 120.0
HOLD_TIMEOUT_S = "3600"
SWING_RAD = np.array([0.12, 0.0, 0.0, 0.0, 0.1, 0.0, 0.2])


class ArmStopped(AssertionError):
    """The arm stopped by itself where it was expected to be held or to move on."""


class ServoProcess:
    """One run of `python -m poco.runtime.servo` on an arm that is there; keeps its ticks and everything it prints."""

    def __init__(
        self, host: str, folder: Path, *, recover: bool = False, guided: bool = False, **overrides: str
    ) -> None:
        """Start it for the arm at `host`; `overrides` are settings such as robot__collision_force_n.

        An arm in lockstep may be held for long while this process waits for its turn.
        """
        folder.mkdir(parents=True, exist_ok=True)
        keys = {name.replace("__", "."): value for name, value in overrides.items()}
        settings = read_settings(
            ROOT / "configs" / "fr3_peg_in_hole.yaml",
            {"robot.kind": "franka", "robot.host": host, "servo.hold_timeout_s": HOLD_TIMEOUT_S, **keys},
        )
        self.options = RunOptions(
            settings=settings,
            policy=str(ARTIFACT),
            episodes=1,
            speed=1.0,
            seed=0,
            recover=recover,
            keep_minutes=1,
            run_name=f"test-{host}-{os.getpid()}-{time.monotonic_ns()}",
            boot_epoch=1,
            folder=str(folder),
            hands=HandsOptions(device="guiding") if guided else None,
        )
        self.memory = RunMemory.create(self.options.run_name)
        self.memory.beat()
        self.specification = read_artifact(ARTIFACT).specification
        self.limits = fr3_limits(PLANNING_MARGINS, settings.guards.guards(), self.specification.tip)
        warm_up(self.limits)
        self.ticks: list[Records] = []
        self.printed = ""
        self._chunk_id = 0
        path = folder / "options.json"
        path.write_bytes(msgspec.json.encode(self.options))
        self._errors = folder / "servo.log"
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "poco.runtime.servo", "--options", str(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )

    def __enter__(self) -> ServoProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def errors(self) -> str:
        """What it has printed on standard error so far."""
        return self._errors.read_text()

    @property
    def state(self) -> Records:
        """The newest ROBOT_STATE."""
        state = self.memory.read_state()
        assert state is not None
        return state

    @property
    def mode(self) -> Mode | None:
        """The servo's mode, None before the first tick."""
        state = self.memory.read_state()
        return None if state is None else Mode(int(state["mode"]))

    @property
    def fault(self) -> str:
        """Name of the latched trouble, empty for none."""
        code = int(self.state["fault"])
        return TROUBLES[code].name if code else ""

    @property
    def stops(self) -> list[str]:
        """What the servo has said so far of each time that the arm stopped by itself."""
        return [line for line in self.printed.splitlines() if line.startswith("stopped")]

    def beat(self) -> None:
        """Be the supervisor for a moment: heartbeat, ticks, what was printed."""
        self.memory.beat()
        ticks = self.memory.drain_ticks()
        if len(ticks):
            self.ticks.append(ticks)
        assert self.process.stdout is not None
        if select.select([self.process.stdout], [], [], 0)[0]:
            self.printed += os.read(self.process.stdout.fileno(), 65_536).decode()

    def until(self, condition: Callable[[], bool]) -> None:
        """Beat until `condition` holds; fails when the process ends before or takes too long."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not condition():
            self.beat()
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.errors}{self.printed}"
            assert time.monotonic() < deadline_s, f"waited in vain: {self.errors}{self.printed}"
            time.sleep(0.001)
        self.beat()

    def unstopped_until(self, condition: Callable[[], bool]) -> None:
        """As `until`, in a motion that is expected to last: raises ArmStopped as soon as a fault is latched."""
        self.until(lambda: condition() or bool(self.fault))
        if self.fault:
            raise ArmStopped(f"the arm stopped by itself ({self.fault}): {'; '.join(self.stops)}")

    def pass_ticks(self, count: int) -> None:
        """Beat until the servo has answered `count` more ticks; raises ArmStopped."""
        last = int(self.state["tick"]) + count
        self.unstopped_until(lambda: int(self.state["tick"]) >= last)

    def arm(self, silence_s: float) -> None:
        """Begin the motion, armed, with a watchdog of `silence_s`; returns when the arm is held."""
        self.until(lambda: "ready" in self.printed)
        self.memory.set_request(Request.ARMED)
        assert self.process.stdin is not None
        self.process.stdin.write(f"go {silence_s}\n".encode())
        self.process.stdin.flush()
        self.until(lambda: self.mode == Mode.HOLDING)

    def move(self, *waypoints: Floats) -> int:
        """Publish a motion from the present hold through `waypoints` (a swing about the rest posture if none)."""
        q, rest = np.array(self.state["q_c"]), np.array(self.specification.rest_q)
        path = np.stack(waypoints or (rest + SWING_RAD, rest, rest - SWING_RAD, rest))
        self._chunk_id += 1
        attach = int(self.state["tick"]) + ATTACH_DELAY_TICKS
        plan = plan_path(q, path, attach, self._chunk_id, 0, 0, self.limits)
        self.memory.publish_chunk(plan.spline)
        return self._chunk_id

    def follow(self) -> int:
        """Publish a motion and return its chunk id once the arm is well inside it; raises ArmStopped.

        A held arm in lockstep does not wait while it is planned, so one that came too late is planned again.
        """
        followed = False
        while not followed:
            chunk_id = self.move()
            late = int(self.state["tick"]) + 2 * ATTACH_DELAY_TICKS
            self.unstopped_until(lambda: int(self.state["chunk_id"]) == chunk_id or int(self.state["tick"]) > late)  # noqa: B023
            followed = int(self.state["chunk_id"]) == chunk_id
        self.pass_ticks(100)
        return chunk_id

    def wait(self) -> int:
        """Beat until the process has ended and return its exit code."""
        deadline_s = time.monotonic() + PATIENCE_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline_s, f"it does not end: {self.errors}{self.printed}"
            self.beat()
            time.sleep(0.001)
        self.beat()
        return self.process.returncode

    def recorded(self) -> Records:
        """All ticks so far, or since they were forgotten, in order."""
        self.beat()
        return np.concatenate(self.ticks)

    def forget_ticks(self) -> None:
        """Begin `recorded` anew: a held arm in lockstep makes thousands of ticks a second."""
        self.beat()
        self.ticks.clear()

    def close(self) -> None:
        """End the process and remove its shared memory."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        self.memory.unlink()
