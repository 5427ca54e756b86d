"""Policies that pass the gate and are bad all the same: which of them lose the arm, where, and which stay inside every bound."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

import msgspec
import numpy as np
import pytest

from bad_policies import KINDS
from poco.artifact import read_artifact
from poco.succession import Floats
from programs import ARTIFACT
from trial_robot import TrialRobot, next_offer
from workshop import Workshop

SEEDS = 5
QUICK = ("random_output", "frozen", "blind_to_the_hole", "not_finite_at_rest", "lift")
HARMLESS = frozenset({"jumpy", "spin"})
"""Kinds that stay inside every bound, now and then or always: they do the task as often as the active policy."""


@pytest.fixture
def robot(tmp_path: Path) -> TrialRobot:
    """A robot that knows how well its active generation does."""
    workshop = Workshop(read_artifact(ARTIFACT), tmp_path)
    made = TrialRobot(workshop, workshop.options.settings.swap)
    assert made.baseline() >= 8
    return made


def spoilt(workshop: Workshop, kind: str, seed: int) -> dict[str, Floats]:
    """The shipped policy gone wrong in the way of `kind`."""
    tensors: dict[str, Floats] = {key: tensor.astype(np.float32) for key, tensor in workshop.artifact.tensors.items()}
    KINDS[kind](tensors, np.random.default_rng(seed), workshop.artifact.specification)
    return tensors


def decide(robot: TrialRobot, kind: str, seed: int, generation: int) -> str:
    """What became of one bad policy; the robot drives on with what was active before."""
    offer = next_offer(robot.workshop, generation, trained=spoilt(robot.workshop, kind, seed))
    decided = robot.try_out(offer)
    assert robot.used_chunks_finite
    if decided == "active":
        robot.actor.swap.roll_back()
    assert robot.actor.generation == robot.workshop.artifact.manifest.generation
    return decided


def test_good_generations_pass(robot: TrialRobot) -> None:
    """A small step of training passes shadow and probation and becomes active."""
    assert robot.try_out(next_offer(robot.workshop, 2)) == "active"
    assert robot.actor.generation == 2


def test_bad_ones_lose_the_arm(robot: TrialRobot) -> None:
    """One seed of a few kinds: none becomes active."""
    decided = {kind: decide(robot, kind, 0, 2 + number) for number, kind in enumerate(QUICK)}
    assert "active" not in decided.values(), decided


def test_a_chunk_that_is_not_finite_is_never_used(tmp_path: Path) -> None:
    """Without shadow it gets as far as driving: its first unusable chunk costs it the arm, and the old policy gives that chunk."""
    workshop = Workshop(read_artifact(ARTIFACT), tmp_path)
    robot = TrialRobot(workshop, msgspec.structs.replace(workshop.options.settings.swap, shadow_chunks=0))
    decided = decide(robot, "not_finite_at_rest", 0, 2)
    assert decided.startswith("probation: not finite")


@pytest.mark.proof
@pytest.mark.timeout(3600)
def test_every_kind_of_bad_policy(tmp_path: Path) -> None:
    """Twenty kinds, five seeds each: prints what stopped each, and only harmless kinds become active.

    POCO_COUNT kinds (all) from number POCO_SEED (0) on; a robot goes on to the next seed as long as none has become active.
    """
    count, first = int(os.environ.get("POCO_COUNT", str(len(KINDS)))), int(os.environ.get("POCO_SEED", "0"))
    stopped = defaultdict(list)
    for kind in list(KINDS)[first : first + count]:
        decided = "active"
        for seed in range(SEEDS):
            if decided == "active":
                workshop = Workshop(read_artifact(ARTIFACT), tmp_path / f"{kind}-{seed}")
                robot = TrialRobot(workshop, workshop.options.settings.swap)
                robot.baseline()
            decided = decide(robot, kind, seed, 2 + seed)
            stopped[kind].append(decided)
    for kind, decisions in stopped.items():
        print(f"{kind}: {', '.join(sorted({decision.partition(':')[0] for decision in decisions}))}; {decisions[0]}")
    assert {kind for kind, decisions in stopped.items() if "active" in decisions} <= HARMLESS
