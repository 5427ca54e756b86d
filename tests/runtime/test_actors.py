"""Whatever chooses chunks stands behind one seam: the session of an artifact, and the operator that sees what the sensor sees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from poco.artifact import Artifact
from poco.chunks import ChunkSequence
from poco.hw.emulator.tasks.peg_in_hole import GUARDS, PegInHole, Variant, parameters
from poco.hw.emulator.tasks.plant import SimulatedPlant
from poco.hw.task_signals import EmulatorSignals
from poco.limits import PLANNING_MARGINS, STEP_MARGINS, fr3_limits
from poco.noise import NoiseSource
from poco.records import ROBOT_STATE, TaskSignal
from poco.rollout import Rollout
from poco.runtime.actors import Actor, Moment, OperatorActor, PolicyActor
from poco.runtime.measures import Report
from poco.runtime.report import REPORT
from poco.runtime.run_folder import RunFolder
from poco.runtime.run_options import OPERATOR_SPECIFICATION
from poco.runtime.session import Session
from poco.specification import read_specification
from programs import Program

SPECIFICATION = read_specification(OPERATOR_SPECIFICATION)
EPISODES = 5


def outcome_of(actor: Actor, plant: SimulatedPlant, episode: int) -> str:
    """Run one episode with `actor` as the policy process does and return its outcome."""
    plant.reset(np.array(SPECIFICATION.rest_q))
    plant.task.place(episode)
    sequence = ChunkSequence(SPECIFICATION, fr3_limits(PLANNING_MARGINS, GUARDS, SPECIFICATION.tip))
    rollout = Rollout(plant, sequence, robot="arm", boot_epoch=1, episode=episode, episode_steps=80)
    observation, outcome, chunk = rollout.begin(0), "running", 0
    while outcome == "running":
        actions = actor.choose(Moment(episode, chunk, observation, rollout.state, rollout.signal))
        transition = rollout.step(actions)
        observation, outcome, chunk = transition.observation, transition.outcome, chunk + 1
    return outcome


@pytest.mark.parametrize("variant", ["easy", "hard"])
def test_the_operator_needs_only_the_sensor(variant: Variant) -> None:
    """With the sensor's noise, three times what the task has, the steady operator inserts the peg every time."""
    task = parameters(variant)
    noisy = replace(task, noise_m=3.0 * task.noise_m, noise_rad=3.0 * task.noise_rad)
    plant = SimulatedPlant(PegInHole(noisy), fr3_limits(STEP_MARGINS, GUARDS, SPECIFICATION.tip))
    operator = OperatorActor(SPECIFICATION, 0)
    assert [outcome_of(operator, plant, episode) for episode in range(EPISODES)] == ["success"] * EPISODES


def moment(specification_size: int, episode: int, chunk: int) -> Moment:
    """A moment with a random observation [specification_size]."""
    observation = np.random.default_rng(chunk).uniform(-1.0, 1.0, specification_size).astype(np.float32)
    signal = TaskSignal(
        tick=1, target_position=(0.5, 0.0, 0.05), target_yaw=0.0, noise_m=0.0, noise_rad=0.0, outcome="running"
    )
    return Moment(episode, chunk, observation, np.zeros((), ROBOT_STATE), signal)


def test_a_policy_chooses_what_its_session_gives(artifact: Artifact) -> None:
    """The chunk is the session's for observation and noise of the chunk; specification and generation are the artifact's."""
    actor, session, noise = PolicyActor(artifact, 7), Session(artifact), NoiseSource(7)
    assert (actor.specification, actor.generation) == (artifact.specification, artifact.manifest.generation)
    for episode, chunk in ((0, 0), (0, 1), (3, 1)):
        seen = moment(artifact.specification.observation_size, episode, chunk)
        expected = session.run(seen.observation, noise.sample(episode, chunk, session.noise_shape))
        np.testing.assert_array_equal(actor.choose(seen), expected)


def test_yaw_is_averaged_across_the_seam() -> None:
    """Readings on both sides of half a turn average to half a turn, and a new episode begins anew."""
    operator = OperatorActor(SPECIFICATION, 0)
    state = np.zeros((), ROBOT_STATE)
    state["q"] = state["q_c"] = SPECIFICATION.rest_q
    calm = moment(SPECIFICATION.observation_size, 0, 0)
    for chunk, yaw in enumerate((np.pi - 0.01, -np.pi + 0.01)):
        signal = msgspec.structs.replace(calm.signal, target_yaw=yaw)
        operator.choose(replace(calm, chunk=chunk, state=state, signal=signal))
    assert operator._lookout.sight.hole_yaw == pytest.approx(np.pi)
    operator.choose(replace(calm, episode=1, state=state))
    assert operator._lookout.sight.hole_yaw == 0.0


@pytest.fixture
def arm(tmp_path: Path) -> Iterator[str]:
    """The address of an emulated arm that was started by itself, in lockstep."""
    host = "127.0.12.11"
    emulator = Program("poco-emulator", "--host", host, "--pacing", "lockstep", folder=tmp_path / "emulator")
    try:
        emulator.until(lambda: "ready" in emulator.out)
        yield host
    finally:
        emulator.end()


def test_the_operator_runs_through_the_whole_path(arm: str, tmp_path: Path) -> None:
    """`--policy operator` through every process, on an arm that is there: all succeed, no reflex, no fault, steps on disk."""
    addresses = ["--robot", "franka", "--robot.host", arm, "--sensors", f"emulator://{arm}"]
    run = Program(
        "poco-runtime",
        *addresses,
        "--policy",
        "operator",
        "--episodes",
        "2",
        "--out",
        tmp_path / "run",
        folder=tmp_path,
    )
    assert (run.wait(), run.err) == (0, "")
    report = msgspec.json.decode((tmp_path / "run" / REPORT).read_bytes(), type=Report)
    assert (report.successes, report.finished, report.reflexes, report.faults) == (2, 2, [], [])
    assert (report.facts.artifact, report.facts.generation) == ("operator", 0)
    assert report.facts.specification_hash == SPECIFICATION.digest()
    assert len(list(RunFolder.open(tmp_path / "run").episodes.iterdir())) == 2
    with EmulatorSignals(arm) as signals:
        assert signals.status().mode == "idle"
