"""One episode on the simulated arm: steps tile it, what is lost is braked and resumed from rest, every ending is told."""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from poco.chunks import ChunkSequence
from poco.hw.emulator.tasks.peg_in_hole import EASY, GUARDS, PegInHole
from poco.hw.emulator.tasks.plant import SimulatedPlant
from poco.limits import PLANNING_MARGINS, STEP_MARGINS, fr3_limits
from poco.records import Step
from poco.rollout import Rollout, Transition
from poco.specification import read_specification
from poco.trouble import BY_NAME, Mode

CONFIG = Path(__file__).parent.parent / "configs" / "peg_in_hole_specification.yaml"
SPECIFICATION = read_specification(CONFIG)
TIP = SPECIFICATION.tip
CALM = np.tile([0.1, 0.05, -0.1, 0.0], (SPECIFICATION.chunk_steps, 1))

Floats = npt.NDArray[np.float64]
Record = npt.NDArray[np.void]


class LossyPlant(SimulatedPlant):
    """The simulated arm behind a memory in which the publications numbered in `lost` (from 0) never arrive."""

    def __init__(self, lost: Collection[int] = ()) -> None:
        super().__init__(PegInHole(EASY), fr3_limits(STEP_MARGINS, GUARDS, TIP))
        self.reset(np.array(SPECIFICATION.rest_q))
        self.lost, self.published = lost, 0

    def publish(self, spline: Record) -> None:
        """Offer a CHUNK_SPLINE record to the servo unless it is to be lost."""
        if self.published not in self.lost:
            super().publish(spline)
        self.published += 1


def rollout_on(
    plant: LossyPlant, delay_steps: int = 1, speed: float = 1.0, episode_steps: int = 1000
) -> tuple[Rollout, ChunkSequence]:
    """An episode that has begun at tick 0."""
    specification = msgspec.structs.replace(SPECIFICATION, delay_steps=delay_steps)
    sequence = ChunkSequence(specification, fr3_limits(PLANNING_MARGINS, GUARDS, TIP), speed=speed)
    rollout = Rollout(plant, sequence, robot="arm", boot_epoch=1, episode=7, episode_steps=episode_steps)
    rollout.begin(0)
    return rollout, sequence


def steps_of(transitions: list[Transition]) -> list[Step]:
    """All steps in order."""
    return [step for transition in transitions for step in transition.steps]


@pytest.mark.parametrize(("delay_steps", "speed"), [(1, 1.0), (2, 1.0), (3, 1.0), (1, 0.5)])
def test_steps_tile_the_episode(delay_steps: int, speed: float) -> None:
    """Uninterrupted, every step begins where the last ended; calm actions are executed as they were asked for."""
    plant = LossyPlant()
    rollout, sequence = rollout_on(plant, delay_steps, speed)
    transitions = [rollout.step(CALM) for _ in range(4)]
    assert [(item.outcome, item.interrupted) for item in transitions] == [("running", False)] * 4
    steps = steps_of(transitions)
    assert [step.key.step for step in steps] == list(range(4 * sequence.specification.execute_steps))
    assert [step.tick for step in steps] == [k * sequence.period_ticks for k in range(len(steps))]
    assert plant.tick == sequence.observation_tick == len(steps) * sequence.period_ticks
    assert [step.chunk_id for step in steps[:delay_steps]] == [0] * delay_steps
    for step in steps[:delay_steps]:
        assert np.abs(step.action_executed).max() < 1e-6
    asked = np.array([step.action_policy for step in steps])
    executed = np.array([step.action_executed for step in steps])
    np.testing.assert_allclose(executed, asked, atol=0.02)


def test_a_lost_chunk_is_resumed_from_rest() -> None:
    """The arm stops at the end of the chunk it has; the next chunk attaches to that hold and the steps go on counting."""
    plant = LossyPlant(lost=[2])
    rollout, _ = rollout_on(plant)
    transitions = [rollout.step(CALM) for _ in range(5)]
    assert [item.interrupted for item in transitions] == [False, False, True, False, False]
    assert {item.outcome for item in transitions} == {"running"}
    assert int(transitions[3].plan.spline["predecessor_id"]) == 0
    steps = steps_of(transitions)
    assert [step.key.step for step in steps] == list(range(len(steps)))
    assert all(after.tick > before.tick for before, after in pairwise(steps))
    resumed = transitions[3].steps[0]
    assert resumed.chunk_id == 0
    assert np.abs(resumed.action_executed).max() < 1e-6
    assert int(plant.report()["mode"]) == Mode.FOLLOWING


def test_lost_chunks_everywhere() -> None:
    """However many chunks are lost, whatever the delay: no fault, no breach of the step's limits, no step twice."""
    for seed in range(3):
        generator = np.random.default_rng(seed)
        lost = np.flatnonzero(generator.random(12) < 0.3).tolist()
        plant = LossyPlant(lost)
        rollout, _ = rollout_on(plant, delay_steps=1 + seed)
        transitions = [rollout.step(np.clip(0.2 * generator.normal(size=CALM.shape), -1, 1)) for _ in range(12)]
        assert {item.outcome for item in transitions} == {"running"}
        assert sum(item.interrupted for item in transitions) >= 1
        ticks = [step.tick for step in steps_of(transitions)]
        assert len(set(ticks)) == len(ticks)
        assert int(plant.report()["fault"]) == 0


def test_actions_that_are_not_finite_latch_a_fault() -> None:
    """A chunk with a NaN ends the episode as a fault that says so, with no step for it."""
    plant = LossyPlant()
    rollout, _ = rollout_on(plant)
    rollout.step(CALM)
    broken = CALM.copy()
    broken[3, 1] = np.nan
    transition = rollout.step(broken)
    assert (transition.outcome, transition.steps) == ("fault", ())
    assert int(plant.report()["fault"]) == BY_NAME["chunk_not_finite"].code
    end = rollout.end(transition.outcome)
    assert (end.outcome, end.terminated, end.truncated, end.labels["reason"]) == ("failure", True, False, "fault")


def test_truncation() -> None:
    """After episode_steps control periods the episode is truncated, in the middle of a chunk too."""
    rollout, sequence = rollout_on(LossyPlant(), episode_steps=7)
    transitions = [rollout.step(CALM), rollout.step(CALM)]
    assert [item.outcome for item in transitions] == ["running", "truncated"]
    assert len(steps_of(transitions)) == 7
    end = rollout.end("truncated")
    assert (end.outcome, end.terminated, end.truncated, end.tick) == ("failure", False, True, 7 * sequence.period_ticks)


def test_stop_ends_in_a_hold() -> None:
    """`stop` brings the arm to rest earlier than the chunk would have, without any trouble."""
    plant = LossyPlant()
    rollout, _ = rollout_on(plant)
    last = rollout.step(CALM).plan.spline
    rollout.stop()
    planned_end = int(last["attach_tick"]) + int(last["knots"][int(last["segments"])])
    state = plant.wait(planned_end - 40)
    assert int(state["mode"]) == Mode.HOLDING
    assert np.abs(state["dq_c"]).max() == 0.0
    assert int(state["fault"]) == 0


def test_hold_observes_anew() -> None:
    """Without a chunk the arm comes to rest, and the observation is that of the tick in which it holds."""
    plant = LossyPlant()
    rollout, sequence = rollout_on(plant)
    before = rollout.step(CALM).observation
    outcome, observation = rollout.hold()
    assert outcome == "running"
    assert not np.array_equal(before, observation)
    assert sequence.observation_tick == plant.tick
    assert int(plant.report()["mode"]) == Mode.HOLDING
