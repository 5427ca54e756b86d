"""Play is recorded in every scene, relabelled as the package judges it, cut where a task is done, and read from OGBench's files."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from poco.errors import ArtifactError, UsageError
from poco.learner import rollouts
from poco.learner.data_commands import import_data, make_data
from poco.learner.demonstrations import read_demonstrations
from poco.learner.tasks.ogbench_environment import OGBenchEnvironment
from poco.learner.tasks.ogbench_play import Play, Player
from poco.learner.tasks.ogbench_scenes import SCENES
from poco.specification import unscale

TASK = "poco.learner.tasks:poco/{}-task{}-v0"


@pytest.fixture(scope="module")
def play() -> Play:
    """Play with one cube, 60 steps."""
    return Player("cube-single", 60, 0.1, 7).record(0)


def write_npz(path: Path, plays: tuple[Play, ...]) -> None:
    """OGBench's layout: the last row of a play is its last state, with an action that belongs to nothing."""
    np.savez(
        path,
        observations=np.concatenate([play.observations for play in plays]).astype(np.float32),
        actions=np.concatenate([np.pad(play.actions, ((0, 1), (0, 0))) for play in plays]).astype(np.float32),
        terminals=np.concatenate([np.arange(len(play.qpos)) == len(play.actions) for play in plays]),
        qpos=np.concatenate([play.qpos for play in plays]),
    )


@pytest.mark.parametrize("scene", SCENES)
def test_play_is_recorded_in_every_scene(scene: str, tmp_path: Path) -> None:
    """make-data --play-steps: every step of the play is there, in bounds, with the rewards of the task, and moves the arm."""
    make_data(tmp_path, episodes=1, noise=0.1, task=TASK.format(scene, 1), play_steps=25)
    read = read_demonstrations(tmp_path)
    assert sum(len(episode.rewards) for episode in read.episodes) == 25
    assert read.specification.name == f"ogbench_{scene}_published"
    for episode in read.episodes:
        assert np.abs(episode.observations).max() <= 1.0
        assert -SCENES[scene].parts <= episode.rewards.min() <= episode.rewards.max() < 0.0
        assert (episode.end.truncated, episode.end.terminated) == (True, False)
        assert np.ptp(episode.actions_policy, axis=0)[:3].min() > 0.1


def test_rewards_are_those_of_the_task() -> None:
    """The scripted operator's own episode, relabelled from its states, has the rewards that the environment gave it."""
    task = OGBenchEnvironment("cube-single", 2)
    actor = rollouts.operator_actor(task, 0.1, 0.0, 0)
    observation, info = task.reset(seed=3)
    states, given, running, chunk = [task._info["qpos"]], [], True, 0
    while running:
        observation, reward, terminated, truncated, info = task.step(actor(observation, 3, chunk))
        states.append(task._info["qpos"])
        given.append(reward)
        running = not (terminated or truncated)
    assert info["outcome"] == "success"
    relabelled = task.published_rewards(np.array(states), np.zeros((len(states), 0)))
    np.testing.assert_array_equal(relabelled[:-1], given)


def test_play_is_cut_where_the_task_is_done(play: Play) -> None:
    """Rows 20 to 29 done: a piece that ends with the step from row 20, nothing while it stays done, a piece from row 30 on."""

    class Judged(OGBenchEnvironment):
        def published_rewards(self, qpos: object, button_states: object) -> np.ndarray:
            return np.where((np.arange(61) >= 20) & (np.arange(61) < 30), 0.0, -1.0)

    for reward, expected in (("published", [-1.0, 0.0]), ("success", [0.0, 1.0])):
        first, second = play.pieces(Judged("cube-single", 2, reward=reward))  # type: ignore[arg-type]
        assert (len(first.actions), first.success, first.terminated) == (21, True, True)
        assert first.rewards.tolist() == [expected[0]] * 20 + [expected[1]]
        assert (len(second.actions), second.success, set(second.rewards)) == (30, False, {expected[0]})
        task = OGBenchEnvironment("cube-single", 2)
        np.testing.assert_allclose(
            unscale(task.specification.observation, second.observations), play.observations[30:], atol=1e-9
        )
        np.testing.assert_array_equal(first.actions, play.actions[:21])


def test_play_resumes_and_repeats(tmp_path: Path) -> None:
    """Two plays at once equal one and then the other, byte for byte."""
    for name, episodes in (("whole", 2), ("parts", 1), ("parts", 2)):
        make_data(tmp_path / name, episodes=episodes, task=TASK.format("cube-single", 1), play_steps=12, resume=True)
    whole, parts = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("whole", "parts")
    )
    assert len(whole) == 3
    assert whole == parts


def test_plays_at_the_same_time_are_the_same(tmp_path: Path) -> None:
    """Two processes leave what one does, byte for byte; demonstrations have no use for them."""
    for workers in (1, 2):
        make_data(
            tmp_path / str(workers), episodes=3, task=TASK.format("cube-single", 1), play_steps=12, workers=workers
        )
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("1", "2"))
    assert len(one) == 4
    assert one == two
    with pytest.raises(UsageError, match="--workers is 2, but demonstrations"):
        make_data(tmp_path / "data", task=TASK.format("cube-single", 1), workers=2)


def test_a_file_of_ogbench_is_read(tmp_path: Path, play: Play) -> None:
    """Two plays in one npz become the same episodes as the plays themselves."""
    write_npz(tmp_path / "play.npz", (play, play))
    import_data(tmp_path / "play.npz", "ogbench", tmp_path / "out", task=TASK.format("cube-single", 2))
    episodes = read_demonstrations(tmp_path / "out").episodes
    assert [len(episode.rewards) for episode in episodes] == [60, 60]
    (piece,) = play.pieces(OGBenchEnvironment("cube-single", 2))
    for episode in episodes:
        np.testing.assert_allclose(episode.observations, piece.observations[:-1], atol=1e-6)
        np.testing.assert_allclose(episode.actions_policy, piece.actions, atol=1e-7)
        np.testing.assert_allclose(episode.end.final_observation, piece.observations[-1], atol=1e-6)


def test_damage_is_one_sentence(tmp_path: Path, play: Play) -> None:
    """Truncated file, another scene, NaN, a cut-off or short play, a missing column, no rows, and flags that do not belong."""
    path = tmp_path / "play.npz"

    def refused(match: str, scene: str = "cube-single", **changes: object) -> None:
        write_npz(path, (play,))
        if changes:
            with np.load(path) as archive:
                columns = {name: archive[name] for name in archive.files} | changes
            np.savez(path, **{name: column for name, column in columns.items() if column is not None})
        with pytest.raises(ArtifactError, match=match):
            import_data(path, "ogbench", tmp_path / "out", task=TASK.format(scene, 2))

    spoiled = play.observations.copy()
    spoiled[4, 2] = np.inf
    refused("observations is inf in step 4", observations=spoiled)
    refused("has shape .61, 28., expected .steps, 37.", "cube-double")
    refused("has no button_states", "scene")
    refused("has no qpos", qpos=None)
    refused("the last row is not terminal", terminals=np.zeros(61))
    refused("play 1 has 3 steps, a chunk of the task has 5", terminals=np.isin(np.arange(61), (56, 60)))
    refused("an action is 2", actions=np.full((61, 5), 2.0))
    refused("holds no steps", actions=np.zeros((0, 5)))
    refused("expected 61 rows", qpos=play.qpos[:-3])
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("observations.npy", b"\x93NUMPY\x01\x00\x08\x00{'desc(\n")
        for name in ("actions", "terminals", "qpos"):
            archive.writestr(f"{name}.npy", b"")
    with pytest.raises(ArtifactError, match="not a whole npz file"):
        import_data(path, "ogbench", tmp_path / "out", task=TASK.format("cube-single", 2))
    write_npz(path, (play,))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ArtifactError, match="not a whole npz file"):
        import_data(path, "ogbench", tmp_path / "out", task=TASK.format("cube-single", 2))
    with pytest.raises(UsageError, match="is no task of OGBench"):
        import_data(path, "ogbench", tmp_path / "out", task="CartPole-v1")
    with pytest.raises(UsageError, match="are for ogbench only"):
        import_data(path, "robomimic", tmp_path / "out", task="CartPole-v1")
    with pytest.raises(UsageError, match="play has neither"):
        make_data(tmp_path / "data", task=TASK.format("scene", 1), play_steps=10, bias_m=0.01)
    for noise, steps, match in (
        (1.5, 10, "noise of play"),
        (0.1, 0, "must be at least 1"),
        (0.1, 4, "is 4, a chunk of the task has 5"),
    ):
        with pytest.raises(UsageError, match=match):
            make_data(tmp_path / "data", task=TASK.format("scene", 1), play_steps=steps, noise=noise)
