"""What cameras saw comes along with recorded data: films by time, single pictures, arrays; and a policy is cloned from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from poco.errors import ArtifactError, UsageError
from poco.learner.checkpoint import read_checkpoint
from poco.learner.cloning_commands import clone
from poco.learner.data_commands import import_data
from poco.learner.demonstrations import read_demonstrations
from poco.views import Views
from recorded import CAMERAS, picture, write_filmed, write_lerobot, write_robomimic

SIDE = 32
LOSS = 14
"""So far a colour may be off after a film was encoded."""


def check(views: Views | None, first: int, count: int, camera: int) -> None:
    """Camera number `camera` saw the frames from `first` on, squeezed: left half and right half, no other colour."""
    assert views is not None
    assert views.images.shape == (count, len(views.cameras), 3, SIDE, SIDE)
    assert views.target.shape == (count, 0)
    for frame in range(count):
        expected, seen = picture(first + frame), views.images[frame, camera].astype(float)
        for columns, place in ((slice(1, 15), 0), (slice(17, 31), -1)):
            found = seen[:, 1:-1, columns].mean((1, 2))
            np.testing.assert_allclose(found, expected[0, place].astype(float), atol=LOSS, err_msg=f"frame {frame}")


@pytest.mark.parametrize("codec", ["libsvtav1", "libx264"])
def test_films_come_with_their_episodes(tmp_path: Path, codec: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Every frame of both episodes in three cameras, in the codec that LeRobot records in and in an older one."""
    write_filmed(tmp_path / "filmed", codec)
    import_data(tmp_path / "filmed", "lerobot", tmp_path / "out", image_side=SIDE)
    assert '"left_out": []' in capfd.readouterr().out
    episodes = read_demonstrations(tmp_path / "out").episodes
    assert [len(episode.rewards) for episode in episodes] == [8, 11]
    for episode, first, count in zip(episodes, (0, 9), (9, 12), strict=True):
        assert episode.views is not None
        assert episode.views.cameras == ("top", "side", "wrist")
        for camera in range(3):
            check(episode.views, first, count, camera)


def test_a_policy_is_cloned_from_films(tmp_path: Path) -> None:
    """Nothing in them says where the target is: the policy learns without the second loss."""
    write_filmed(tmp_path / "filmed", "libx264")
    import_data(tmp_path / "filmed", "lerobot", tmp_path / "out", image_side=SIDE)
    clone(tmp_path / "out", tmp_path / "policy", steps=3, batch=4, hidden_sizes=(8, 8), features=2, width=2)
    checkpoint = read_checkpoint(tmp_path / "policy")
    assert checkpoint.encoder is not None
    assert checkpoint.encoder.architecture.cameras == ("top", "side", "wrist")
    assert checkpoint.metrics["validation_pose_error"] == 0.0
    assert checkpoint.specification.observation_size == 3 * 2 + 3


def test_pictures_of_robomimic(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was seen with every step and after the last one, which is the rewarded one."""
    write_robomimic(tmp_path / "can.hdf5", demonstrations=2)
    import_data(tmp_path / "can.hdf5", "robomimic", tmp_path / "out", image_side=SIDE)
    assert '"left_out": []' in capsys.readouterr().out
    for episode, count in zip(read_demonstrations(tmp_path / "out").episodes, (15, 14), strict=True):
        assert episode.views is not None
        assert episode.views.cameras == ("agentview",)
        check(episode.views, 0, count, 0)
    with h5py.File(tmp_path / "can.hdf5", "r+") as file:
        del file["data/demo_1/next_obs/agentview_image"]
    with pytest.raises(ArtifactError, match="demo_1 has no next_obs/agentview_image"):
        import_data(tmp_path / "can.hdf5", "robomimic", tmp_path / "other", image_side=SIDE)


def test_what_is_missing_or_damaged_is_one_sentence(tmp_path: Path) -> None:
    """No cameras, a size that no encoder takes, a film that is cut, gone, not named or too short, a picture that is none."""

    def refused(match: str, folder: Path, side: int = SIDE, error: type[Exception] = ArtifactError) -> None:
        with pytest.raises(error, match=match):
            import_data(folder, "lerobot", tmp_path / "out", image_side=side, resume=True)

    write_lerobot(
        tmp_path / "blind", features={key: {"dtype": "float32", "shape": [size]} for key, size in BLIND.items()}
    )
    refused("has no cameras", tmp_path / "blind", error=UsageError)
    folder = tmp_path / "filmed"
    write_filmed(folder, "libx264")
    refused("must be a multiple of", folder, side=30)
    film = folder / f"videos/{CAMERAS[1]}/chunk-000/file-001.mp4"
    whole = film.read_bytes()
    film.write_bytes(whole[: len(whole) // 2])
    refused("not a whole video", folder)
    film.unlink()
    refused("not a whole video", folder)
    film.write_bytes(whole)
    rows, place = _rows(folder)
    late = [
        {**row, f"videos/{CAMERAS[1]}/from_timestamp": row[f"videos/{CAMERAS[1]}/from_timestamp"] + 0.1} for row in rows
    ]
    pq.write_table(pa.Table.from_pylist(late), place)
    refused("has no frame at .* 9 of 12 frames", folder)
    pq.write_table(pa.Table.from_pylist(rows).drop_columns([f"videos/{CAMERAS[0]}/file_index"]), place)
    refused("does not say where the video of observation.images.top is", folder)
    pq.write_table(pa.Table.from_pylist(rows), place)
    data = folder / "data/chunk-000/file-000.parquet"
    table = pq.read_table(data)
    cells = [{**cell, "bytes": cell["bytes"][:20]} for cell in table[CAMERAS[2]].to_pylist()]
    pq.write_table(table.drop_columns([CAMERAS[2]]).append_column(CAMERAS[2], pa.array(cells)), data)
    refused("observation.images.wrist holds no whole pictures", folder)


BLIND = {"observation.state": 3, "action": 2}


def _rows(folder: Path) -> tuple[list[dict[str, Any]], Path]:
    place = folder / "meta/episodes/chunk-000/file-000.parquet"
    return pq.read_table(place).to_pylist(), place
