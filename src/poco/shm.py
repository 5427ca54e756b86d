"""The shared memory of one run: newest-wins mailboxes, the ring of ticks and the control block, in one file.

Who writes what: the servo publishes states and ticks, the policy process chunks, the gripper process its states, the supervisor
sets requests, beats and drains ticks. Any process may read states, chunks and the control block.
"""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from poco import _core
from poco.clock import monotonic_ns
from poco.errors import PocoError, UsageError
from poco.records import CHUNK_SPLINE, CONTROL, GRIPPER_STATE, ROBOT_STATE, TICK
from poco.trouble import Request

DIRECTORY = Path("/dev/shm")
PREFIX = "poco-"

Record = npt.NDArray[np.void]


class RunMemory:
    """One process' view of a run; the file lives until `unlink()` or until `sweep()` finds no process that holds it."""

    def __init__(self, name: str, *, create: bool) -> None:
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", name):
            raise UsageError(f"run name {name!r} must be 1 to 100 letters, digits, dots, dashes or underscores")
        self.name = name
        self.path = DIRECTORY / f"{PREFIX}{name}"
        try:
            self.native = _core.SharedRun(str(self.path), create)
        except RuntimeError as error:
            raise PocoError(str(error)) from None
        self._state = np.zeros((), ROBOT_STATE)
        self._state_number = 0
        self._chunk = np.zeros((), CHUNK_SPLINE)
        self._chunk_number = 0
        self._gripper = np.zeros((), GRIPPER_STATE)
        self._gripper_number = 0

    @classmethod
    def create(cls, name: str) -> RunMemory:
        """Create the memory of run `name` (supervisor). Raises PocoError if it exists already or there is no room."""
        return cls(name, create=True)

    @classmethod
    def attach(cls, name: str) -> RunMemory:
        """Map the memory of run `name` (every other process). Raises PocoError if it is missing or of another version."""
        return cls(name, create=False)

    def unlink(self) -> None:
        """Remove the file; processes that have it mapped keep working. Supervisor only."""
        self.path.unlink(missing_ok=True)

    def publish_state(self, state: Record) -> None:
        """Publish a ROBOT_STATE; only the servo process (or what stands for it in a test)."""
        self.native.publish_state(state)

    def read_state(self) -> Record | None:
        """Return a copy of the newest ROBOT_STATE, None before the first one; any process."""
        self._state_number = self.native.read_state(self._state, self._state_number)
        return self._state.copy() if self._state_number else None

    def publish_chunk(self, chunk: Record) -> None:
        """Publish a CHUNK_SPLINE to the servo; only the policy process."""
        self.native.publish_chunk(chunk)

    def read_chunk(self) -> Record | None:
        """Return a copy of the newest CHUNK_SPLINE, None before the first one; any process."""
        self._chunk_number = self.native.read_chunk(self._chunk, self._chunk_number)
        return self._chunk.copy() if self._chunk_number else None

    def publish_gripper(self, state: Record) -> None:
        """Publish a GRIPPER_STATE; only the gripper process."""
        self.native.publish_gripper(state)

    def read_gripper(self) -> Record | None:
        """Return a copy of the newest GRIPPER_STATE, None before the first one; any process."""
        self._gripper_number = self.native.read_gripper(self._gripper, self._gripper_number)
        return self._gripper.copy() if self._gripper_number else None

    def drain_ticks(self) -> npt.NDArray[np.void]:
        """Return the waiting TICKs [n], oldest first, and remove them; only one process (the supervisor)."""
        ticks = np.zeros(self.native.ticks_waiting(), TICK)
        self.native.drain_ticks(ticks, len(ticks))
        return ticks

    def control(self) -> Record:
        """Return a copy of the CONTROL block; any process."""
        control = np.zeros((), CONTROL)
        self.native.read_control(control)
        return control

    def set_request(self, request: Request) -> None:
        """Ask the servo to disarm, arm or stop; supervisor."""
        self.native.set_request(int(request))

    def recover(self) -> None:
        """Act of recovery: clears a latched fault once the servo is at rest; only on an operator's word."""
        self.native.recover()

    def beat(self) -> None:
        """Renew the supervisor's heartbeat; after the first one the servo misses it when it is 2 s old."""
        self.native.beat(monotonic_ns())

    def policy_beat(self, ahead_s: float = 0.0) -> None:
        """Give a sign of life, and with `ahead_s` one for as long a silence to come, in which a hold of the arm does not time out.

        Only the policy process.
        """
        self.native.policy_beat(monotonic_ns() + int(ahead_s * 1e9))

    def forget_policy(self) -> None:
        """Forget the signs of life of a policy process that is gone, and what it announced; only the supervisor."""
        self.native.policy_beat(0)

    def lead(self, until_tick: int, width_m: float = float("nan")) -> None:
        """Until `until_tick` let an arm that is held and driven by torques give way to a hand; 0 ends it. Only the policy process.

        `width_m` is how far apart the fingers of a gripper are to be meanwhile, NaN for as they are.
        """
        self.native.lead(until_tick, width_m)

    def wait_tick(self, tick: int, timeout_s: float) -> bool:
        """Sleep without the GIL until the servo has reached `tick`; False after `timeout_s` or when the arm failed."""
        return self.native.wait_tick(tick, timeout_s)


def sweep() -> list[str]:
    """Remove the memory of runs that no living process holds and return their names; the supervisor at its start."""
    swept = []
    for path in sorted(DIRECTORY.glob(f"{PREFIX}*")):
        try:
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue  # gone by now, or another user's run
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
            swept.append(path.name.removeprefix(PREFIX))
        except BlockingIOError:
            continue  # alive
        finally:
            os.close(file)
    return swept
