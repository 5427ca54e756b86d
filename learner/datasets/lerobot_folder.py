"""A LeRobotDataset v3 as episodes of poco: numeric observations, actions and, where they are wanted, what cameras saw.

What of an observation has no place among them, such as cameras that are not wanted, is named. A data set that poco wrote comes
back as it was. In one of others the last frame of an episode is what its last action led to, whose reward is the better of the
last two in next.reward; an episode without a column next.success is a demonstration and counts as a success, without next.reward
it is rewarded with 1 at its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from safetensors import SafetensorError, safe_open

from poco.episodes import Episode
from poco.errors import ArtifactError, UsageError
from poco.records import EpisodeEnd, Step, StepKey
from poco.specification import Floats, Specification, foreign_specification, scale
from poco.views import Views

from .lerobot_layout import (
    ACTION,
    DATA_PATH,
    EPISODES,
    EXECUTED,
    IMAGE,
    IMAGES,
    INFO,
    OUR_VIEWS,
    OURS,
    REWARD,
    STATE,
    SUCCESS,
    VIDEO_PATH,
    Info,
    Ours,
    parquet,
)
from .pictures import Pictures, check_cameras, single_pictures, video_pictures, views_of
from .trajectory import Source, Trajectory, checked, field_of, long_enough, scaled

PREFIX = "lerobot."
PLACE = ("episode_index", "data/chunk_index", "data/file_index", "length")
NUMBERS = ("float32", "float64")
MAJOR = "v3."


@dataclass(frozen=True, slots=True)
class _Episode:
    number: int
    chunk: int
    file: int
    length: int
    row: dict[str, Any]


class _Folder:
    """The tables of a data set, one data file at a time in memory."""

    def __init__(self, path: Path, info: Info) -> None:
        self.path, self.info = path, info
        self.episodes = self._episodes()
        self._file: tuple[Path, Any] | None = None

    def columns(self, number: int, names: Sequence[str]) -> dict[str, Floats]:
        """Return columns `names` of episode `number`, [n, size] each; raises ArtifactError if they are not as info.json says."""
        table, what = self._rows(number, names), f"{self.path}: episode {self.episodes[number].number}"
        return {
            name: checked(f"{what}: {name}", _values(table.column(name)), self.info.features[name].shape[0])
            for name in names
        }

    def pictures(self, number: int, camera: str, side: int) -> Pictures:
        """Return what `camera` saw in episode `number`, [n, 3, side, side]; raises ArtifactError if it is not there."""
        episode, dtype = self.episodes[number], self.info.features[camera].dtype
        what = f"{self.path}: episode {episode.number}"
        if dtype == IMAGE:
            stored = self._rows(number, (camera,)).column(camera).to_pylist()
            return single_pictures(f"{what}: {camera}", [cell and cell.get("bytes") for cell in stored], side)
        try:
            chunk, file, first_s = (
                episode.row[f"videos/{camera}/{key}"] for key in ("chunk_index", "file_index", "from_timestamp")
            )
            place = self.path / VIDEO_PATH.format(video_key=camera, chunk_index=int(chunk), file_index=int(file))
        except (KeyError, TypeError) as error:
            raise ArtifactError(
                f"{what} does not say where the video of {camera} is: write the data set again"
            ) from error
        return video_pictures(place, float(first_s), episode.length, self.info.fps, side)

    def _rows(self, number: int, names: Sequence[str]) -> Any:
        """Return the rows of episode `number` in the table that has them and columns `names`."""
        episode = self.episodes[number]
        what = f"{self.path}: episode {episode.number}"
        place = self.path / DATA_PATH.format(chunk_index=episode.chunk, file_index=episode.file)
        if self._file is None or self._file[0] != place:
            self._file = place, _table(place)
        table = self._file[1]
        missing = [name for name in (*names, "episode_index") if name not in table.column_names]
        if missing:
            raise ArtifactError(f"{what}: {place.name} has no column {missing[0]}: write the data set again")
        table = table.filter(np.equal(table.column("episode_index").to_numpy(), episode.number))
        if table.num_rows != episode.length or episode.length == 0:
            raise ArtifactError(
                f"{what} has {table.num_rows} rows, expected {episode.length} and at least 1: write the data set again"
            )
        return table

    def _episodes(self) -> list[_Episode]:
        files = sorted((self.path / EPISODES).glob("*/*.parquet"))
        rows = [row for file in files for row in _table(file).to_pylist()]
        try:
            found = []
            for row in rows:
                number, chunk, file, length = (int(row[key]) for key in PLACE)
                found.append(_Episode(number, chunk, file, length, row))
        except (KeyError, TypeError) as error:
            raise ArtifactError(f"{self.path / EPISODES} has no column {error}: write the data set again") from error
        if not found:
            raise ArtifactError(f"{self.path} holds no episodes: record some first")
        return sorted(found, key=lambda episode: episode.number)


def open_lerobot(
    path: Path, chunk_steps: int, specification: Specification | None = None, image_side: int | None = None
) -> Source:
    """Return the episodes in the folder `path`; without `specification` its bounds come from all of the data.

    With `image_side` they come with what all cameras saw, so many pixels each way; those of poco with what they had.

    Raises ArtifactError for a data set that is damaged, empty, of another version or without numeric observations.
    """
    info = _info(path)
    folder = _Folder(path, info)
    cameras = tuple(name for name, feature in info.features.items() if feature.dtype in ("video", IMAGE))
    if image_side is not None:
        check_cameras(str(path), cameras, image_side)
    if (path / OURS).is_file():
        return _ours(folder, cameras, image_side)
    vectors = {name for name, feature in info.features.items() if feature.dtype in NUMBERS and len(feature.shape) == 1}
    names = sorted(name for name in vectors if name.startswith("observation."))
    if not names or ACTION not in vectors:
        raise ArtifactError(
            f"{path} has no numeric observation.* or no action: poco learns from numbers, with or without cameras"
        )
    if specification is None:
        specification = _specification(folder, names, chunk_steps)
    names = [item.source.removeprefix(PREFIX) for item in specification.observation]
    absent = [name for name in names if name not in vectors]
    if absent:
        raise ArtifactError(
            f"{path} has no numeric feature {absent[0]}: name one of {sorted(vectors)} in the specification"
        )

    def read(number: int) -> Sequence[Trajectory]:
        trajectory = _trajectory(folder, number, names, specification)
        if image_side is None:
            return [trajectory]
        seen = [folder.pictures(number, camera, image_side) for camera in cameras]
        return [replace(trajectory, views=views_of([camera.removeprefix(IMAGES) for camera in cameras], seen))]

    taken = {*names, *(() if image_side is None else cameras)}
    left_out = (name for name in info.features if name in cameras or name.startswith("observation."))
    return Source(
        "lerobot", specification, len(folder.episodes), read, tuple(name for name in left_out if name not in taken)
    )


def _info(path: Path) -> Info:
    try:
        info = msgspec.json.decode((path / INFO).read_bytes(), type=Info)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ArtifactError(
            f"{path / INFO} is not readable ({error}): give the folder of a LeRobotDataset v3"
        ) from error
    if not info.codebase_version.startswith(MAJOR):
        raise ArtifactError(
            f"{path} is LeRobotDataset {info.codebase_version}, poco reads v3: convert it with LeRobot's own script"
        )
    if info.data_path != DATA_PATH:
        raise ArtifactError(
            f"{path} keeps its data in {info.data_path}, poco reads {DATA_PATH}: write it again with LeRobot"
        )
    if any(not feature.shape for feature in info.features.values()):
        raise ArtifactError(f"{path / INFO} has a feature without shape: write the data set again")
    return info


def _table(place: Path) -> Any:
    pyarrow, reader = parquet()
    try:
        return reader.read_table(place)
    except (OSError, pyarrow.ArrowException) as error:
        raise ArtifactError(f"{place} is not a whole Parquet file ({error}): copy or download it again") from error


def _values(column: Any) -> Any:
    combined = column.combine_chunks()
    if hasattr(combined, "flatten") and combined.null_count == 0 and "list" in str(combined.type):
        flat = combined.flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(len(combined), -1) if len(flat) % len(combined) == 0 else flat
    return combined.to_numpy(zero_copy_only=False)


def _specification(folder: _Folder, names: Sequence[str], chunk_steps: int) -> Specification:
    parts = [folder.columns(number, [*names, ACTION]) for number in range(len(folder.episodes))]
    fields = [
        field_of(name.removeprefix("observation."), PREFIX + name, [part[name] for part in parts])
        for name in (*names, ACTION)
    ]
    name = f"lerobot_{folder.info.robot_type or folder.path.resolve().name}"
    return foreign_specification(name, folder.info.fps, chunk_steps, fields[:-1], fields[-1:])


def _trajectory(folder: _Folder, number: int, names: Sequence[str], specification: Specification) -> Trajectory:
    features = folder.info.features
    extra = [name for name in (REWARD, SUCCESS) if name in features]
    columns = folder.columns(number, [*names, ACTION, *extra])
    what = f"{folder.path}: episode {folder.episodes[number].number}"
    count = len(columns[ACTION]) - 1
    long_enough(f"{what} (without its last frame)", count, specification)
    observed = [
        checked(f"{what}: {item.name}", columns[name], item.size)
        for item, name in zip(specification.observation, names, strict=True)
    ]
    actions = checked(f"{what}: {ACTION}", columns[ACTION], specification.action_size)[:count]
    success = bool(columns[SUCCESS].any()) if SUCCESS in columns else True
    rewards = columns[REWARD][:count, 0] if REWARD in columns else np.zeros(count)
    rewards[-1] = columns[REWARD][-2:].max() if REWARD in columns else float(success)
    return Trajectory(
        scaled(specification.observation, observed), scaled(specification.action, [actions]), rewards, success, success
    )


def _ours(folder: _Folder, cameras: Sequence[str], image_side: int | None) -> Source:
    place = folder.path / OURS
    try:
        ours = msgspec.json.decode(place.read_bytes(), type=Ours)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{place} is damaged ({error}): export the episodes again") from error
    if len(ours.ends) != len(folder.episodes):
        raise ArtifactError(f"{place} has {len(ours.ends)} ends for {len(folder.episodes)} episodes: export them again")
    sides = {folder.info.features[camera].shape[0] for camera in cameras}
    if image_side is not None and sides != {image_side}:
        raise UsageError(
            f"--image-side is {image_side}, the images of {folder.path} come back as they were, {max(sides)} pixels each way: "
            "leave it out"
        )

    def read(number: int) -> Sequence[Episode]:
        views = _own_views(folder, number, cameras) if cameras else None
        return [_own_episode(folder, number, ours.specification, ours.ends[number], views)]

    return Source("lerobot", ours.specification, len(ours.ends), read)


def _own_views(folder: _Folder, number: int, cameras: Sequence[str]) -> Views:
    place = folder.path / OUR_VIEWS
    try:
        with safe_open(place, framework="numpy") as file:
            last, target = file.get_tensor(f"images_{number}"), file.get_tensor(f"target_{number}")
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{place} is damaged ({error}): export the episodes again") from error
    seen = np.stack([folder.pictures(number, name, folder.info.features[name].shape[0]) for name in cameras], axis=1)
    if last.shape != seen.shape[1:] or len(target) != len(seen) + 1:
        raise ArtifactError(f"{place} does not fit the images of episode {number}: export the episodes again")
    return Views(tuple(name.removeprefix(IMAGES) for name in cameras), np.concatenate([seen, [last]]), target)


def _own_episode(
    folder: _Folder, number: int, specification: Specification, end: EpisodeEnd, views: Views | None
) -> Episode:
    numbers = ("intervened", "tick", "generation", "chunk_id")
    columns = folder.columns(number, [STATE, ACTION, EXECUTED, REWARD, *numbers])
    observations = scale(specification.observation, columns[STATE]).tolist()
    actions, executed = (scale(specification.action, columns[name]).tolist() for name in (ACTION, EXECUTED))
    rewards = columns[REWARD][:, 0].tolist()
    intervened, ticks, generations, chunks = (columns[name][:, 0].astype(np.int64).tolist() for name in numbers)
    steps = tuple(
        Step(
            key=StepKey(end.robot, end.boot_epoch, end.episode, row),
            tick=ticks[row],
            generation=generations[row],
            chunk_id=chunks[row],
            observation=observations[row],
            action_policy=actions[row],
            action_executed=executed[row],
            reward=rewards[row],
            intervened=bool(intervened[row]),
        )
        for row in range(len(rewards))
    )
    return Episode(specification, steps, end, views)
