"""The layout of a LeRobotDataset v3: files, features and the columns of its tables, for reader and writer.

data/chunk-000/file-000.parquet holds one row a frame, meta/episodes/... one row an episode, meta/tasks.parquet the tasks,
meta/info.json rate and features, meta/stats.json the statistics of every feature. An image is a struct of bytes, here of a PNG, and
path. meta/poco.json and meta/poco.safetensors are ours: what an episode of poco has beyond that, so that it comes back as it was.
"""

from __future__ import annotations

from typing import Any

import msgspec

from poco.errors import UsageError
from poco.records import EpisodeEnd
from poco.specification import Specification

VERSION = "v3.0"
FILE = "chunk-{chunk_index:03d}/file-{file_index:03d}"
DATA_PATH = f"data/{FILE}.parquet"
VIDEO_PATH = "videos/{video_key}/" + FILE + ".mp4"
INFO = "meta/info.json"
STATISTICS = "meta/stats.json"
TASKS = "meta/tasks.parquet"
EPISODES = "meta/episodes"
OURS = "meta/poco.json"
OUR_VIEWS = "meta/poco.safetensors"
"""What images do not hold, for each episode: those of its end `images_N` [cameras, 3, side, side] and `target_N` [n + 1, P]."""

FILE_BYTES = 100_000_000
FILES_IN_CHUNK = 1000

STATE = "observation.state"
IMAGES = "observation.images."
IMAGE = "image"
ACTION = "action"
EXECUTED = "action_executed"
REWARD = "next.reward"
DONE = "next.done"
SUCCESS = "next.success"


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    """Type and shape of one column; `names` labels its elements."""

    dtype: str
    shape: tuple[int, ...]
    names: Any = None


class Info(msgspec.Struct, frozen=True, kw_only=True):
    """What info.json says; anything else in it is not read."""

    codebase_version: str
    fps: float
    features: dict[str, Feature]
    total_episodes: int
    total_frames: int
    total_tasks: int = 1
    robot_type: str | None = None
    chunks_size: int = FILES_IN_CHUNK
    data_files_size_in_mb: int = FILE_BYTES // 1_000_000
    video_files_size_in_mb: int = 2 * FILE_BYTES // 1_000_000
    splits: dict[str, str] = {}
    data_path: str = DATA_PATH
    video_path: str | None = None


class Ours(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What meta/poco.json says: the contract, and how every episode ended."""

    specification: Specification
    ends: list[EpisodeEnd]


def parquet() -> tuple[Any, Any]:
    """Return the modules pyarrow and pyarrow.parquet; raises UsageError if they are not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UsageError(f'LeRobot needs the package pyarrow ({error}): pip install "poco-robot[datasets]"') from error
    return pyarrow, pyarrow.parquet
