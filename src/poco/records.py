"""What crosses each boundary: shared-memory records as numpy dtypes, journal records as typed structs.

The dtypes are written a second time as C++ structs in `hw/native/records.hpp`; `tests/test_records.py` compares both
offset by offset. All angles are rad, lengths m, times ns or ticks of 1 ms; transforms are column-major 4 x 4.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import numpy as np

SCHEMA_VERSION = 1
"""Version of every record below; data of another version is refused or migrated, never guessed."""

MAX_SEGMENTS = 512
"""Most polynomial segments one ChunkSpline carries."""

_JOINTS = ("f8", (7,))


def _record(*fields: tuple[Any, ...]) -> np.dtype[np.void]:
    return np.dtype(list(fields), align=True)


ARM_STATE = _record(
    ("tick", "i8"),
    ("received_ns", "i8"),
    ("q", *_JOINTS),
    ("dq", *_JOINTS),
    ("tau", *_JOINTS),
    ("tau_ext", *_JOINTS),
    ("q_d", *_JOINTS),
    ("dq_d", *_JOINTS),
    ("ddq_d", *_JOINTS),
    ("O_T_EE", "f8", (16,)),
    ("robot_mode", "i4"),
    ("errors", "i4"),
)
"""What the arm reported in one tick; the measured half of the input of `step()`. `errors` counts the raised error flags."""

ROBOT_STATE = _record(
    ("tick", "i8"),
    ("t_ns", "i8"),
    ("q", *_JOINTS),
    ("dq", *_JOINTS),
    ("tau", *_JOINTS),
    ("tau_ext", *_JOINTS),
    ("q_c", *_JOINTS),
    ("dq_c", *_JOINTS),
    ("ddq_c", *_JOINTS),
    ("O_T_EE", "f8", (16,)),
    ("chunk_id", "i8"),
    ("generation", "i8"),
    ("mode", "i4"),
    ("fault", "i4"),
    ("gripper_width", "f8"),
)
"""servo -> policy, newest wins: measured state, commanded state (`*_c`), chunk in execution, servo mode and fault.

gripper_width (m) is NaN as the servo, which knows no gripper, publishes it; who observes fills it in from GRIPPER_STATE.
"""

GRIPPER_STATE = _record(
    ("t_ns", "i8"),
    ("tick", "i8"),
    ("width", "f8"),
    ("max_width", "f8"),
    ("target", "f8"),
    ("moving", "i4"),
    ("grasped", "i4"),
)
"""gripper -> policy, newest wins: when it was read (CLOCK_MONOTONIC) and the robot tick then, distance of the fingers and the
largest that homing found (m), what they were told last (m, NaN: nothing), whether a command runs, whether something is held.
"""

CHUNK_SPLINE = _record(
    ("chunk_id", "i8"),
    ("generation", "i8"),
    ("predecessor_id", "i8"),
    ("attach_tick", "i8"),
    ("segments", "i8"),
    ("knots", "i8", (MAX_SEGMENTS + 1,)),
    ("coefficients", "f8", (MAX_SEGMENTS, 6, 7)),
    ("gripper", "f8", (MAX_SEGMENTS,)),
)
"""policy -> servo, newest wins.

Segment k spans knots[k] to knots[k + 1] (ticks since attach_tick, knots[0] = 0) and evaluates
q = sum_i coefficients[k, i] * (seconds since knot k)**i. The last segment ends at rest. chunk_id counts up from 1
within a run; predecessor_id 0 means: attaches to a hold. gripper is the target width of the segment (m), NaN for none.
"""

LIMITS = _record(
    ("position_min", *_JOINTS),
    ("position_max", *_JOINTS),
    ("velocity_max", *_JOINTS),
    ("velocity_offset", *_JOINTS),
    ("deceleration", *_JOINTS),
    ("acceleration_max", *_JOINTS),
    ("jerk_max", *_JOINTS),
    ("velocity_scale", "f8"),
    ("box_min", "f8", (3,)),
    ("box_max", "f8", (3,)),
    ("table_z", "f8"),
    ("speed_max", "f8"),
    ("lead_max_m", "f8"),
    ("lead_max_rad", "f8"),
    ("flange_t_tip", "f8", (16,)),
    ("hold_timeout_ticks", "i8"),
)
"""Limits of joints and tool tip, already scaled by their margins. flange_t_tip is row-major here (it is ours, not the arm's)."""

LAW = _record(
    ("kind", "i8"),
    ("stiffness", *_JOINTS),
    ("damping", *_JOINTS),
    ("tip_stiffness", "f8", (6,)),
    ("tip_damping", "f8", (6,)),
    ("upright", "f8", (3,)),
    ("torque_max", *_JOINTS),
    ("torque_step_max", *_JOINTS),
)
"""How the servo moves the arm: kind 0 by set-points for the arm's own law, 1 and 2 by torques of joint or Cartesian impedance;
kind 3 is how it gives way to a hand.

stiffness and damping (N m/rad, N m s/rad) are the joints', for kind 2 those of the null space; tip_* belong to kind 2 (three of
N/m, N s/m along and three of N m/rad, N m s/rad about the axes of the base). For kind 3 damping is the joints', stiffness that
of their ends, tip_* those of the box's walls, and about the axes what turns the tip's z axis to upright (unit vector, base frame;
zero: the hand turns it as it likes). torque_max (N m) and torque_step_max (N m in a tick) bound the torque without gravity. All
zero for kind 0.
"""

COMMAND = _record(
    ("q", *_JOINTS),
    ("dq", *_JOINTS),
    ("ddq", *_JOINTS),
    ("chunk_id", "i8"),
    ("generation", "i8"),
    ("mode", "i4"),
    ("fault", "i4"),
    ("event", "i4"),
    ("finished", "i4"),
)
"""Output of `step()`: joint set-point of this tick with its planned derivatives, servo mode, latched fault, event."""

TICK = _record(
    ("state", ARM_STATE),
    ("command", COMMAND),
    ("sent_ns", "i8"),
    ("period_ns", "i8"),
    ("cpu_ns", "i8"),
    ("waits", "i4"),
    ("preemptions", "i4"),
    ("minor_faults", "i4"),
    ("major_faults", "i4"),
)
"""servo -> recorder, the new one is dropped when full: every input of `step()` (chunks by id), its output and its timing.

cpu_ns and what follows tell where the turnaround, from state received to command sent, went: processor time of the servo's
thread, how often it gave the processor up to wait (for a lock, the disk, the network), how often it was taken from it, and
page faults without and with reading from disk.
"""


EVENT_CODES = 32
"""Room for one counter per code of `poco.trouble`."""

CONTROL = _record(
    ("request", "i8"),
    ("recoveries", "i8"),
    ("supervisor_ns", "i8"),
    ("policy_ns", "i8"),
    ("led_until", "i8"),
    ("led_width", "f8"),
    ("servo_pid", "i8"),
    ("servo_ns", "i8"),
    ("tick", "i8"),
    ("finished", "i8"),
    ("ticks_dropped", "i8"),
    ("wake_tick", "i8"),
    ("wake_word", "u4"),
    ("alarms", "u4"),
    ("event_counts", "i8", (EVENT_CODES,)),
)
"""supervisor <-> servo: request, number of operator recoveries and heartbeat one way, life signs and counters the other way.

policy_ns is the policy process' last sign of life, or until when it has announced to give none, for the supervisor and for the
servo, whose patience with a hold begins then; until the tick led_until it lets a hand lead a held arm, with the fingers of the
gripper led_width (m, NaN: as they are) apart.
"""


FRAME_HEAD = _record(
    ("number", "i8"),
    ("t_ns", "i8"),
    ("received_ns", "i8"),
    ("tick", "i8"),
    ("repeats", "i8"),
    ("serial", "S32"),
)
"""camera -> policy, newest wins, before the pixels of each frame.

number counts the frames of the device, so that a gap tells of lost ones; t_ns is CLOCK_MONOTONIC in the middle of the exposure,
received_ns when the frame was here; tick is the robot tick of an emulated exposure, -1 for a real one. repeats is how many
frames before this one showed the very same. serial names the device.
"""


class StepKey(msgspec.Struct, frozen=True, array_like=True):
    """Identity of a step across robot, journal and replay."""

    robot: str
    boot_epoch: int
    episode: int
    step: int


DISCARDED = "discarded"
"""Outcome of an episode that a person has thrown away: it stays in the journal and belongs into no replay and no data set."""

VECTOR_MAX = 4096
Vector = Annotated[list[float], msgspec.Meta(max_length=VECTOR_MAX)]
"""Bounded, as all that strangers may send is: they could fill the memory with a list otherwise."""

Labels = Annotated[dict[str, str], msgspec.Meta(max_length=64)]
Reward = Annotated[float, msgspec.Meta(description="raw task reward; shaping belongs to the learner")]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One control period, written when the period has ended; nothing lost.

    A period whose ends were not observed in time, because the policy process stood still, has no Step; its number is left out.
    observation is what the model saw (scaled to [-1, 1] by the specification); action_policy is what the policy asked for,
    action_executed the commanded motion of the period, both in action units [-1, 1].
    """

    key: StepKey
    tick: int
    generation: int
    chunk_id: int
    observation: Vector
    action_policy: Vector
    action_executed: Vector
    reward: Reward
    intervened: bool = False


class EpisodeEnd(msgspec.Struct, frozen=True, kw_only=True):
    """End of an episode; a later record of the same episode with a higher revision relabels it.

    `outcome` is "success", "failure" or DISCARDED.
    """

    robot: str
    boot_epoch: int
    episode: int
    tick: int
    final_observation: Vector
    outcome: str
    terminated: bool
    truncated: bool
    labels: Labels = {}
    revision: int = 0


TaskOutcome = Literal["running", "success", "failure"]

NOW = 1 << 62
"""In place of the robot tick of a task signal: later than any."""


class TaskSignal(msgspec.Struct, frozen=True, kw_only=True):
    """task -> policy: named values in robot time, outcome so far ("running", "success", "failure") and state of the scene.

    target_position (m, base frame) and target_yaw (rad) are as the sensor sees them, with noise of the stated standard
    deviation (noise_m, noise_rad). `reset` is "idle" or "busy" (objects are being placed). A sensor that does not know robot
    time leaves `tick` out: what it says is of now.
    """

    tick: int = NOW
    target_position: tuple[float, float, float]
    target_yaw: float
    noise_m: float = 0.0
    noise_rad: float = 0.0
    outcome: TaskOutcome
    reset: str = "idle"
