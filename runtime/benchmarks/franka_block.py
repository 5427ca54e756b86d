"""A process of its own that holds the arm for one block, by the servo loop or by a bare loop, and writes its stamps.

Started by `poco-bench franka` with SCHED_FIFO and garbage collection as in the servo process.
"""

from __future__ import annotations

import argparse
import gc
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from poco._core import Servo, realtime_setup
from poco.arm_settings import RobotSettings
from poco.clock import monotonic_ns
from poco.control import servo_law
from poco.errors import guard
from poco.hw.bare_hold import hold
from poco.hw.franka import FrankaArm
from poco.limits import Guards, fr3_limits
from poco.runtime.servo import follow
from poco.settings import read_settings
from poco.shm import RunMemory
from poco.trouble import Request

KINDS = ("servo", "bare")
WIDE_GUARDS = Guards((-2.0, -2.0, -2.0), (2.0, 2.0, 2.0), -2.0)


class StampedArm(FrankaArm):
    """The arm of the servo loop with the time of every state and command; asks for the stop when `ticks` are over."""

    def __init__(self, settings: RobotSettings, memory: RunMemory, ticks: int) -> None:
        super().__init__(settings)
        self.stamps_ns = np.zeros((2, ticks), np.int64)
        self._received_ns, self._sent_ns = self.stamps_ns
        self._memory, self._ticks, self._tick = memory, ticks, 0

    def read(self) -> Any:
        """Return the next state and note when it was there."""
        state = super().read()
        if self._tick < self._ticks:
            self._received_ns[self._tick] = monotonic_ns()
        else:
            self._memory.set_request(Request.STOP)
        return state

    def write(self, values: Sequence[float], finished: bool = False) -> None:
        """Send set-points or torques and note when that was done."""
        super().write(values, finished)
        if self._tick < self._ticks:
            self._sent_ns[self._tick] = monotonic_ns()
            self._tick += 1


def servo_block(settings: RobotSettings, ticks: int) -> npt.NDArray[np.int64]:
    """Hold the arm armed for `ticks` with the loop of the servo process; return receipt and sending [2, ticks] (ns)."""
    memory = RunMemory.create(f"bench-{os.getpid()}")
    try:
        arm = StampedArm(settings, memory, ticks)
        arm.connect()
        arm.check_ready(recover=False)
        arm.configure()
        law = servo_law(settings.control, settings.impedance)
        servo = Servo(memory.native, fr3_limits(guards=WIDE_GUARDS), law=law)
        memory.set_request(Request.ARMED)
        make_punctual(settings)
        arm.start()
        follow(arm, servo)
    finally:
        memory.unlink()
    return arm.stamps_ns


def make_punctual(settings: RobotSettings) -> None:
    """Give this process the rights and the garbage collection of the servo process; print what could not be had."""
    for what, ok, reason in realtime_setup(settings.realtime.priority, settings.realtime.cpu):
        if not ok:
            print(f"{what}: {reason}")
    gc.collect()
    gc.freeze()
    gc.disable()


def block(kind: str, config: Path, host: str, ticks: int) -> npt.NDArray[np.int64]:
    """Run one block of `kind` with the robot settings of `config`."""
    settings = read_settings(config, {"robot.host": host}).robot
    if kind == "servo":
        return servo_block(settings, ticks)
    make_punctual(settings)
    return hold(host, ticks)


def main() -> None:
    """Entry point of the measuring process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=KINDS, required=True)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--ticks", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    flags = parser.parse_args()
    guard(lambda: np.save(flags.out, block(flags.kind, flags.config, flags.host, flags.ticks)))


if __name__ == "__main__":
    main()
