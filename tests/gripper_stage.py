"""A stage for the gripper's own process: the test is servo, policy and supervisor, everything from the process on is real."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from poco.records import CHUNK_SPLINE, ROBOT_STATE
from poco.runtime.child import Child
from poco.runtime.grip import Grip
from poco.runtime.run_events import GripperDone, GripperTold
from poco.runtime.run_folder import RunFolder
from poco.runtime.run_options import RunOptions
from poco.settings import read_settings
from poco.shm import RunMemory
from poco.trouble import Mode
from programs import ARTIFACT, ROOT
from synthetic_run import facts

PATIENCE_S = 120.0
OPEN_M, CLOSED_M = 0.08, 0.0
LEAD_MS = 200
STEP_MS = 20
"""Robot time goes on by so much at most before the gripper's process has looked at it, however late that is."""


class Stage:
    """A run whose arm only says that time goes by and that it follows the newest chunk; its gripper is real to the last byte."""

    def __init__(self, folder: Path, host: str, **overrides: str) -> None:
        self.folder = RunFolder.create(folder / "run", facts())
        keys = {name.replace("__", "."): value for name, value in overrides.items()}
        keys |= {"robot.host": host, "gripper.lead_s": str(LEAD_MS / 1000)}
        settings = read_settings(ROOT / "configs" / "fr3_peg_in_hole.yaml", keys)
        options = RunOptions(
            settings=settings,
            policy=str(ARTIFACT),
            episodes=1,
            speed=1.0,
            seed=0,
            recover=False,
            keep_minutes=1,
            run_name=f"gripper-{host}-{time.monotonic_ns()}",
            boot_epoch=1,
            folder=str(self.folder.path),
        )
        (self.folder.path / "options.json").write_bytes(msgspec.json.encode(options))
        self.memory = RunMemory.create(options.run_name)
        self.mode, self.fault, self.told = Mode.FOLLOWING, 0, list[str]()
        self.grip = Grip(self.memory, settings.gripper, lambda tick, trouble: self.told.append(trouble))
        self.tick, self._went_on_s = 0, time.monotonic()
        self._attach_tick, self._chunk_id, self.following = 0, 0, 0
        self.child = self.start()

    def start(self, *words: str) -> Child:
        """Start the gripper's process."""
        options = str(self.folder.path / "options.json")
        self.child = Child("gripper", "poco.runtime.gripper", ["--options", options, *words], self.folder.path)
        return self.child

    @property
    def width_m(self) -> float:
        """The newest width that the gripper's process has told."""
        newest = self.memory.read_gripper()
        return float("nan") if newest is None else float(newest["width"])

    def beat(self) -> None:
        """Let the arm say where it is; no faster than the clock, and no further than the gripper's process has seen."""
        newest = self.memory.read_gripper()
        if newest is None or int(newest["tick"]) == self.tick:
            now_s = time.monotonic()
            self.tick += min(int(1000 * (now_s - self._went_on_s)), STEP_MS)
            self._went_on_s = now_s
        state = np.zeros((), ROBOT_STATE)
        if self.tick >= self._attach_tick:
            self.following = self._chunk_id
        state["tick"], state["chunk_id"], state["mode"], state["fault"] = (
            self.tick,
            self.following,
            self.mode,
            self.fault,
        )
        self.memory.publish_state(state)
        self.memory.native.announce(self.tick)

    def ask(self, *widths_m: float, period: int = 600) -> int:
        """Publish a chunk of an arm at rest that asks for each of `widths_m` for `period` ms; return the tick of the first."""
        chunk = np.zeros((), CHUNK_SPLINE)
        self._chunk_id, self._attach_tick = self._chunk_id + 1, self.tick + 50
        chunk["chunk_id"], chunk["attach_tick"], chunk["segments"] = self._chunk_id, self._attach_tick, len(widths_m)
        chunk["knots"][: len(widths_m) + 1] = period * np.arange(len(widths_m) + 1)
        chunk["gripper"][: len(widths_m)] = widths_m
        self.memory.publish_chunk(chunk)
        return self._attach_tick

    def until(self, condition: Callable[[], bool]) -> None:
        """Beat until `condition` holds."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert self.child.running, self.child.ending()
            assert time.monotonic() < deadline_s, f"waited in vain: {self.folder.events()}"
            self.beat()
            time.sleep(0.005)

    def ready(self) -> None:
        """Wait until the gripper has homed."""
        self.child.wait_for("ready", PATIENCE_S, self.beat)

    def orders(self) -> list[str]:
        """What the gripper was told so far."""
        return [event.order for event in self.folder.events() if isinstance(event, GripperTold)]

    def ends(self) -> list[tuple[str, str]]:
        """What became of it."""
        return [(event.order, event.outcome) for event in self.folder.events() if isinstance(event, GripperDone)]

    def close(self) -> None:
        """End the gripper's process."""
        self.child.end()
        self.memory.unlink()
