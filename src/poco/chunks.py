"""The order of chunks in an episode: when to observe, where the next chunk attaches, which control periods lie between.

`rollout.Rollout` runs an episode with it, in the environment and on the robot alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from poco.gripping import set_widths
from poco.motion import Plan, plan_chunk, plan_stop, sample, tip_delta_targets
from poco.specification import Specification, unscale

Floats = npt.NDArray[np.float64]


STOP_DELAY_TICKS = 20
"""Time for planning and publishing a stop, in ticks of 1 ms."""


@dataclass(frozen=True, slots=True)
class Period:
    """One control period in robot ticks; `action` [action_size] in action units, None while the arm holds.

    `chunk_id`, `generation` and whether a person chose it are those of the chunk it belongs to.
    """

    start_tick: int
    end_tick: int
    action: Floats | None
    chunk_id: int
    generation: int
    human: bool


@dataclass(frozen=True, slots=True)
class _Attachment:
    """Where a chunk begins: motion state of its predecessor at the tick where it attaches."""

    tick: int
    q: Floats
    dq: Floats
    ddq: Floats
    predecessor_id: int


class ChunkSequence:
    """Plans the chunks of one episode, each attached to its predecessor's planned motion.

    At `observation_tick` the policy observes; the chunk it then gives attaches at `attach_tick`. `speed` in (0, 1] stretches
    every control period. `generation`, `human` (whether a person chooses), `execute_steps` (more than delay_steps, at most
    chunk_steps; the specification's at first) and speed may change between two chunks. `lead_ticks` is how far ahead of robot time
    commands are decided. Used by one thread of one process; never raises during motion.
    """

    def __init__(
        self,
        specification: Specification,
        limits: npt.NDArray[np.void],
        *,
        speed: float = 1.0,
        generation: int = 0,
        last_chunk_id: int = 0,
        lead_ticks: int = 0,
    ) -> None:
        self.specification = specification
        self.limits = limits
        self.pace(speed)
        self.generation = generation
        self.human = False
        self.execute_steps = specification.execute_steps
        self.last_chunk_id = last_chunk_id
        self._stop_delay_ticks = lead_ticks + STOP_DELAY_TICKS
        self.observation_tick = 0
        self.attach_tick = 0
        self._hold_q = np.array(specification.rest_q)
        self._plan: Plan | None = None
        self._tail: list[Period] = []
        self._under_way: list[Period] = []
        self._newest = _Attachment(0, self._hold_q, np.zeros(7), np.zeros(7), 0)

    def pace(self, speed: float) -> None:
        """Let the control periods of the chunks to come last as long as `speed` in (0, 1] asks for."""
        self.period_ticks = round(self.specification.period_ticks / speed)

    def begin(self, tick: int, q_hold: npt.ArrayLike) -> None:
        """Start from rest at `q_hold` [7] (rad, the commanded joints): observe at `tick`, attach delay_steps later."""
        delay, period = self.specification.delay_steps, self.period_ticks
        self._hold_q = np.array(q_hold, dtype=np.float64)
        self._plan = None
        self.observation_tick = tick
        self.attach_tick = tick + delay * period
        self._tail = [
            Period(tick + k * period, tick + (k + 1) * period, None, 0, self.generation, self.human)
            for k in range(delay)
        ]

    def plan(self, actions: npt.ArrayLike) -> tuple[Plan, list[Period]]:
        """Plan the chunk `actions` [chunk_steps, action_size] in action units and move on to the next observation.

        Returns the plan, ready to publish, and the periods between this observation tick and the next; a plan that is not
        usable comes without periods and changes nothing, the arm then stops at the end of the chunk it has.
        """
        self._newest = self._attachment()
        self.last_chunk_id += 1
        plan = self.rehearse(actions)
        if not plan.usable:
            return plan, []
        return plan, self._advance(plan, np.asarray(actions, dtype=np.float64))

    def rehearse(self, actions: npt.ArrayLike) -> Plan:
        """Return how `actions` [chunk_steps, action_size] would be moved where the newest chunk attaches; changes nothing."""
        specification, start = self.specification, self._newest
        physical = unscale(specification.action, actions)
        physical, widths_m = np.split(physical, [specification.action_size - specification.grips], axis=-1)
        if specification.action_space == "tip_delta":
            targets = tip_delta_targets(
                physical, start.q, specification.tip, np.array(specification.rest_q), self.limits
            )
        else:
            targets = physical
        if not np.isfinite(widths_m).all():
            targets = np.full_like(targets, np.nan)
        plan = plan_chunk(
            targets,
            start.q,
            start.dq,
            start.ddq,
            self.period_ticks,
            start.tick,
            self.last_chunk_id,
            start.predecessor_id,
            self.generation,
            self.limits,
        )
        if specification.grips:
            set_widths(plan, widths_m[..., 0])
        return plan

    def stop(self, tick: int) -> Plan | None:
        """Plan a stop soon after robot tick `tick` in place of what the last chunk still holds; None if the arm holds."""
        if self._plan is None:
            return None
        self.attach_tick = max(tick + self._stop_delay_ticks, int(self._plan.spline["attach_tick"]))
        at = self._attachment()
        self.last_chunk_id += 1
        return plan_stop(
            at.q, at.dq, at.ddq, at.tick, self.last_chunk_id, at.predecessor_id, self.generation, self.limits
        )

    def _attachment(self) -> _Attachment:
        if self._plan is None:
            return _Attachment(self.attach_tick, self._hold_q, np.zeros(7), np.zeros(7), 0)
        spline = self._plan.spline
        q, dq, ddq = sample(spline, self.attach_tick - int(spline["attach_tick"]))
        return _Attachment(self.attach_tick, q, dq, ddq, int(spline["chunk_id"]))

    def cut(self, periods: int) -> None:
        """Observe anew when `periods` of those that `plan` has returned are over, at least one; the rest of the chunk is let go.

        The arm goes on along it for delay_steps periods, where the next chunk attaches.
        """
        delay = self.specification.delay_steps
        self._tail = self._under_way[periods : periods + delay]
        self.observation_tick = self._under_way[periods - 1].end_tick
        self.attach_tick = self._under_way[periods + delay - 1].end_tick

    def _advance(self, plan: Plan, actions: Floats) -> list[Period]:
        ticks: list[int] = (self.attach_tick + plan.action_ticks).tolist()
        own = [
            Period(start, end, action, self.last_chunk_id, self.generation, self.human)
            for (start, end), action in zip(pairwise(ticks), actions, strict=True)
        ]
        self._plan, self._under_way = plan, self._tail + own
        self.cut(self.execute_steps)
        return self._under_way[: self.execute_steps]
