"""Episodes of poco as a LeRobotDataset v3, in physical units and with their images, complete enough to come back as they were."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from poco.durable import write_durably
from poco.episodes import Episode
from poco.errors import ArtifactError
from poco.specification import Field, Specification, unscale
from poco.views import Shown, Views

from .lerobot_layout import (
    ACTION,
    DATA_PATH,
    DONE,
    EPISODES,
    EXECUTED,
    FILE,
    FILE_BYTES,
    FILES_IN_CHUNK,
    IMAGE,
    IMAGES,
    INFO,
    OUR_VIEWS,
    OURS,
    REWARD,
    STATE,
    STATISTICS,
    SUCCESS,
    TASKS,
    VERSION,
    Feature,
    Info,
    Ours,
    parquet,
)
from .pictures import png_of

Columns = dict[str, npt.NDArray[Any]]
Statistics = dict[str, dict[str, list[Any]]]


def write_lerobot(
    out: Path,
    episodes: Iterator[Episode],
    specification: Specification,
    task: str,
    advance: Callable[[str], None],
    shown: Shown | None = None,
) -> int:
    """Write `episodes`, all of `specification` and with the images `shown`, to the empty folder `out`; return the number of frames.

    info.json is written last, so that a broken-off export is not taken for a data set. Raises ArtifactError for an episode of
    another specification, without steps, with other images, or with what float32 cannot hold.
    """
    writer = _Writer(out, specification, shown)
    for episode in episodes:
        if episode.specification.digest() != specification.digest():
            raise ArtifactError(f"episode {episode.end.episode} has another specification: keep one per folder")
        if not episode.steps:
            raise ArtifactError(f"episode {episode.end.episode} has no steps: remove its file")
        if (None if episode.views is None else episode.views.shown) != shown:
            raise ArtifactError(f"episode {episode.end.episode} differs in what cameras saw: keep them apart")
        writer.add(episode, task)
        advance(f"{writer.frames} frames")
    writer.finish(task)
    return writer.frames


class _Writer:
    def __init__(self, out: Path, specification: Specification, shown: Shown | None) -> None:
        self.out, self.specification = out, specification
        self.pa, self.pq = parquet()
        self._picture = self.pa.struct([("bytes", self.pa.binary()), ("path", self.pa.string())])
        self.features = _features(specification) | ({} if shown is None else _image_features(shown))
        self.frames = 0
        self._file: Any = None
        self._file_number, self._bytes = -1, FILE_BYTES
        self._rows: list[dict[str, Any]] = []
        self._statistics: list[Statistics] = []
        self._ours: list[Any] = []
        self._our_views: Columns = {}

    def add(self, episode: Episode, task: str) -> None:
        """Append one episode."""
        number = len(self._rows)
        columns = _columns(episode, number, self.frames)
        if episode.views is not None:
            columns |= _seen(episode.views)
            self._our_views |= {f"images_{number}": episode.views.images[-1], f"target_{number}": episode.views.target}
        if self._bytes >= FILE_BYTES:
            self._next_file()
        table = self.pa.table([self._array(columns[name]) for name in self.features], schema=self._schema())
        self._file.write_table(table)
        self._bytes += table.nbytes
        statistics = {
            name: _image_statistics(column) if column.ndim == 4 else _statistics(column)
            for name, column in columns.items()
        }
        count = len(episode.steps)
        chunk, file = divmod(self._file_number, FILES_IN_CHUNK)
        self._rows.append(
            {
                "episode_index": number,
                "tasks": [task],
                "length": count,
                "data/chunk_index": chunk,
                "data/file_index": file,
                "dataset_from_index": self.frames,
                "dataset_to_index": self.frames + count,
                "meta/episodes/chunk_index": 0,
                "meta/episodes/file_index": 0,
                **{f"stats/{name}/{key}": value for name, item in statistics.items() for key, value in item.items()},
            }
        )
        self._statistics.append(statistics)
        self._ours.append(episode.end)
        self.frames += count

    def finish(self, task: str) -> None:
        """Close the tables and write what describes them."""
        if not self._rows:
            raise ArtifactError(f"there is no episode to write to {self.out}: make some with `poco-learner make-data`")
        self._file.close()
        place = self.out / EPISODES / f"{FILE.format(chunk_index=0, file_index=0)}.parquet"
        place.parent.mkdir(parents=True)
        self.pq.write_table(self.pa.Table.from_pylist(self._rows), place)
        self._write_tasks(task)
        write_durably(self.out / STATISTICS, json.dumps(_together(self._statistics), indent=4).encode())
        ours = Ours(specification=self.specification, ends=self._ours)
        write_durably(self.out / OURS, msgspec.json.encode(ours))
        if self._our_views:
            whole = {name: np.ascontiguousarray(part) for name, part in self._our_views.items()}
            write_durably(self.out / OUR_VIEWS, save(whole))
        rate = self.specification.rate_hz
        info = Info(
            codebase_version=VERSION,
            robot_type=self.specification.robot,
            fps=int(rate) if rate.is_integer() else rate,
            features=self.features,
            total_episodes=len(self._rows),
            total_frames=self.frames,
            splits={"train": f"0:{len(self._rows)}"},
        )
        write_durably(self.out / INFO, msgspec.json.format(msgspec.json.encode(info), indent=4))

    def _next_file(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file_number, self._bytes = self._file_number + 1, 0
        chunk, file = divmod(self._file_number, FILES_IN_CHUNK)
        place = self.out / DATA_PATH.format(chunk_index=chunk, file_index=file)
        place.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.pq.ParquetWriter(place, self._schema())

    def _schema(self) -> Any:
        return self.pa.schema([(name, self._type(name)) for name in self.features])

    def _type(self, name: str) -> Any:
        feature = self.features[name]
        if feature.dtype == IMAGE:
            return self._picture
        item = self.pa.type_for_alias(feature.dtype)
        return item if feature.shape == (1,) else self.pa.list_(item, feature.shape[0])

    def _array(self, column: npt.NDArray[Any]) -> Any:
        if column.ndim == 4:
            return self.pa.array([{"bytes": png_of(picture), "path": None} for picture in column], self._picture)
        flat = self.pa.array(column.reshape(-1))
        return flat if column.ndim == 1 else self.pa.FixedSizeListArray.from_arrays(flat, column.shape[1])

    def _write_tasks(self, task: str) -> None:
        """Write the table of tasks as pandas would, since the official loader finds a task by the index of the table."""
        table = self.pa.table({"task_index": self.pa.array([0]), "task": self.pa.array([task])})
        described = [
            {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": numpy, "metadata": None}
            for name, kind, numpy in (("task_index", "int64", "int64"), ("task", "unicode", "object"))
        ]
        pandas = {"index_columns": ["task"], "column_indexes": [], "columns": described, "pandas_version": "2.0.0"}
        self.pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(pandas)}), self.out / TASKS)


def _columns(episode: Episode, number: int, first: int) -> Columns:
    """Return the rows of `episode`, episode `number` of the data set, whose first frame is its frame `first`."""
    steps, spec = episode.steps, episode.specification
    count = len(steps)
    last = np.arange(count) == count - 1
    return {
        STATE: unscale(spec.observation, [step.observation for step in steps]).astype(np.float32),
        ACTION: unscale(spec.action, [step.action_policy for step in steps]).astype(np.float32),
        EXECUTED: unscale(spec.action, [step.action_executed for step in steps]).astype(np.float32),
        REWARD: np.array([step.reward for step in steps], dtype=np.float32),
        DONE: last,
        SUCCESS: last & (episode.end.outcome == "success"),
        "intervened": np.array([step.intervened for step in steps], dtype=np.bool_),
        "tick": np.array([step.tick for step in steps], dtype=np.int64),
        "generation": np.array([step.generation for step in steps], dtype=np.int64),
        "chunk_id": np.array([step.chunk_id for step in steps], dtype=np.int64),
        "timestamp": (np.arange(count) / spec.rate_hz).astype(np.float32),
        "frame_index": np.arange(count, dtype=np.int64),
        "episode_index": np.full(count, number, dtype=np.int64),
        "index": np.arange(first, first + count, dtype=np.int64),
        "task_index": np.zeros(count, dtype=np.int64),
    }


def _features(specification: Specification) -> dict[str, Feature]:
    observation, action = _names(specification.observation), _names(specification.action)
    numbers = ("tick", "generation", "chunk_id", "frame_index", "episode_index", "index", "task_index")
    return {
        STATE: Feature(dtype="float32", shape=(len(observation),), names=observation),
        ACTION: Feature(dtype="float32", shape=(len(action),), names=action),
        EXECUTED: Feature(dtype="float32", shape=(len(action),), names=action),
        **{name: Feature(dtype="float32", shape=(1,)) for name in (REWARD, "timestamp")},
        **{name: Feature(dtype="bool", shape=(1,)) for name in (DONE, SUCCESS, "intervened")},
        **{name: Feature(dtype="int64", shape=(1,)) for name in numbers},
    }


def _image_features(shown: Shown) -> dict[str, Feature]:
    names = ["height", "width", "channels"]
    feature = Feature(dtype=IMAGE, shape=(shown.side, shown.side, 3), names=names)
    return {IMAGES + camera: feature for camera in shown.cameras}


def _seen(views: Views) -> Columns:
    """Return what each camera saw at every step, [n, 3, side, side]."""
    return {IMAGES + camera: views.images[:-1, number] for number, camera in enumerate(views.cameras)}


def _names(fields: tuple[Field, ...]) -> list[str]:
    return [item.name if item.size == 1 else f"{item.name}_{index}" for item in fields for index in range(item.size)]


def _statistics(column: npt.NDArray[Any]) -> dict[str, list[float]]:
    values = column.reshape(len(column), -1).astype(np.float64)
    return {
        "min": values.min(0).tolist(),
        "max": values.max(0).tolist(),
        "mean": values.mean(0).tolist(),
        "std": values.std(0).tolist(),
        "count": [len(values)],
    }


def _image_statistics(images: npt.NDArray[Any]) -> dict[str, list[Any]]:
    """Return the statistics of `images` [n, 3, side, side] in units of full scale, of each colour as [3, 1, 1]."""
    colours = _statistics(images.transpose(0, 2, 3, 1).reshape(-1, 3) / 255.0)
    return {name: [[[value]] for value in values] for name, values in colours.items()} | {"count": [len(images)]}


def _together(parts: Sequence[Statistics]) -> Statistics:
    """Return the statistics of all episodes from those of each, by the parallel form of the variance (Chan et al. 1979)."""
    together: Statistics = {}
    for name in parts[0]:
        low, high, mean, std, count = (np.array([part[name][key] for part in parts]) for key in parts[0][name])
        weight = (count / count.sum()).reshape(-1, *[1] * (mean.ndim - 1))
        centre = (weight * mean).sum(0)
        together[name] = {
            "min": low.min(0).tolist(),
            "max": high.max(0).tolist(),
            "mean": centre.tolist(),
            "std": np.sqrt((weight * (std**2 + (mean - centre) ** 2)).sum(0)).tolist(),
            "count": count.sum(0).tolist(),
        }
    return together
