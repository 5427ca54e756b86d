"""Small files in the published layouts of RoboMimic and OGBench, and a LeRobotDataset v3 that poco did not write, with videos."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import av
import h5py
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

CAMERAS = ("observation.images.top", "observation.images.side", "observation.images.wrist")
"""Two films, and single pictures in the table."""

SIZES = {"robot0_eef_pos": 3, "robot0_eef_quat": 4, "robot0_gripper_qpos": 2, "object": 14}


def write_robomimic(path: Path, demonstrations: int = 12, steps: int = 14, name: str = "PickPlaceCan") -> None:
    """Demonstrations demo_0 and on, in HDF5's alphabetical order; odd ones succeed two steps before their end."""
    random = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps(
            {"env_name": name, "type": 1, "env_kwargs": {"control_freq": 20, "robots": "Panda"}}
        )
        data.attrs["total"] = demonstrations * steps
        for number in range(demonstrations):
            group = data.create_group(f"demo_{number}")
            group.attrs["num_samples"] = steps
            rewards = np.zeros(steps)
            rewards[steps - 2 :] = number % 2
            group["actions"] = random.uniform(-1, 1, (steps, 7))
            group["rewards"], group["dones"] = rewards, (np.arange(steps) == steps - 1).astype(np.int64)
            for key, size in SIZES.items():
                states = random.normal(number, 1.0, (steps + 1, size))
                group[f"obs/{key}"], group[f"next_obs/{key}"] = states[:-1], states[1:]
            film = np.stack([picture(step) for step in range(steps + 1)])
            group["obs/agentview_image"], group["next_obs/agentview_image"] = film[:-1], film[1:]


def write_lerobot(folder: Path, lengths: tuple[int, ...] = (9, 12), **changes: Any) -> None:
    """Two episodes at 30 Hz with a state of 3, an action of 2 and a camera; `changes` replace entries of info.json."""
    random = np.random.default_rng(1)
    for name in ("data/chunk-000", "meta/episodes/chunk-000"):
        (folder / name).mkdir(parents=True)
    numbers = np.repeat(np.arange(len(lengths)), lengths)
    vectors = {
        name: pa.FixedSizeListArray.from_arrays(
            pa.array(random.normal(size=len(numbers) * size).astype(np.float32)), size
        )
        for name, size in (("observation.state", 3), ("action", 2))
    }
    pq.write_table(pa.table({**vectors, "episode_index": numbers}), folder / "data/chunk-000/file-000.parquet")
    rows = [
        {"episode_index": number, "length": length, "data/chunk_index": 0, "data/file_index": 0}
        for number, length in enumerate(lengths)
    ]
    schema = pa.schema(
        [(key, pa.int64()) for key in ("episode_index", "length", "data/chunk_index", "data/file_index")]
    )
    place = folder / "meta/episodes/chunk-000/file-000.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), place)
    info = {
        "codebase_version": "v3.0",
        "robot_type": "so101",
        "fps": 30,
        "total_episodes": len(lengths),
        "total_frames": int(sum(lengths)),
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "features": {
            "observation.state": {"dtype": "float32", "shape": [3], "names": ["x", "y", "z"]},
            "observation.images.top": {"dtype": "video", "shape": [4, 4, 3], "names": None},
            "action": {"dtype": "float32", "shape": [2], "names": ["a", "b"]},
            "episode_index": {"dtype": "int64", "shape": [1], "names": None},
        },
    }
    (folder / "meta/info.json").write_text(json.dumps(info | changes))


def picture(frame: int) -> npt.NDArray[np.uint8]:
    """Frame `frame` [64, 96, 3] of every film: red that rises on the left, blue that falls on the right."""
    image = np.zeros((64, 96, 3), np.uint8)
    image[:, :48, 0], image[:, 48:, 2] = 40 + 8 * frame, 240 - 8 * frame
    return image


def write_filmed(folder: Path, codec: str, lengths: tuple[int, ...] = (9, 12)) -> None:
    """The data set of `write_lerobot` with CAMERAS: all episodes in one video a camera, after half a second of something else."""
    features = {
        camera: {
            "dtype": "image" if camera == CAMERAS[2] else "video",
            "shape": [64, 96, 3],
            "names": ["height", "width", "channel"],
        }
        for camera in CAMERAS
    }
    write_lerobot(folder, lengths)
    info = json.loads((folder / "meta/info.json").read_text())
    del info["features"]["observation.images.top"]
    info["features"] |= features
    (folder / "meta/info.json").write_text(json.dumps(info))
    place = folder / "meta/episodes/chunk-000/file-000.parquet"
    rows = pq.read_table(place).to_pylist()
    ends = np.cumsum(lengths) + 15
    for camera in CAMERAS[:2]:
        _film(folder / f"videos/{camera}/chunk-000/file-001.mp4", codec, 15, sum(lengths))
        for row, end in zip(rows, ends, strict=True):
            row |= {f"videos/{camera}/chunk_index": 0, f"videos/{camera}/file_index": 1}
            row |= {
                f"videos/{camera}/from_timestamp": (end - row["length"]) / 30,
                f"videos/{camera}/to_timestamp": end / 30,
            }
    pq.write_table(pa.Table.from_pylist(rows), place)
    cells = []
    for frame in range(sum(lengths)):
        file = io.BytesIO()
        Image.fromarray(picture(frame)).save(file, "PNG")
        cells.append({"bytes": file.getvalue(), "path": f"frame-{frame:06d}.png"})
    data = folder / "data/chunk-000/file-000.parquet"
    pq.write_table(pq.read_table(data).append_column(CAMERAS[2], pa.array(cells)), data)


def _film(path: Path, codec: str, lead: int, frames: int) -> None:
    path.parent.mkdir(parents=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30, options={"g": "2", "crf": "20"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number in range(-lead, frames):
            shown = np.full((64, 96, 3), 255, np.uint8) if number < 0 else picture(number)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
        container.mux(stream.encode())
