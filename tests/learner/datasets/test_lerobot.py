"""A LeRobotDataset v3 is written, comes back as it was, and those of others are read and checked."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from poco.episodes import Episode, read_episode, write_episode
from poco.errors import ArtifactError, UsageError
from poco.learner.data_commands import export_data, import_data
from poco.learner.datasets import lerobot_writer
from poco.learner.demonstrations import read_demonstrations
from poco.specification import unscale
from poco.views import Views
from recorded import write_lerobot


@pytest.fixture
def exported(tmp_path: Path, demonstrations: tuple[Episode, ...], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve episodes over several data files, since a file is full after 4 kB here."""
    monkeypatch.setattr(lerobot_writer, "FILE_BYTES", 4000)
    (tmp_path / "data").mkdir()
    for number, episode in enumerate(demonstrations):
        path = tmp_path / "data" / f"{number:06d}.safetensors"
        write_episode(path, episode.specification, episode.steps, episode.end)
    export_data(tmp_path / "data", tmp_path / "lerobot", "reach")
    return tmp_path / "lerobot"


def test_episodes_come_back_as_they_were(exported: Path, tmp_path: Path, demonstrations: tuple[Episode, ...]) -> None:
    """Specification, ends, keys, ticks and rewards exactly; observations and actions to the rounding of float32 in their units."""
    import_data(exported, "lerobot", tmp_path / "back")
    files = sorted((tmp_path / "back").glob("*.safetensors"))
    assert len(files) == 12
    for file, episode in zip(files, demonstrations, strict=True):
        back = read_episode(file)
        assert (back.specification, back.end) == (episode.specification, episode.end)
        for one, other in zip(back.steps, episode.steps, strict=True):
            assert (one.key, one.tick, one.chunk_id, one.generation) == (
                other.key,
                other.tick,
                other.chunk_id,
                other.generation,
            )
            assert (one.reward, one.intervened) == (other.reward, other.intervened)
        np.testing.assert_allclose(back.observations, episode.observations, atol=3e-7)
        np.testing.assert_allclose(back.actions_policy, episode.actions_policy, atol=3e-7)


def test_images_come_back_as_they_were(
    tmp_path: Path, demonstrations: tuple[Episode, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Bit for bit, those of the end and the target included; as PNG of the features and statistics that LeRobot gives images."""
    draw, side = np.random.default_rng(0), 16
    (tmp_path / "data").mkdir()
    shown = []
    for number, episode in enumerate(demonstrations[:3]):
        count = len(episode.steps) + 1
        images = draw.integers(0, 256, (count, 2, 3, side, side), np.uint8)
        shown.append(Views(("near", "wrist"), images, draw.uniform(-1, 1, (count, 4)).astype(np.float32)))
        path = tmp_path / "data" / f"{number:06d}.safetensors"
        write_episode(path, episode.specification, episode.steps, episode.end, shown[-1])
    export_data(tmp_path / "data", tmp_path / "lerobot", "reach")
    assert json.loads(capsys.readouterr().out)["cameras"] == ["near", "wrist"]
    import_data(tmp_path / "lerobot", "lerobot", tmp_path / "back")
    for file, views in zip(sorted((tmp_path / "back").glob("*.safetensors")), shown, strict=True):
        back = read_episode(file).views
        assert back is not None
        assert back.cameras == views.cameras
        np.testing.assert_array_equal(back.images, views.images)
        np.testing.assert_array_equal(back.target, views.target)
    feature = json.loads((tmp_path / "lerobot/meta/info.json").read_text())["features"]["observation.images.wrist"]
    assert feature == {"dtype": "image", "shape": [side, side, 3], "names": ["height", "width", "channels"]}
    seen = np.concatenate([views.images[:-1, 1] for views in shown]) / 255.0
    statistics = json.loads((tmp_path / "lerobot/meta/stats.json").read_text())["observation.images.wrist"]
    for name in ("min", "max", "mean", "std"):
        expected = getattr(seen, name)(axis=(0, 2, 3), keepdims=True)[0]
        np.testing.assert_allclose(statistics[name], expected, atol=1e-9)
    assert statistics["count"] == [len(seen)]
    with pytest.raises(UsageError, match="16 pixels each way: leave it out"):
        import_data(tmp_path / "lerobot", "lerobot", tmp_path / "other", image_side=32)
    bare = demonstrations[3]
    write_episode(tmp_path / "data" / "000009.safetensors", bare.specification, bare.steps, bare.end)
    with pytest.raises(ArtifactError, match="differs in what cameras saw"):
        export_data(tmp_path / "data", tmp_path / "mixed")


def test_the_layout_is_the_published_one(exported: Path, demonstrations: tuple[Episode, ...]) -> None:
    """Tables, indices and statistics agree with info.json, and with the rows computed at once."""
    info = json.loads((exported / "meta/info.json").read_text())
    assert (info["codebase_version"], info["fps"], info["total_episodes"], info["total_frames"]) == (
        "v3.0",
        20,
        12,
        180,
    )
    files = sorted((exported / "data").glob("*/*.parquet"))
    assert len(files) > 1
    table = pa.concat_tables(pq.read_table(file) for file in files)
    assert set(table.column_names) == set(info["features"])
    assert table.column("index").to_pylist() == list(range(180))
    rows = pq.read_table(exported / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [row["dataset_to_index"] for row in rows] == list(range(15, 181, 15))
    assert sorted({row["data/file_index"] for row in rows}) == list(range(len(files)))
    tasks = pq.read_table(exported / "meta/tasks.parquet")
    assert tasks.to_pylist() == [{"task_index": 0, "task": "reach"}]
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]
    state = np.array(table.column("observation.state").to_pylist())
    raw = np.concatenate([unscale(one.specification.observation, one.observations) for one in demonstrations])
    np.testing.assert_allclose(state, raw, atol=1e-6)
    statistics = json.loads((exported / "meta/stats.json").read_text())["observation.state"]
    for key, value in (("min", state.min(0)), ("max", state.max(0)), ("mean", state.mean(0)), ("std", state.std(0))):
        np.testing.assert_allclose(statistics[key], value, atol=1e-6)
    assert statistics["count"] == [180]


def test_data_of_others_become_demonstrations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """30 Hz, bounds from the data; the last frame is what the last action led to; camera and whole numbers are left out, named."""
    write_lerobot(tmp_path / "lerobot")
    info = tmp_path / "lerobot/meta/info.json"
    told = json.loads(info.read_text())
    told["features"]["observation.mode"] = {"dtype": "int64", "shape": [1]}
    info.write_text(json.dumps(told))
    import_data(tmp_path / "lerobot", "lerobot", tmp_path / "out")
    assert '"left_out": ["observation.images.top", "observation.mode"]' in capsys.readouterr().out
    read = read_demonstrations(tmp_path / "out")
    spec = read.specification
    assert (spec.name, spec.rate_hz, spec.observation_size, spec.action_size) == ("lerobot_so101", 30, 3, 2)
    assert [len(episode.rewards) for episode in read.episodes] == [8, 11]
    recorded = np.array(pq.read_table(tmp_path / "lerobot/data")["observation.state"].to_pylist())
    seen = unscale(spec.observation, [*read.episodes[0].observations, read.episodes[0].end.final_observation])
    np.testing.assert_allclose(seen, recorded[:9], atol=1e-6)
    assert [episode.rewards[-1] for episode in read.episodes] == [1.0, 1.0]
    assert np.abs(read.episodes[1].observations).max() < 1.0


def test_the_reward_of_the_last_frame_is_kept(tmp_path: Path) -> None:
    """A reward that comes with the last frame alone, as in sparse tasks, goes to the last step; a failure keeps its own."""
    numbers = {"dtype": "float32", "shape": [1]}
    write_lerobot(tmp_path / "lerobot")
    place, info = tmp_path / "lerobot/data/chunk-000/file-000.parquet", tmp_path / "lerobot/meta/info.json"
    told = json.loads(info.read_text())
    told["features"] |= {"next.reward": numbers, "next.success": {**numbers, "dtype": "bool"}}
    info.write_text(json.dumps(told))
    rewards = np.full(21, -1.0, np.float32)
    rewards[8] = 0.0
    table = pq.read_table(place).append_column("next.reward", pa.array(rewards))
    pq.write_table(table.append_column("next.success", pa.array(rewards == 0.0)), place)
    import_data(tmp_path / "lerobot", "lerobot", tmp_path / "out")
    done, failed = read_demonstrations(tmp_path / "out").episodes
    assert (done.end.outcome, failed.end.outcome) == ("success", "failure")
    np.testing.assert_array_equal(done.rewards, [-1.0] * 7 + [0.0])
    np.testing.assert_array_equal(failed.rewards, [-1.0] * 11)


def test_damage_is_one_sentence(tmp_path: Path) -> None:
    """Another version or place, no numbers, NaN, wrong shape, short, empty, truncated, a folder that is none."""
    out = tmp_path / "out"

    def refused(match: str, lengths: tuple[int, ...] = (9, 12), chunk_steps: int = 5, **changes: object) -> None:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        write_lerobot(folder, lengths, **changes)
        with pytest.raises(ArtifactError, match=match):
            import_data(folder, "lerobot", out, chunk_steps=chunk_steps, resume=True)

    state = {"dtype": "float32", "shape": [3]}
    action = {"dtype": "float32", "shape": [2]}
    refused("poco reads v3", codebase_version="v2.1")
    refused("keeps its data in", data_path="../{chunk_index.__class__}")
    refused("learns from numbers", features={"action": action})
    refused(
        "observation.state has shape .* expected .steps, 4.",
        features={"observation.state": {**state, "shape": [4]}, "action": action},
    )
    refused("a feature without shape", features={"observation.state": {**state, "shape": []}})
    refused("a chunk has 5", lengths=(5, 12))
    refused("at least 1", lengths=(0, 12))
    refused("holds no episodes", lengths=())
    folder = tmp_path / "damaged"
    write_lerobot(folder)
    place = folder / "data/chunk-000/file-000.parquet"
    table = pq.read_table(place)
    values = table["action"].to_pylist()
    values[10][1] = float("nan")
    pq.write_table(table.set_column(1, "action", pa.array(values, pa.list_(pa.float32(), 2))), place)
    with pytest.raises(ArtifactError, match="episode 1: action is nan in step 1, element 1"):
        import_data(folder, "lerobot", tmp_path / "other")
    place.write_bytes(place.read_bytes()[:200])
    with pytest.raises(ArtifactError, match="not a whole Parquet file"):
        import_data(folder, "lerobot", tmp_path / "other", resume=True)
    with pytest.raises(ArtifactError, match="give the folder of a LeRobotDataset"):
        import_data(tmp_path, "lerobot", tmp_path / "other", resume=True)
    (folder / "meta/info.json").write_bytes(b'{"codebase\xff')
    with pytest.raises(ArtifactError, match=r"info\.json is not readable"):
        import_data(folder, "lerobot", tmp_path / "other", resume=True)


def test_a_full_disk_is_one_sentence(tmp_path: Path, demonstrations: tuple[Episode, ...]) -> None:
    """pyarrow does not say which file it could not write; what is left is no data set, and the folder is named."""
    (tmp_path / "data").mkdir()
    for number, episode in enumerate(demonstrations):
        path = tmp_path / "data" / f"{number:06d}.safetensors"
        write_episode(path, episode.specification, episode.steps, episode.end)

    def export_with_no_room() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
        try:
            export_data(tmp_path / "data", tmp_path / "lerobot")
        except ArtifactError as error:
            os._exit(3 if f"cannot be written to {tmp_path / 'lerobot'}" in str(error) else 4)

    process = multiprocessing.get_context("fork").Process(target=export_with_no_room)
    process.start()
    process.join()
    assert process.exitcode == 3
    with pytest.raises(ArtifactError, match="give the folder of a LeRobotDataset"):
        import_data(tmp_path / "lerobot", "lerobot", tmp_path / "back")


def test_what_cannot_be_exported_is_one_sentence(tmp_path: Path, demonstrations: tuple[Episode, ...]) -> None:
    """No episodes, an episode without steps, a folder that is not empty."""
    (tmp_path / "data").mkdir()
    with pytest.raises(ArtifactError, match="no episode files"):
        export_data(tmp_path / "data", tmp_path / "out")
    empty = replace(demonstrations[0], steps=())
    write_episode(tmp_path / "data" / "000000.safetensors", empty.specification, empty.steps, empty.end)
    with pytest.raises(ArtifactError, match="has no steps"):
        export_data(tmp_path / "data", tmp_path / "out")
    with pytest.raises(UsageError, match="not an empty folder: choose another --out"):
        export_data(tmp_path, tmp_path / "data")
