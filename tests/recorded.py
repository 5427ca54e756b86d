"""Small files in the published layouts of RoboMimic and OGBench, and a LeRobotDataset v3 that poco did not write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

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
            group["obs/agentview_image"] = np.zeros((steps, 4, 4, 3), np.uint8)


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
