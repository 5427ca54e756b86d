"""Motion: what a policy asks for becomes a ChunkSpline that the arm can follow exactly.

Actions become joint targets (`tip_delta_targets`), targets become a C2 spline inside the limits (`plan_chunk`), a reset is
a `plan_path`. `executed_action` turns the commanded motion of a period back into an action. All of it is compiled by
numba; call `warm_up` before the arm is armed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from poco.bounds import Bounds, bounds_of, reach
from poco.clock import TICK_S
from poco.errors import MotionError
from poco.kinematics import JOINTS, Floats, forward
from poco.profile import PLAN_TICKS_MAX, fit, lead_in, ramp_to_rest, stop_ticks
from poco.records import CHUNK_SPLINE, MAX_SEGMENTS
from poco.spline import Integers, sample
from poco.targets import INSIDE_M, executed_action, guard_targets, tip_delta_targets
from poco.verification import verify

__all__ = [
    "Outcome",
    "Plan",
    "executed_action",
    "plan_chunk",
    "plan_path",
    "plan_stop",
    "sample",
    "tip_delta_targets",
    "warm_up",
]

PREFIX_ROWS = 3
"""Most segments of a plan that are not an action: lead-in, stop, tail."""

PATH_TICKS_MIN = 20


class Outcome(IntEnum):
    """What became of the actions of a plan; only REFUSED carries no motion."""

    NATURAL = 0
    STRETCHED = 1
    STOPPED_FIRST = 2
    STOP_ONLY = 3
    REFUSED = 4


@dataclass(frozen=True, slots=True)
class Plan:
    """A planned motion: the CHUNK_SPLINE record, when each action ends, and what became of the actions.

    `action_ticks` int64 [T + 1]: action k ends action_ticks[k + 1] ticks after the attachment, and a successor may attach
    at any of them. With STOP_ONLY every action "ends" at rest where the stop ends, its target not reached. With REFUSED
    (input not finite, too many actions, or no motion from this start state keeps the limits) the spline has no segments
    and must not be sent: the predecessor's own stop, already verified, goes on.
    """

    spline: npt.NDArray[np.void]
    action_ticks: Integers
    outcome: Outcome

    @property
    def usable(self) -> bool:
        """Whether the spline may be sent."""
        return self.outcome != Outcome.REFUSED

    @property
    def stretched(self) -> bool:
        """Whether some action ends later than its natural tick."""
        return self.outcome != Outcome.NATURAL

    @property
    def stopped_first(self) -> bool:
        """Whether the arm comes to rest before (or instead of) the first action."""
        return self.outcome in (Outcome.STOPPED_FIRST, Outcome.STOP_ONLY)


def _stop(origin: Floats, bounds: Bounds, knots: Integers, coefficients: Floats) -> tuple[int, Floats]:
    """Write lead-in and ramp to rest; return the segments, 0 if the stop breaks a limit, and the posture of rest [7]."""
    state = np.empty((3, JOINTS))
    knots[0], segments = 0, 0
    lead = lead_in(origin, bounds, coefficients[0], state)
    if lead > 0:
        knots[1], segments = lead, 1
    length = stop_ticks(state[1], bounds)
    ramp_to_rest(state[0], state[1], length, coefficients[segments])
    knots[segments + 1] = knots[segments] + length
    segments += 1
    worst, _, _ = verify(knots, coefficients, segments, np.zeros(segments, np.bool_), origin[1], origin[2], bounds)
    return segments if worst < 0 else 0, state[0] + 0.5 * length * TICK_S * state[1]


def _plan(
    targets: Floats, origin: Floats, period: int, bounds: Bounds, knots: Integers, coefficients: Floats, ends: Integers
) -> tuple[int, Outcome]:
    """Write the plan of a chunk and the ends of its actions [T + 1]; return its segments and what became of it."""
    actions = len(targets)
    natural = np.full(actions, period)
    knots[0] = ends[0] = 0
    segments, offset = fit(knots, coefficients, 0, origin, origin, targets, natural, bounds, False), 0
    if segments == 0:
        eased = np.empty((3, JOINTS))
        knots[1] = lead = lead_in(origin, bounds, coefficients[0], eased)
        if lead > 0:
            offset = 1
            shortened = natural.copy()
            shortened[0] = max(1, period - lead)
            segments = fit(knots, coefficients, offset, eased, origin, targets, shortened, bounds, False)
    if segments > 0:
        ends[1:] = knots[offset + 1 : offset + actions + 1]
        return segments, Outcome.NATURAL if ends[actions] == period * actions else Outcome.STRETCHED
    offset, rest_q = _stop(origin, bounds, knots, coefficients)
    if offset == 0:
        return 0, Outcome.REFUSED
    rest = np.zeros((3, JOINTS))
    rest[0] = rest_q
    segments = fit(knots, coefficients, offset, rest, origin, targets, natural, bounds, False)
    if segments > 0:
        ends[1:] = knots[offset + 1 : offset + actions + 1]
        return segments, Outcome.STOPPED_FIRST
    ends[1:] = knots[offset]
    return offset, Outcome.STOP_ONLY


def _blank(attach_tick: int, chunk_id: int, predecessor_id: int, generation: int) -> npt.NDArray[np.void]:
    spline = np.zeros((), CHUNK_SPLINE)
    spline["chunk_id"], spline["predecessor_id"], spline["generation"] = chunk_id, predecessor_id, generation
    spline["attach_tick"] = attach_tick
    spline["gripper"] = np.nan
    return spline


def _finish(spline: npt.NDArray[np.void], segments: int, actions: int) -> None:
    """Set the number of segments and clear what earlier attempts for so many actions left behind them."""
    spline["segments"] = segments
    written = actions + PREFIX_ROWS
    spline["knots"][segments + 1 : written + 1] = 0
    spline["coefficients"][segments:written] = 0.0


def plan_chunk(
    targets: Floats,
    start_q: Floats,
    start_dq: Floats,
    start_ddq: Floats,
    period_ticks: int,
    attach_tick: int,
    chunk_id: int,
    predecessor_id: int,
    generation: int,
    limits: npt.NDArray[np.void],
) -> Plan:
    """Plan joint targets [T, 7] (rad), one each `period_ticks`, from the planned state of the predecessor at the attachment.

    `start_*` [7] are rad, rad/s, rad/s^2; `limits` is a LIMITS record of the planning margins. Targets beyond the joint
    limits or the guards are moved inside. Natural timing is kept where the limits allow; otherwise segments are
    stretched; a start state that leads nowhere is first brought to rest; the end is always a stop. Every plan is
    verified on the positions of every tick. Never raises: see `Outcome`. The policy process and the environment call it.
    """
    wanted, origin = np.array(targets, np.float64), np.array([start_q, start_dq, start_ddq], np.float64)
    spline = _blank(attach_tick, chunk_id, predecessor_id, generation)
    ends = np.zeros(len(wanted) + 1, np.int64)
    size_fits = 0 < len(wanted) <= MAX_SEGMENTS - PREFIX_ROWS and period_ticks > 0
    if not (size_fits and np.isfinite(wanted).all() and np.isfinite(origin).all()):
        return Plan(spline, ends, Outcome.REFUSED)
    bounds = bounds_of(limits)
    for inside_m in INSIDE_M:
        guard_targets(wanted, bounds, inside_m)
        segments, outcome = _plan(wanted, origin, period_ticks, bounds, spline["knots"], spline["coefficients"], ends)
        if outcome < Outcome.STOP_ONLY:
            break
    if not np.isfinite(spline["coefficients"][:segments]).all():
        segments, outcome = 0, Outcome.REFUSED
    _finish(spline, segments, len(wanted))
    return Plan(spline, ends, outcome)


def plan_stop(
    start_q: Floats,
    start_dq: Floats,
    start_ddq: Floats,
    attach_tick: int,
    chunk_id: int,
    predecessor_id: int,
    generation: int,
    limits: npt.NDArray[np.void],
) -> Plan:
    """Plan the shortest smooth stop from the planned state [7] (rad, s) of the predecessor: STOP_ONLY or REFUSED.

    Joint accelerations go to zero first, then all joints come to rest together along a straight line. Never raises. The
    policy process and the environment call it.
    """
    origin = np.array([start_q, start_dq, start_ddq], np.float64)
    spline = _blank(attach_tick, chunk_id, predecessor_id, generation)
    segments = 0
    if np.isfinite(origin).all():
        segments, _ = _stop(origin, bounds_of(limits), spline["knots"], spline["coefficients"])
    _finish(spline, segments, 0)
    ends = np.array([0, spline["knots"][segments]], np.int64)
    return Plan(spline, ends, Outcome.STOP_ONLY if segments > 0 else Outcome.REFUSED)


def plan_path(
    q_start: Floats,
    waypoints: Floats,
    attach_tick: int,
    chunk_id: int,
    predecessor_id: int,
    generation: int,
    limits: npt.NDArray[np.void],
    speed: float = 1.0,
) -> Plan:
    """Plan a motion from rest at `q_start` [7] through joint waypoints [N, 7] (rad) to rest in the last one.

    `speed` in (0, 1] scales velocity, acceleration, jerk and tip speed. Raises MotionError if the path is malformed or no
    timing keeps it inside joint limits and guards; call it before motion. Any process may call it.
    """
    path, start = np.array(waypoints, np.float64), np.array(q_start, np.float64)
    if not 0.0 < speed <= 1.0:
        raise MotionError(f"the speed of a path is {speed:g}, it must be above 0 and at most 1: lower or raise it")
    if path.ndim != 2 or path.shape[1] != JOINTS or not 0 < len(path) <= MAX_SEGMENTS - PREFIX_ROWS:
        raise MotionError(
            f"a path has shape {path.shape}, it must be [N, {JOINTS}] with N from 1 to {MAX_SEGMENTS - PREFIX_ROWS} "
            "waypoints (rad): thin it out or split it"
        )
    if not (np.isfinite(path).all() and np.isfinite(start).all()):
        raise MotionError("a path holds joint angles (rad) that are not finite numbers: check where they come from")
    bounds = bounds_of(limits, speed)
    _require_inside(path, bounds)
    legs = np.max(np.abs(np.diff(path, axis=0, prepend=start[None])) / bounds.velocity_max, axis=1)
    natural = np.maximum(PATH_TICKS_MIN, np.ceil(legs / TICK_S)).astype(np.int64)
    spline = _blank(attach_tick, chunk_id, predecessor_id, generation)
    spline["knots"][0] = 0
    origin = np.zeros((3, JOINTS))
    origin[0] = start
    segments = fit(spline["knots"], spline["coefficients"], 0, origin, origin, path, natural, bounds, True)
    if segments == 0:
        raise MotionError(
            f"no timing within {PLAN_TICKS_MAX * TICK_S:.0f} s keeps this path inside joint limits (rad) and guards (m): "
            "move its waypoints further inside, add some or raise the speed"
        )
    _finish(spline, segments, len(path))
    ends = np.array(spline["knots"][: segments + 1])
    return Plan(spline, ends, Outcome.NATURAL if np.array_equal(np.diff(ends), natural) else Outcome.STRETCHED)


def _require_inside(path: Floats, bounds: Bounds) -> None:
    lower, upper = reach(bounds)
    for number, q in enumerate(path):
        for joint in range(JOINTS):
            if not lower[joint] <= q[joint] <= upper[joint]:
                raise MotionError(
                    f"waypoint {number} puts joint {joint + 1} at {q[joint]:.4f} rad, the limits are {lower[joint]:.4f} to "
                    f"{upper[joint]:.4f} rad: move the waypoint inside"
                )
        position, _ = forward(q, bounds.flange_t_tip)
        if np.any(position < bounds.box_min) or np.any(position > bounds.box_max):
            tip, low, high = (np.array2string(v, precision=3) for v in (position, bounds.box_min, bounds.box_max))
            raise MotionError(
                f"waypoint {number} puts the tip at {tip} m, the guards are {low} to {high} m: move the waypoint or the guards"
            )


def warm_up(limits: npt.NDArray[np.void]) -> None:
    """Compile (or load from the cache) every kernel of this module, so that none is compiled while the arm moves."""
    bounds = bounds_of(limits)
    lower, upper = reach(bounds)
    q = 0.5 * (lower + upper)
    still = np.zeros(JOINTS)
    targets = tip_delta_targets(np.zeros((2, 4)), q, bounds.flange_t_tip, q, limits)
    plan = plan_chunk(targets, q, still, still, 50, 0, 1, 0, 0, limits)
    plan_chunk(targets, q, still, still + 1e6, 50, 0, 1, 0, 0, limits)
    sample(plan.spline, 1)
    executed_action(q, q, bounds.flange_t_tip)
