"""OGBench's data files: npz archives of play with observations, actions, terminals, qpos and, with buttons, button_states.

A row with a terminal is the last state of a play; its action belongs to nothing.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from tokenize import TokenError

import numpy as np
import numpy.typing as npt

from poco.errors import ArtifactError
from poco.learner.datasets.trajectory import Source, checked

from .ogbench_environment import OGBenchEnvironment
from .ogbench_play import Play, task_source
from .ogbench_scenes import scene_parts

UNIT = 1.0 + 1e-6
UNSOUND = (OSError, ValueError, EOFError, RuntimeError, SyntaxError, TokenError, zipfile.BadZipFile, zlib.error)
"""What numpy raises for archives that were cut off or overwritten."""


def open_ogbench(path: Path, task: OGBenchEnvironment) -> Source:
    """Return the play in the file `path` as data of `task`, rewards relabelled.

    Raises ArtifactError for a file that is damaged, empty, of another scene or without the states that tasks are judged by.
    """
    columns = _columns(path, scene_parts(task.scene).buttons > 0)
    observations = checked(f"{path}: observations", columns["observations"], task.specification.observation_size)
    actions = checked(f"{path}: actions", columns["actions"], task.specification.action_size)
    worst = float(np.abs(actions).max())
    if worst > UNIT:
        raise ArtifactError(f"{path}: an action is {worst:g}, the limit is 1: give a data set of OGBench")
    states = {name: columns[name] for name in ("qpos", "button_states") if name in columns}
    for name, column in states.items():
        checked(f"{path}: {name}", column, column.shape[-1])
    ends = np.flatnonzero(columns["terminals"])
    if not len(ends) or ends[-1] != len(actions) - 1:
        raise ArtifactError(f"{path}: the last row is not terminal: the file is cut off, download it again")
    firsts = np.concatenate([[0], ends[:-1] + 1])
    shortest = int(np.argmin(ends - firsts))
    if ends[shortest] - firsts[shortest] < task.specification.chunk_steps:
        raise ArtifactError(
            f"{path}: play {shortest} has {ends[shortest] - firsts[shortest]} steps, a chunk of the task has "
            f"{task.specification.chunk_steps}: remove it"
        )

    def play(episode: int) -> Play:
        first, last = int(firsts[episode]), int(ends[episode])
        rows = slice(first, last + 1)
        buttons = states.get("button_states", np.zeros((len(actions), 0)))
        return Play(
            observations[rows],
            actions[first:last],
            states["qpos"][rows].astype(np.float64),
            buttons[rows].astype(np.float64),
        )

    return task_source(task, len(ends), play)


def _columns(path: Path, buttons: bool) -> dict[str, npt.NDArray[np.generic]]:
    names = ["observations", "actions", "terminals", "qpos", *(["button_states"] if buttons else [])]
    try:
        with np.load(path) as archive:
            missing = [name for name in names if name not in archive]
            if missing:
                raise ArtifactError(
                    f"{path} has no {missing[0]}: give the data set of a manipulation scene, which carries its states"
                )
            columns = {name: np.asarray(archive[name]) for name in names}
    except UNSOUND as error:
        raise ArtifactError(f"{path} is not a whole npz file ({error}): download it again") from error
    count = len(columns["actions"]) if columns["actions"].ndim else 0
    if count == 0:
        raise ArtifactError(f"{path} holds no steps: download it again")
    for name, column in columns.items():
        if column.ndim == 0 or len(column) != count:
            raise ArtifactError(
                f"{path}: {name} has shape {list(column.shape)}, expected {count} rows: download it again"
            )
    return columns
