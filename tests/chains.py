"""Random chains of chunks as a servo would receive them: random rates, lengths and targets, some late, some reordered."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

import oracle
from poco.limits import PLANNING_MARGINS, Guards, fr3_limits
from poco.motion import Outcome, Plan, plan_chunk, sample, tip_delta_targets

Floats = npt.NDArray[np.float64]
Record = npt.NDArray[np.void]

HOME = np.array([0.0, -np.pi / 4, 0.0, -3 * np.pi / 4, 0.0, np.pi / 2, np.pi / 4])
HAND = np.eye(4)
HAND[2, 3] = 0.1034
WIDE = Guards(box_min_m=(-1.5, -1.5, -0.6), box_max_m=(1.5, 1.5, 1.6), table_z_m=-0.6)
"""Guards that leave the whole joint space free, so that chains reach the joint limits."""

PERIODS_TICKS = (5, 10, 20, 33, 50, 50, 100)
FIRST_ATTACH_TICK = 10
NEAR_RAD = 0.1
KINDS = ("smooth", "noisy", "teleporting", "tip")
Seam = tuple[float, float, float]
State = tuple[Floats, Floats, Floats]


@dataclass
class Chain:
    """What one chain sends and what it must become on the arm."""

    start_q: Floats
    limits: Record
    guards: Guards
    presented: list[tuple[int, Record]] = field(default_factory=list)
    taken: list[Record] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    seams: list[Seam] = field(default_factory=list)
    late: int = 0
    reordered: int = 0

    def commands(self) -> Floats:
        """Return the positions [N, 7] of every tick until 5 ticks after everything is over, by the oracle's evaluation."""
        last = self.taken[-1]
        over = max(int(last["attach_tick"] + last["knots"][last["segments"]]), self.presented[-1][0])
        result = np.repeat(self.start_q[None], over + 6, axis=0)
        for spline in self.taken:
            attach, segments = int(spline["attach_tick"]), int(spline["segments"])
            ticks = np.arange(len(result) - attach)
            result[attach:] = oracle.positions(
                spline["knots"][: segments + 1], spline["coefficients"][:segments], ticks
            )
        return result

    def near_limits(self) -> int:
        """Return how many attached chunks come within NEAR_RAD of a planning limit of some joint before they are left."""
        commands, count = self.commands(), 0
        begins = [int(spline["attach_tick"]) for spline in self.taken]
        for begin, end in zip(begins, [*begins[1:], len(commands)], strict=True):
            q = commands[begin:end]
            room = np.minimum(q - self.limits["position_min"], self.limits["position_max"] - q)
            count += int(np.min(room) < NEAR_RAD)
        return count


def _start(generator: np.random.Generator, limits: Record, wide: bool) -> Floats:
    if not wide:
        return HOME + generator.uniform(-0.15, 0.15, 7)
    lower, upper = limits["position_min"] + 0.05, limits["position_max"] - 0.05
    q: Floats = generator.uniform(lower, upper)
    near = generator.random(7) < 0.4
    q[near] = np.where(generator.random(7) < 0.5, lower, upper)[near]
    return q


def _targets(generator: np.random.Generator, kind: str, base: State, period: int, limits: Record) -> Floats:
    count, seconds = int(generator.integers(1, 11)), period * 1e-3
    start, velocity, _ = base
    if kind == "tip":
        pace = generator.choice([0.03, 0.1, 0.4]) * seconds
        actions = pace * generator.normal(size=4) + 0.3 * pace * generator.normal(size=(count, 4))
        targets: Floats = tip_delta_targets(actions, start, HAND, HOME, limits)
        return targets
    if kind == "teleporting":
        jumps: Floats = generator.normal(scale=generator.choice([0.05, 0.1, 0.4]), size=(count, 7)) * (
            generator.random((count, 1)) < 0.5
        )
        return start + jumps * (generator.random((count, 1)) < 0.5)
    times = np.arange(1, count + 1)[:, None] * seconds
    if kind == "noisy":
        pace = float(generator.choice([0.05, 0.2, 1.0]))
        noisy: Floats = times * generator.normal(size=7) + 0.2 * seconds * generator.normal(size=(count, 7))
        return start + pace * noisy
    change = 0.1 * generator.normal(size=7) - 0.5 * velocity
    path: Floats = start + times * velocity + change * times * np.minimum(1.0, times / 0.3)
    return path


def build(generator: np.random.Generator, chunks: int) -> Chain:
    """Return a chain of `chunks` planned chunks, whatever became of each."""
    wide = bool(generator.random() < 0.6)
    guards = WIDE if wide else Guards()
    limits = fr3_limits(PLANNING_MARGINS, guards, HAND)
    chain = Chain(_start(generator, limits, wide), limits, guards)
    follow: tuple[Plan, int] | None = None
    chunk_id = 0
    earliest = FIRST_ATTACH_TICK
    for _ in range(chunks):
        chunk_id += 2
        if follow is None:
            base, attach, predecessor = (chain.start_q, np.zeros(7), np.zeros(7)), earliest, 0
        else:
            plan, ended = follow
            base = sample(plan.spline, ended)
            attach, predecessor = int(plan.spline["attach_tick"]) + ended, int(plan.spline["chunk_id"])
        period = int(generator.choice(PERIODS_TICKS))
        kind = str(generator.choice(KINDS if not wide else KINDS[:3]))
        targets = _targets(generator, kind, base, period, limits)
        plan = plan_chunk(targets, *base, period, attach, chunk_id, predecessor, 1, limits)
        chain.outcomes.append(plan.outcome)
        chain.kinds.append(kind)
        late = follow is not None and generator.random() < 0.08
        if not plan.usable or late:
            if plan.usable:
                chain.late += 1
                earliest = attach + 4
                chain.presented.append((earliest - 1, plan.spline))
            if follow is not None:
                predecessor_ends = int(follow[0].spline["knots"][follow[0].spline["segments"]])
                follow = follow[0], max(follow[1], predecessor_ends) + 5
            continue
        presented_tick = max(earliest, attach - int(generator.integers(0, 15)))
        chain.presented.append((presented_tick, plan.spline))
        if generator.random() < 0.08:
            old = plan.spline.copy()
            old["chunk_id"], old["attach_tick"], old["predecessor_id"] = chunk_id - 1, attach + 2, 0
            chain.presented.append((attach + 1, old))
            chain.reordered += 1
        began = sample(plan.spline, 0)
        chain.seams.append(
            (
                float(np.max(np.abs(began[0] - base[0]))),
                float(np.max(np.abs(began[1] - base[1]))),
                float(np.max(np.abs(began[2] - base[2]))),
            )
        )
        chain.taken.append(plan.spline)
        ended = int(generator.integers(1, min(4, len(plan.action_ticks))))
        follow = plan, int(plan.action_ticks[ended])
        earliest = attach + 2
    return chain
