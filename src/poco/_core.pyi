"""Native core of poco (`hw/native`): records, table of troubles, servo step, shared memory, real-time set-up.

Records are numpy arrays of shape () with the dtypes of `poco.records`; a wrong size raises TypeError, a read-only output
BufferError.
"""

from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

Record = npt.NDArray[np.void]

class Layout(TypedDict):
    """Size of a record and {field: (offset, bytes)}."""

    size: int
    fields: dict[str, tuple[int, int]]

def layouts() -> dict[str, Layout]:
    """Return the C++ layout of every record by its name in `poco.records`; any process."""

def mode_table() -> list[tuple[int, str, str]]:
    """Return (code, name, meaning) of every servo mode; read it through `poco.trouble`."""

def trouble_table() -> list[tuple[int, str, str, str, str]]:
    """Return (code, name, grade, meaning, remedy) of every trouble; read it through `poco.trouble`."""

class Memory:
    """Everything `step()` remembers from tick to tick; a value: `copy()` and the same inputs give the same bytes."""

    def __init__(self) -> None: ...
    def copy(self) -> Memory: ...
    @property
    def tick(self) -> int: ...
    @property
    def mode(self) -> int:
        """Return the code of `poco.trouble.Mode`."""
    @property
    def fault(self) -> int:
        """Return the code of the latched trouble, 0 for none."""
    @property
    def q(self) -> list[float]:
        """Return the continuous commanded position [7] (rad)."""
    @property
    def dq(self) -> list[float]:
        """Return the continuous commanded velocity [7] (rad/s)."""
    @property
    def ddq(self) -> list[float]:
        """Return the continuous commanded acceleration [7] (rad/s^2)."""
    @property
    def seen_chunk_id(self) -> int:
        """Return the highest valid chunk id seen."""
    @property
    def event_counts(self) -> list[int]:
        """Return how often each code of `poco.trouble.TROUBLES` happened [EVENT_CODES]."""
    def latch(self, trouble: int) -> None:
        """Latch `trouble`, noticed outside of `step`, and forget chunks and commanded motion."""
    def hold_anew(self) -> None:
        """Let the timeout of a hold begin now."""
    def reanchor(self) -> None:
        """Forget chunks and commanded motion: the next step starts from the arm's own state (reset, recovery)."""

def step(
    state: Record,
    newest: Record | None,
    request: int,
    limits: Record,
    memory: Memory,
    command: Record,
    recoveries: int = 0,
) -> None:
    """Write the COMMAND of the tick in `state` (ARM_STATE) and move `memory`; no heap, deterministic, any process.

    `newest` (CHUNK_SPLINE) may be the same chunk on many ticks; `request` is a `poco.trouble.Request`; `recoveries` counts
    the operator's acts of recovery. A second call with the same tick repeats the command.
    Raises TypeError for records of another size, ValueError for an unknown request; trouble is in the command, never raised.
    """

def follow(
    state: Record,
    newest: Record | None,
    request: int,
    limits: Record,
    memory: Memory,
    commands: Record,
    nanoseconds: npt.NDArray[np.int64],
    ticks: int,
    recoveries: int = 0,
) -> None:
    """Run `step()` for `ticks` ticks on an arm that follows perfectly; benchmarks and tests.

    Writes every command to `commands` (COMMAND [ticks]), the time of each step (ns) to `nanoseconds` [ticks], and moves `state`
    (ARM_STATE) on to what the arm reports after the last one. Raises like `step`.
    """

def time_loop(
    state: Record,
    newest: Record,
    limits: Record,
    memory: Memory,
    late_ns: npt.NDArray[np.int64],
    step_ns: npt.NDArray[np.int64],
    ticks: int,
) -> None:
    """Run `ticks` steps at 1 kHz natively on an arm that follows perfectly; write lateness of waking and time of step (ns).

    A period that has passed is skipped, never caught up. Releases the GIL; the caller's thread keeps its scheduling class.
    """

def tip(q: list[float], limits: Record) -> tuple[list[float], list[list[float]]]:
    """Return position (m) and the three axes of the tool tip in the base frame at joint positions `q` [7] (rad)."""

class SharedRun:
    """One run's shared memory; use it through `poco.shm.RunMemory`. Errors are RuntimeError with one sentence."""

    def __init__(self, path: str, create: bool) -> None: ...
    def publish_state(self, state: Record) -> None: ...
    def read_state(self, out: Record, known: int) -> int: ...
    def publish_chunk(self, chunk: Record) -> None: ...
    def read_chunk(self, out: Record, known: int) -> int: ...
    def publish_gripper(self, state: Record) -> None: ...
    def read_gripper(self, out: Record, known: int) -> int: ...
    def push_tick(self, tick: Record) -> None: ...
    def ticks_waiting(self) -> int: ...
    def drain_ticks(self, out: npt.NDArray[Any], count: int) -> int: ...
    def read_control(self, out: Record) -> None: ...
    def set_request(self, request: int) -> None: ...
    def recover(self) -> None: ...
    def beat(self, now_ns: int) -> None: ...
    def policy_beat(self, now_ns: int) -> None: ...
    def silence_announced(self, now_ns: int) -> bool:
        """Return whether the policy process has said that it can publish nothing for more than 1 s from `now_ns` on."""
    def lead(self, until_tick: int, width_m: float) -> None: ...
    def servo_signs(self, now_ns: int, finished: bool, event_counts: list[int]) -> None:
        """Give what the servo tells in the control block: this process, its sign of life, whether it has finished, its counters."""
    def alarm(self) -> None:
        """Wake everybody who waits for a tick, because none may come any more."""
    def announce(self, tick: int) -> None: ...
    def wait_tick(self, tick: int, timeout_s: float) -> bool: ...

class Servo:
    """What the servo process' loop calls: newest chunk and request in, `step()`, robot state, wake-up and ticks out.

    The supervisor counts as lost when its heartbeat is older than `supervisor_timeout_s`: the arm brakes, holds for
    `orphan_hold_s` and finishes. Until the first heartbeat nobody is missed. Under a `law` (LAW) of torques q_d, dq_d and ddq_d
    of `tick` do not count: the arm reports no desired motion then, so that of the plan takes their place. Where `guiding` (LAW,
    kind 3) is given, a held arm gives way to a hand as long as `SharedRun.lead` says.
    """

    def __init__(
        self,
        run: SharedRun,
        limits: Record,
        supervisor_timeout_s: float = 2.0,
        orphan_hold_s: float = 60.0,
        law: Record | None = None,
        guiding: Record | None = None,
    ) -> None: ...
    def tick(
        self,
        tick: int,
        q: list[float],
        dq: list[float],
        tau: list[float],
        tau_ext: list[float],
        q_d: list[float],
        dq_d: list[float],
        ddq_d: list[float],
        O_T_EE: list[float],
        robot_mode: int,
        errors: int,
    ) -> list[float]:
        """Return the joint set-point [7] (rad) to send now; lists of floats are the fastest arguments.

        Raises ValueError or TypeError for arguments of another length or kind.
        """
    def torque(
        self, tau_d: list[float], coriolis: list[float], mass: list[float], jacobian: list[float]
    ) -> list[float]:
        """Return the joint torque [7] (N m, without gravity) to send now, under the law of impedance; call after `tick`.

        `tau_d` [7] is the torque that the arm took last; `coriolis` [7] (N m), `mass` [49] (kg m^2) and `jacobian` [42] (end
        effector, base frame, 6 x 7 by columns) are the vendor's for the same state. Raises like `tick`.
        """
    def sent(self) -> None:
        """Stamp the time of sending and hand the tick to the recorder; call after the library's write."""
    def watch(self, silence_s: float) -> None:
        """From now on announce `arm_silent` when no tick has begun `silence_s` after `sent()`; from a thread without Python.

        The thread has priority and affinity of the caller; RuntimeError if it cannot be started.
        """
    def arm_failed(self, trouble: int = ...) -> None:
        """Latch `trouble` (`arm_error`) after the client library raised, publish it and forget the motion.

        Where a silence has been announced before, `arm_silent` is latched instead.
        """
    def reanchor(self) -> None:
        """Forget chunks and commanded motion; call before the first tick after a recovery of the arm."""
    @property
    def finished(self) -> bool:
        """Return whether the last command ends the motion."""
    @property
    def mode(self) -> int:
        """Return the code of `poco.trouble.Mode`."""
    @property
    def fault(self) -> int:
        """Return the code of the latched trouble, 0 for none."""

def impedance_torque(
    law: Record,
    state: Record,
    tau_d: list[float],
    coriolis: list[float],
    mass: list[float],
    jacobian: list[float],
    command: Record,
    limits: Record,
    taken: list[float],
) -> list[float]:
    """Return the torque [7] (N m) of `law` (LAW) towards `command` (COMMAND) in `state` (ARM_STATE), as `Servo.torque` does; tests.

    `taken` [7] (N m) is asked for where `tau_d` is not a number. Inside the bounds of `law` whatever else comes in.
    """

def frame_ring_bytes(height: int, width: int) -> int:
    """Return the size of a ring of camera frames of `height` rows and `width` columns; use it through `poco.frames`."""

def begin_frames(memory: npt.NDArray[np.uint8], height: int, width: int) -> None:
    """Make zeroed `memory` of `frame_ring_bytes` an empty ring; ValueError for another size."""

def frame_size(memory: npt.NDArray[np.uint8]) -> tuple[int, int]:
    """Return height and width of the frames of a ring; ValueError if `memory` holds none."""

def publish_frame(memory: npt.NDArray[np.uint8], head: Record, pixels: npt.NDArray[np.uint8]) -> None:
    """Publish a FRAME_HEAD with its pixels [H, W, 3]; TypeError for another size. One writer."""

def read_frame(memory: npt.NDArray[np.uint8], head: Record, pixels: npt.NDArray[np.uint8], known: int) -> int:
    """Copy the newest frame to `head` and `pixels` if it is not number `known`; return the number of what they hold.

    A reader that the writer laps while it reads may leave a torn frame behind and returns `known`.
    """

def realtime_setup(priority: int, cpu: int | None) -> list[tuple[str, bool, str]]:
    """Set timer slack, memory lock, CPU wake-up latency, SCHED_FIFO and affinity; return (what, ok, reason and remedy)."""
