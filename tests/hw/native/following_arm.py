"""An arm that follows perfectly, random chunks for it, and an oracle that differentiates what was sent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from poco import _core
from poco.limits import (
    ACCELERATION_MAX_RAD_S2,
    DECELERATION_RAD_S2,
    JERK_MAX_RAD_S3,
    POSITION_MAX_RAD,
    POSITION_MIN_RAD,
    VELOCITY_MAX_RAD_S,
    VELOCITY_OFFSET_RAD_S,
    Guards,
    Margins,
    fr3_limits,
)
from poco.records import ARM_STATE, CHUNK_SPLINE, COMMAND
from poco.trouble import BY_NAME, Mode, Request

Floats = npt.NDArray[np.float64]
Record = npt.NDArray[np.void]

READY_RAD = np.array([0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785])
WIDE = Guards(box_min_m=(-2, -2, -2), box_max_m=(2, 2, 2), table_z_m=-2, speed_max_m_s=20, lead_max_m=1, lead_max_rad=3)
MOVE = 2
REST = np.zeros(7)


def wide_limits() -> Record:
    """Return the joint limits of the step with guards that never speak."""
    return fr3_limits(guards=WIDE)


class FollowingArm:
    """Runs `step()` tick by tick; the arm reports the last command as measured and as desired motion."""

    def __init__(self, limits: Record, q: Floats = READY_RAD, tick: int = 1000) -> None:
        self.limits, self.memory = limits, _core.Memory()
        self.state, self.command = np.zeros((), ARM_STATE), np.zeros((), COMMAND)
        self.state["q"] = self.state["q_d"] = q
        self.state["robot_mode"] = MOVE
        self.tick = tick
        self.request = Request.ARMED
        self.recoveries = 0
        self.chunk: Record | None = None
        self.sent: list[Floats] = []
        self.modes: list[Mode] = []

    def step(self, ticks: int = 1, follow: bool = True) -> Record:
        """Run `ticks` ticks and return the last command; without `follow` the measured position stays where it was."""
        for _ in range(ticks):
            self.state["tick"] = self.tick
            _core.step(self.state, self.chunk, self.request, self.limits, self.memory, self.command, self.recoveries)
            self.tick += 1
            q = self.command["q"].copy()
            dq = (q - self.state["q_d"]) * 1000.0
            self.state["ddq_d"] = (dq - self.state["dq_d"]) * 1000.0
            self.state["dq_d"], self.state["q_d"] = dq, q
            if follow:
                self.state["q"] = q
            self.sent.append(q)
            self.modes.append(self.mode)
        return self.command

    def lose_ticks(self, ticks: int) -> None:
        """Let the arm extrapolate `ticks` commands at constant acceleration, unseen by the servo."""
        for _ in range(ticks):
            self.state["dq_d"] += self.state["ddq_d"] * 1e-3
            self.state["q_d"] += self.state["dq_d"] * 1e-3
            self.state["q"] = self.state["q_d"]
            self.sent.append(self.state["q_d"].copy())
            self.modes.append(self.mode)
            self.tick += 1

    def count(self, name: str) -> int:
        """Return how often the trouble `name` was noted."""
        return self.memory.event_counts[BY_NAME[name].code]

    @property
    def mode(self) -> Mode:
        """Return the servo's mode."""
        return Mode(self.memory.mode)


def quintic(
    start: tuple[Floats, Floats, Floats], end: tuple[Floats, Floats, Floats], seconds: float
) -> npt.NDArray[np.float64]:
    """Return [6, 7] coefficients of the quintic between two states, by solving its boundary equations."""
    t = seconds
    rows = np.array(
        [
            [1, 0, 0, 0, 0, 0],
            [0, 1, 0, 0, 0, 0],
            [0, 0, 2, 0, 0, 0],
            [1, t, t**2, t**3, t**4, t**5],
            [0, 1, 2 * t, 3 * t**2, 4 * t**3, 5 * t**4],
            [0, 0, 2, 6 * t, 12 * t**2, 20 * t**3],
        ]
    )
    return np.linalg.solve(rows, np.stack([*start, *end]))


def make_chunk(
    start: tuple[Floats, Floats, Floats], waypoints: Floats, ticks: list[int], *, attach: int, ident: int, pred: int = 0
) -> Record:
    """Return a chunk from `start` through `waypoints` [n, 7], `ticks` each, at rest at the last."""
    chunk = np.zeros((), CHUNK_SPLINE)
    chunk["chunk_id"], chunk["predecessor_id"], chunk["attach_tick"] = ident, pred, attach
    chunk["generation"] = 7
    chunk["segments"] = len(waypoints)
    chunk["knots"][1 : len(waypoints) + 1] = np.cumsum(ticks)
    chunk["gripper"] = np.nan
    zero, state = np.zeros(7), start
    for k, waypoint in enumerate(waypoints):
        velocity = zero
        if k + 1 < len(waypoints):
            before, after = (waypoint - state[0]) / ticks[k], (waypoints[k + 1] - waypoint) / ticks[k + 1]
            velocity = np.where(before * after > 0, 500.0 * (before + after), 0.0)
        chunk["coefficients"][k] = quintic(state, (waypoint, velocity, zero), ticks[k] * 1e-3)
        state = (waypoint, velocity, zero)
    return chunk


RAMP_TICKS = 2


def bang_bang(q: Floats, share: Floats, run_up: int, *, attach: int, ident: int = 1) -> Record:
    """Return a chunk from rest at `q` that speeds up for `run_up` ticks as hard as `step()` admits, and stops likewise.

    `share` [7] in -1 to 1 is each joint's share of acceleration and jerk; RAMP_TICKS lead to full acceleration and back.
    """
    ticks = [RAMP_TICKS, run_up, RAMP_TICKS, RAMP_TICKS, run_up, RAMP_TICKS]
    chunk = make_chunk((q, np.zeros(7), np.zeros(7)), q[None], [1], attach=attach, ident=ident)
    chunk["segments"] = len(ticks)
    chunk["knots"][1 : len(ticks) + 1] = np.cumsum(ticks)
    position, velocity, acceleration = q.copy(), np.zeros(7), np.zeros(7)
    for k, sign in enumerate((1, 0, -1, -1, 0, 1)):
        s, jerk = ticks[k] * 1e-3, sign * 0.78 * JERK_MAX_RAD_S3 * share
        chunk["coefficients"][k] = 0.0
        chunk["coefficients"][k, :4] = position, velocity, acceleration / 2, jerk / 6
        position = position + s * velocity + s**2 * acceleration / 2 + s**3 * jerk / 6
        velocity = velocity + s * acceleration + s**2 * jerk / 2
        acceleration = acceleration + s * jerk
    return chunk


def sample(chunk: Record, tick: int) -> tuple[Floats, Floats, Floats]:
    """Return the planned state `tick` ticks after attachment, by numpy polynomials."""
    count = int(chunk["segments"])
    knots = chunk["knots"][: count + 1]
    k = int(np.clip(np.searchsorted(knots, tick, side="right") - 1, 0, count - 1))
    if tick >= knots[-1]:
        tick = int(knots[-1])
    polynomial = np.polynomial.Polynomial
    columns = [polynomial(chunk["coefficients"][k, :, j]) for j in range(7)]
    t = (tick - knots[k]) * 1e-3
    q, dq, ddq = (np.array([c.deriv(order)(t) if order else c(t) for c in columns]) for order in range(3))
    return (q, dq, ddq) if tick < knots[-1] else (q, np.zeros(7), np.zeros(7))


def ready_arm(limits: Record | None = None, q: Floats = READY_RAD) -> FollowingArm:
    """Return an armed arm that holds at `q`."""
    arm = FollowingArm(wide_limits() if limits is None else limits, q)
    arm.step(3)
    return arm


def chunk_from(arm: FollowingArm, shift: Floats | float, ticks: int = 400, ahead: int = 5, ident: int = 1) -> Record:
    """Return a chunk that moves the held arm by `shift` (rad)."""
    hold = np.array(arm.memory.q)
    return make_chunk((hold, REST, REST), (hold + shift)[None], [ticks], attach=arm.tick + ahead, ident=ident)


def start_following(arm: FollowingArm, shift: float = 0.05, ticks: int = 400) -> Record:
    """Let the arm follow a leisurely chunk and return it."""
    arm.chunk = chunk_from(arm, shift, ticks)
    arm.step(50)
    assert arm.mode == Mode.FOLLOWING
    return arm.chunk


def joint_shift(joint: int, value: float) -> Floats:
    """Return a shift of one joint."""
    shift = np.zeros(7)
    shift[joint] = value
    return shift


def random_chunk(
    rng: np.random.Generator, start: tuple[Floats, Floats, Floats], pace: float, *, attach: int, ident: int, pred: int
) -> Record:
    """Return a random chunk; `pace` 1 is leisurely, above about 3 it breaks limits."""
    count = int(rng.integers(1, 5))
    span = POSITION_MAX_RAD - POSITION_MIN_RAD
    inset = 0.03 if rng.random() < 0.4 else 0.3
    q, waypoints, ticks = start[0] + 0.2 * start[1], [], []
    for _ in range(count):
        stride = rng.uniform(-0.2, 0.2, 7) * rng.uniform(0.02, 1.0) * span
        target = np.clip(q + stride, POSITION_MIN_RAD + inset, POSITION_MAX_RAD - inset)
        speed_ticks = np.max(np.abs(target - q) / (VELOCITY_MAX_RAD_S * 0.4)) * 1000.0
        acceleration_ticks = np.max(np.sqrt(np.abs(target - q) * 5.8 / 6.0)) * 1000.0
        ticks.append(int(max(80.0, speed_ticks, acceleration_ticks) / pace))
        waypoints.append(target)
        q = target
    return make_chunk(start, np.array(waypoints), ticks, attach=attach, ident=ident, pred=pred)


@dataclass(frozen=True)
class Load:
    """Largest shares of position-dependent velocity, acceleration and jerk limits, least distance to positions (rad)."""

    velocity: float
    acceleration: float
    jerk: float
    distance_rad: float

    @property
    def inside(self) -> bool:
        """Return whether nothing is exceeded beyond rounding."""
        return max(self.velocity, self.acceleration, self.jerk) <= 1 + 1e-6 and self.distance_rad >= -1e-9


def load_of(sent: list[Floats], margins: Margins) -> Load:
    """Differentiate sent commands backwards (1 ms) and relate them to the FR3's limits times `margins`."""
    q = np.array(sent)
    dq = np.diff(q, axis=0) * 1000.0
    ddq = np.diff(dq, axis=0) * 1000.0
    jerk = np.diff(ddq, axis=0) * 1000.0
    low, high = POSITION_MIN_RAD + margins.position_rad, POSITION_MAX_RAD - margins.position_rad
    room = np.where(dq > 0, high - q[1:], q[1:] - low)
    envelope = margins.velocity * (np.sqrt(np.maximum(0, 2 * DECELERATION_RAD_S2 * room)) - VELOCITY_OFFSET_RAD_S)
    envelope = np.minimum(VELOCITY_MAX_RAD_S * margins.velocity, np.maximum(0, envelope))
    return Load(
        float(np.max(np.where(dq == 0, 0.0, np.abs(dq) / np.maximum(envelope, 1e-12)))),
        float(np.max(np.abs(ddq) / (ACCELERATION_MAX_RAD_S2 * margins.acceleration))),
        float(np.max(np.abs(jerk) / (JERK_MAX_RAD_S3 * margins.jerk))),
        float(min(np.min(q - low), np.min(high - q))),
    )
