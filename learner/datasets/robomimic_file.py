"""RoboMimic's HDF5 layout (Mandlekar et al. 2021): data/demo_N with actions, rewards, obs/KEY and next_obs/KEY.

`data` has the attribute env_args, JSON with the environment's name and its control frequency. Rewards are sparse; a demonstration
ends for poco with the first step that is rewarded, as an episode of the task does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from poco.errors import ArtifactError, UsageError
from poco.specification import Field, Specification, foreign_specification

from .pictures import Pictures, array_pictures, check_cameras, views_of
from .trajectory import Source, Trajectory, checked, field_of, long_enough, scaled

LOW_DIMENSIONAL = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos", "object")
"""The observations that the paper's methods learn from."""

PREFIX = "robomimic."
DEFAULT_RATE_HZ = 20.0
UNIT = 1.0 + 1e-6


class _Controls(msgspec.Struct):
    control_freq: float = DEFAULT_RATE_HZ


class _Arguments(msgspec.Struct):
    env_name: str
    env_kwargs: _Controls = msgspec.field(default_factory=_Controls)


def open_robomimic(
    path: Path, chunk_steps: int, specification: Specification | None = None, image_side: int | None = None
) -> Source:
    """Return the demonstrations in `path`; without `specification` its bounds come from all of the data.

    With `image_side` they come with what all cameras saw, so many pixels each way.

    Raises ArtifactError for a file that is damaged, empty or laid out otherwise, UsageError without the package h5py.
    """
    try:
        import h5py
    except ImportError as error:
        raise UsageError(f'RoboMimic needs the package h5py ({error}): pip install "poco-robot[datasets]"') from error
    with _whole(path):
        file = h5py.File(path, "r")
        group = file.get("data")
        names = [] if group is None else sorted((name for name in group if name.startswith("demo_")), key=_number)
        if not names:
            raise ArtifactError(f"{path} holds no demonstrations (data/demo_N): give a file in the layout of RoboMimic")
        arguments = _arguments(path, group.attrs.get("env_args", ""))
        keys = LOW_DIMENSIONAL if specification is None else tuple(_key(item) for item in specification.observation)
        if specification is None:
            specification = _specification(path, group, names, keys, arguments, chunk_steps)
        others = sorted(key for key in group[names[0]].get("obs", {}) if key not in keys)
        cameras = [key for key in others if group[f"{names[0]}/obs/{key}"].ndim == 4]
    if image_side is not None:
        check_cameras(str(path), cameras, image_side)

    def read(number: int) -> Sequence[Trajectory]:
        with _whole(path):
            what, demonstration = f"{path}: {names[number]}", group[names[number]]
            trajectory = _trajectory(what, demonstration, keys, specification)
            if image_side is None:
                return [trajectory]
            seen = [_pictures(what, demonstration, key, len(trajectory.actions), image_side) for key in cameras]
        return [replace(trajectory, views=views_of([key.removesuffix("_image") for key in cameras], seen))]

    left_out = others if image_side is None else [key for key in others if key not in cameras]
    return Source("robomimic", specification, len(names), read, tuple(left_out))


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    """Raise ArtifactError for whatever HDF5 finds wrong with the file at `path`, which it tells by errors of many kinds."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{path} is not a whole HDF5 file ({error}): copy or download it again") from error


def _pictures(what: str, demonstration: Any, key: str, count: int, side: int) -> Pictures:
    """Return what camera `key` saw with the first `count` steps and after the last of them."""
    parts = []
    for place, rows in ((f"obs/{key}", slice(count)), (f"next_obs/{key}", slice(count - 1, count))):
        if place not in demonstration:
            raise ArtifactError(f"{what} has no {place}: give image data in the layout of RoboMimic, with next_obs")
        part = demonstration[place][rows]
        if (
            part.dtype != np.uint8
            or part.ndim != 4
            or part.shape[-1] != 3
            or len(part) != rows.stop - (rows.start or 0)
        ):
            raise ArtifactError(
                f"{what}: {place} has {part.dtype}{list(part.shape)}, expected uint8[steps, rows, columns, 3]: correct the data"
            )
        parts.append(part)
    return array_pictures(np.concatenate(parts), side)


def _number(name: str) -> int:
    digits = name.removeprefix("demo_")
    if not digits.isdecimal():
        raise ArtifactError(f"demonstration {name} has no number: give a file in the layout of RoboMimic (data/demo_N)")
    return int(digits)


def _key(item: Field) -> str:
    return item.source.removeprefix(PREFIX)


def _arguments(path: Path, text: Any) -> _Arguments:
    try:
        return msgspec.json.decode(text, type=_Arguments)
    except (msgspec.MsgspecError, TypeError) as error:
        raise ArtifactError(
            f"{path}: the attribute env_args of data is not readable ({error}): give a file in the layout of RoboMimic"
        ) from error


def _specification(
    path: Path, group: Any, names: Sequence[str], keys: tuple[str, ...], arguments: _Arguments, chunk_steps: int
) -> Specification:
    fields = []
    for key in keys:
        columns = [
            _column(f"{path}: {name}", group[name], f"{side}/{key}") for name in names for side in ("obs", "next_obs")
        ]
        if len({column.shape[1] for column in columns}) > 1:
            raise ArtifactError(f"{path}: obs/{key} has another size in some demonstrations: give data of one task")
        fields.append(field_of(key, PREFIX + key, columns))
    size = _column(f"{path}: {names[0]}", group[names[0]], "actions").shape[1]
    action = Field(
        name="action", source=PREFIX + "actions", frame="as recorded", unit="1", low=(-1.0,) * size, high=(1.0,) * size
    )
    name = f"robomimic_{arguments.env_name}"
    return foreign_specification(name, arguments.env_kwargs.control_freq, chunk_steps, fields, [action])


def _column(what: str, demonstration: Any, key: str) -> Any:
    if key not in demonstration:
        raise ArtifactError(f"{what} has no {key}: give low-dimensional data in the layout of RoboMimic, with next_obs")
    values = demonstration[key][()]
    if values.size == 0:
        raise ArtifactError(f"{what}: {key} is empty: remove the demonstration")
    return checked(f"{what}: {key}", values, values.shape[1] if values.ndim == 2 else 1)


def _trajectory(what: str, demonstration: Any, keys: tuple[str, ...], specification: Specification) -> Trajectory:
    actions = _column(what, demonstration, "actions")
    rewards = _column(what, demonstration, "rewards")[:, 0]
    fields = specification.observation
    seen = [_column(what, demonstration, f"obs/{key}") for key in keys]
    following = [_column(what, demonstration, f"next_obs/{key}") for key in keys]
    for column in (rewards, *seen, *following):
        if len(column) != len(actions):
            raise ArtifactError(f"{what} has {len(actions)} actions but {len(column)} rows elsewhere: correct the data")
    for item, column in zip((*fields, *fields), (*seen, *following), strict=True):
        checked(f"{what}: {item.name}", column, item.size)
    actions = checked(f"{what}: actions", actions, specification.action_size)
    worst = float(np.abs(actions).max())
    if worst > UNIT:
        raise ArtifactError(f"{what}: an action is {worst:g}, the limit is 1: scale the actions to [-1, 1]")
    rewarded = np.flatnonzero(rewards > 0.0)
    count = int(rewarded[0]) + 1 if len(rewarded) else len(actions)
    long_enough(what, count, specification)
    observations = np.concatenate([scaled(fields, seen)[:count], scaled(fields, following)[count - 1 : count]])
    success = len(rewarded) > 0
    return Trajectory(observations, scaled(specification.action, [actions])[:count], rewards[:count], success, success)
