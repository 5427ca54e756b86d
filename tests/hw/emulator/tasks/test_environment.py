"""`poco/PegInHole-v0` keeps gymnasium's rules, poco's records and the arm's limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import pytest
from gymnasium.utils.env_checker import check_env

from oracle import Share, judge
from poco.episodes import read_episode, write_episode
from poco.errors import ArtifactError, UsageError
from poco.hw.emulator.tasks.peg_in_hole import GUARDS
from poco.hw.emulator.tasks.peg_in_hole_environment import PegInHoleEnvironment
from poco.records import Step

Floats = npt.NDArray[np.float64]


def smooth_chunks(environment: PegInHoleEnvironment, seed: int, count: int) -> Floats:
    """Return gentle chunks [count, chunk_steps, 4] in action units, all actions of a chunk alike."""
    steps = environment.specification.chunk_steps
    actions = np.random.default_rng(seed).uniform(-0.3, 0.3, (count, 1, 4))
    actions[..., 2] = np.abs(actions[..., 2])
    return np.broadcast_to(actions, (count, steps, 4))


def run(environment: PegInHoleEnvironment, chunks: Floats, seed: int) -> tuple[list[Step], list[bytes]]:
    """Reset with `seed`, execute `chunks`, return all steps and the observations' bytes."""
    observation, _ = environment.reset(seed=seed)
    steps, seen = [], [observation.tobytes()]
    for chunk in chunks:
        observation, _, terminated, truncated, info = environment.step(chunk.astype(np.float32))
        steps += info["steps"]
        seen.append(observation.tobytes())
        if terminated or truncated:
            break
    return steps, seen


@pytest.fixture
def environment() -> PegInHoleEnvironment:
    return PegInHoleEnvironment("easy")


def test_gymnasium_finds_and_accepts_it() -> None:
    """gymnasium makes the environment by its name and its checker has no complaint."""
    made = gymnasium.make("poco.hw.emulator.tasks:poco/PegInHole-v0", variant="hard")
    check_env(made.unwrapped, skip_render_check=True)
    assert made.observation_space.shape == (19,)
    assert made.action_space.shape == (8, 4)


def test_same_seed_same_steps(environment: PegInHoleEnvironment) -> None:
    """Two environments and two runs of one give the same steps and observations bit for bit; another seed does not."""
    chunks = np.random.default_rng(1).uniform(-1.0, 1.0, (6, environment.specification.chunk_steps, 4))
    first = run(environment, chunks, seed=5)
    other = PegInHoleEnvironment("easy")
    other.reset(seed=9)
    again = run(other, chunks, seed=5)
    assert first[1] == again[1]
    assert [(step.tick, step.observation, step.action_executed) for step in first[0]] == [
        (step.tick, step.observation, step.action_executed) for step in again[0]
    ]
    assert run(environment, chunks, seed=6)[1] != first[1]


def test_free_motion_executes_what_was_asked(environment: PegInHoleEnvironment) -> None:
    """Gentle actions in free space come back as executed actions, in order, after delay_steps of holding."""
    steps, _ = run(environment, smooth_chunks(environment, 2, 6), seed=0)
    delay, execute = environment.specification.delay_steps, environment.specification.execute_steps
    assert len(steps) == 6 * execute
    assert [step.chunk_id for step in steps] == [0] * delay + [1 + k // execute for k in range(6 * execute - delay)]
    assert [step.key.step for step in steps] == list(range(6 * execute))
    asked = np.array([step.action_policy for step in steps])
    done = np.array([step.action_executed for step in steps])
    assert (asked[:delay] == 0.0).all()
    np.testing.assert_allclose(done, asked, atol=1e-3)


def test_sent_commands_keep_the_limits(environment: PegInHoleEnvironment) -> None:
    """Random full-range chunks, contact included: no tick leaves the arm's limits nor the tip speed cap."""
    plant = environment._plant
    sent: list[Floats] = []
    wait = plant.wait

    def record(tick: int) -> npt.NDArray[np.void]:
        while plant.tick < tick:
            sent.append(wait(plant.tick + 1)["q_c"])
        return wait(tick)

    plant.wait = record  # type: ignore[method-assign]
    rough = np.random.default_rng(3).uniform(-1.0, 1.0, (12, environment.specification.chunk_steps, 4))
    rough[6:, :, 2] = -0.6
    for seed in range(3):
        sent.clear()
        run(environment, rough, seed)
        verdict = judge(np.array(sent), Share(), environment.specification.tip, GUARDS.speed_max_m_s)
        assert len(sent) > 1000
        assert verdict.clean, verdict


def test_hard_landing_is_a_reflex_and_a_failure(environment: PegInHoleEnvironment) -> None:
    """Driving full speed onto the block ends the episode as failure, as the arm's reflex would."""
    environment.reset(seed=0)
    environment.task.put(environment.task.hole_position + np.array([0.03, 0.0, 0.0]), 0.0)
    down = np.zeros((environment.specification.chunk_steps, 4), np.float32)
    down[:, 2] = -1.0
    for _ in range(10):
        _, reward, terminated, truncated, info = environment.step(down)
        if terminated or truncated:
            break
    assert (info["outcome"], terminated, truncated, reward) == ("failure", True, False, 0.0)
    assert info["end"].outcome == "failure"


def test_episode_is_cut_after_its_steps() -> None:
    """An episode without success is truncated after exactly episode_steps control periods."""
    environment = PegInHoleEnvironment("easy", episode_steps=12)
    steps, _ = run(environment, np.zeros((9, 8, 4)), seed=0)
    assert len(steps) == 12


def test_episode_file_holds_the_steps(environment: PegInHoleEnvironment, tmp_path: Path) -> None:
    """Steps and end of a successful episode fit the specification and survive the episode file unchanged."""
    operator = environment.operator(noise=0.1, bias=0.0, seed=1)
    observation, _ = environment.reset(seed=11)
    steps: list[Step] = []
    total, terminated = 0.0, False
    info: dict[str, Any] = {}
    while not terminated:
        observation, reward, terminated, _, info = environment.step(operator(observation))
        steps += info["steps"]
        total += reward
    assert info["outcome"] == "success"
    assert total == 1.0
    path = tmp_path / "episode.safetensors"
    write_episode(path, environment.specification, steps, info["end"])
    read = read_episode(path)
    assert read.steps == tuple(steps)
    assert read.end == info["end"]
    assert np.abs(read.observations).max() <= 1.0
    assert np.abs(read.actions_policy).max() <= 1.0


def test_delay_is_part_of_the_contract() -> None:
    """Another delay_steps gives another specification and the first chunk that much later."""
    slow = PegInHoleEnvironment("easy", delay_steps=3)
    assert slow.specification.digest() != PegInHoleEnvironment("easy").specification.digest()
    steps, _ = run(slow, np.full((2, 8, 4), 0.1), seed=0)
    assert [step.chunk_id for step in steps] == [0] * 3 + [1] * 5 + [2] * 2


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"variant": "no"}, UsageError),
        ({"episode_steps": 0}, UsageError),
        ({"delay_steps": 0}, UsageError),
        ({"delay_steps": 5}, ArtifactError),
    ],
)
def test_wrong_arguments_are_refused(wrong: dict[str, Any], error: type[Exception]) -> None:
    """A wrong argument is one sentence before anything moves."""
    with pytest.raises(error):
        PegInHoleEnvironment(**wrong)


def test_step_before_reset_is_refused(environment: PegInHoleEnvironment) -> None:
    """There is no episode to step in before the first reset."""
    with pytest.raises(UsageError, match="reset"):
        environment.step(np.zeros((8, 4), np.float32))
