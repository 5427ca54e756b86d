"""What a chunk asks of the gripper, and when the gripper is told: the same for the robot and for a simulation of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from poco.clock import TICKS_PER_SECOND
from poco.motion import Outcome, Plan
from poco.settings import GripperSettings

Floats = npt.NDArray[np.float64]
Record = npt.NDArray[np.void]
Ending = Literal["done", "missed", "stopped", "failed"]

ATTACH_GRACE_TICKS = 20
"""So long after its attachment a chunk may still be unseen in the arm's state; later it counts as dropped."""


def set_widths(plan: Plan, widths_m: Floats) -> None:
    """Write the widths [T] of a chunk's actions into its spline, each for the segments in which its action is executed.

    A plan that ends in a stop before its first action asks nothing of the gripper. Policy process and environment.
    """
    if plan.outcome >= Outcome.STOP_ONLY:
        return
    segments = int(plan.spline["segments"])
    action = np.searchsorted(plan.action_ticks[1:], plan.spline["knots"][:segments], side="right")
    plan.spline["gripper"][:segments] = widths_m[np.minimum(action, len(widths_m) - 1)]


class Timetable:
    """Which width the newest chunks ask for at a robot tick; remembers the chunk in execution and the one that is to follow it."""

    def __init__(self) -> None:
        self._chunks: list[Record] = []

    def add(self, chunk: Record) -> None:
        """Take in the newest CHUNK_SPLINE record, which may be known already."""
        if not self._chunks or int(self._chunks[-1]["chunk_id"]) != int(chunk["chunk_id"]):
            self._chunks = [*self._chunks[-1:], chunk]

    def width_m(self, now: int, following_id: int, lead_ticks: int) -> float:
        """Return the width asked for `lead_ticks` after robot tick `now`, NaN for none.

        `following_id` is the chunk that the arm is executing; one that should be and is not was dropped, and asks for nothing.
        """
        for chunk in reversed(self._chunks):
            attach, then = int(chunk["attach_tick"]), now + lead_ticks
            trusted = int(chunk["chunk_id"]) == following_id or now < attach + ATTACH_GRACE_TICKS
            if trusted and then >= attach:
                segments = int(chunk["segments"])
                segment = int(np.searchsorted(chunk["knots"][: segments + 1], then - attach, side="right")) - 1
                return float(chunk["gripper"][min(segment, segments - 1)]) if segments else float("nan")
        return float("nan")


@dataclass(frozen=True, slots=True)
class Order:
    """What the gripper is told: to grasp whatever is there, or to move its fingers `width_m` apart."""

    kind: Literal["grasp", "move"]
    width_m: float


class GripperWill:
    """Turns the width that is asked for now into an order, if it is a new one; the same for the robot and for a simulation."""

    def __init__(self, settings: GripperSettings) -> None:
        self._settings = settings
        self.told_m = float("nan")

    @property
    def lead_ticks(self) -> int:
        """How long before its tick a target is ordered."""
        return round(self._settings.lead_s * TICKS_PER_SECOND)

    def order(self, target_m: float, width_max_m: float) -> Order | None:
        """Return what the gripper is to be told now, None for nothing new; `target_m` NaN asks for nothing."""
        settings = self._settings
        if np.isnan(target_m):
            return None
        closed = self.told_m == 0.0
        bound_m = settings.close_below_m + (settings.hysteresis_m if closed else 0.0)
        wanted_m = 0.0 if target_m < bound_m else min(target_m, width_max_m)
        alike = closed == (wanted_m == 0.0)
        if alike and abs(wanted_m - self.told_m) <= settings.hysteresis_m:
            return None
        self.told_m = wanted_m
        return Order("grasp", 0.0) if wanted_m == 0.0 else Order("move", wanted_m)

    def forget(self) -> None:
        """The last order came to nothing: the next target counts as new."""
        self.told_m = float("nan")


@dataclass(frozen=True, slots=True)
class HandReading:
    """What the hand says: distance of its fingers and the largest that homing found (m), whether it holds something."""

    width_m: float
    width_max_m: float
    grasped: bool


class Hand(Protocol):
    """One connection to the gripper of an arm, whatever it is behind; belongs to one thread of one process."""

    @property
    def facts(self) -> dict[str, str]:
        """What is at the other end, for a person."""

    def read(self) -> HandReading:
        """Return the next state; raises GripperError when there is none for 1 s."""

    def home(self) -> None:
        """See to it that the largest width is known; may block for seconds. Raises GripperError if it is not."""

    def execute(self, order: Order, settings: GripperSettings) -> tuple[Ending, str]:
        """Do `order` and say what became of it and why; blocks until it has ended. Never raises."""

    def stop(self, order: Order) -> str:
        """Stop `order`, which another connection has begun; return why that was not possible, empty if it was. Never raises."""
