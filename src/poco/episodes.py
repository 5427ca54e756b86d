"""The episode file: safetensors with a typed JSON header, written beside and renamed, one file an episode."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from poco.durable import write_durably
from poco.errors import ArtifactError
from poco.records import SCHEMA_VERSION, EpisodeEnd, Step, StepKey
from poco.specification import Specification
from poco.views import Views

FORMAT = "poco-episode"
MAX_FILE_BYTES = 1 << 30
_KEY = "poco"


class EpisodeHeader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Typed header of an episode file; `steps` is the number of rows of every tensor, those of what `cameras` saw have one more."""

    format: str
    version: int
    specification: Specification
    specification_hash: str
    end: EpisodeEnd
    steps: int
    cameras: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Episode:
    """Steps of one episode in order and its end, with the specification they were recorded under, and what cameras saw."""

    specification: Specification
    steps: tuple[Step, ...]
    end: EpisodeEnd
    views: Views | None = field(default=None, compare=False)

    @property
    def observations(self) -> npt.NDArray[np.float32]:
        """Observations [steps, observation_size] as the model saw them."""
        return np.array([step.observation for step in self.steps], dtype=np.float32)

    @property
    def actions_policy(self) -> npt.NDArray[np.float32]:
        """What the policy asked for, [steps, action_size] in action units."""
        return np.array([step.action_policy for step in self.steps], dtype=np.float32)

    @property
    def rewards(self) -> npt.NDArray[np.float32]:
        """Raw rewards [steps]."""
        return np.array([step.reward for step in self.steps], dtype=np.float32)


def write_episode(
    path: Path, specification: Specification, steps: Sequence[Step], end: EpisodeEnd, views: Views | None = None
) -> None:
    """Write one episode durably to `path`; raises ArtifactError if a step does not fit the specification or a view is missing."""
    size, action = specification.observation_size, specification.action_size
    for step in steps:
        if len(step.observation) != size or len(step.action_policy) != action or len(step.action_executed) != action:
            raise ArtifactError(f"step {step.key.step} does not have {size} observation and {action} action elements")
    header = EpisodeHeader(
        format=FORMAT,
        version=SCHEMA_VERSION,
        specification=specification,
        specification_hash=specification.digest(),
        end=end,
        steps=len(steps),
        cameras=() if views is None else views.cameras,
    )
    columns: dict[str, npt.NDArray[np.generic]] = {
        "step": np.array([step.key.step for step in steps], dtype=np.int64),
        "tick": np.array([step.tick for step in steps], dtype=np.int64),
        "generation": np.array([step.generation for step in steps], dtype=np.int64),
        "chunk_id": np.array([step.chunk_id for step in steps], dtype=np.int64),
        "observation": np.array([step.observation for step in steps], dtype=np.float64).reshape(-1, size),
        "action_policy": np.array([step.action_policy for step in steps], dtype=np.float64).reshape(-1, action),
        "action_executed": np.array([step.action_executed for step in steps], dtype=np.float64).reshape(-1, action),
        "reward": np.array([step.reward for step in steps], dtype=np.float64),
        "intervened": np.array([step.intervened for step in steps], dtype=np.uint8),
    }
    if views is not None:
        columns |= {"images": np.ascontiguousarray(views.images), "target": np.ascontiguousarray(views.target)}
        if not _whole(header, columns):
            raise ArtifactError(f"{len(views.images)} views do not belong to {len(steps)} steps: it takes one more")
    payload = save(columns, metadata={_KEY: msgspec.json.encode(header).decode()})
    write_durably(path, payload)


def read_episode(path: Path) -> Episode:
    """Read and check one episode file; raises ArtifactError naming the file and what is wrong with it."""
    if not path.is_file():
        raise ArtifactError(f"episode file {path} does not exist")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ArtifactError(f"episode file {path} has {path.stat().st_size} bytes, the limit is {MAX_FILE_BYTES}")
    try:
        with safe_open(path, framework="numpy") as file:
            header = msgspec.json.decode((file.metadata() or {}).get(_KEY, ""), type=EpisodeHeader)
            columns = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, msgspec.MsgspecError, OSError) as error:
        raise ArtifactError(f"episode file {path} is not readable ({error}): record it again") from error
    if header.format != FORMAT or header.version != SCHEMA_VERSION:
        raise ArtifactError(
            f"episode file {path} is {header.format} v{header.version}, expected {FORMAT} v{SCHEMA_VERSION}"
        )
    if header.specification.digest() != header.specification_hash:
        raise ArtifactError(
            f"episode file {path} carries a specification that does not match its hash: record it again"
        )
    expected = {"step", "tick", "generation", "chunk_id", "observation", "action_policy", "action_executed", "reward"}
    if header.cameras:
        expected |= {"images", "target"}
    if set(columns) != expected | {"intervened"} or not _whole(header, columns):
        raise ArtifactError(f"episode file {path} does not hold {header.steps} rows of every column: record it again")
    if not all(
        np.all(np.isfinite(columns[name])) for name in ("observation", "action_policy", "action_executed", "reward")
    ):
        raise ArtifactError(f"episode file {path} holds a value that is not finite: discard it")
    images, target = columns.get("images"), columns.get("target")
    views = None
    if images is not None and target is not None:
        if not np.all(np.isfinite(target)):
            raise ArtifactError(f"episode file {path} holds a target that is not finite: discard it")
        views = Views(header.cameras, images, target.astype(np.float32))
    return Episode(header.specification, tuple(_steps(header, columns)), header.end, views)


def _whole(header: EpisodeHeader, columns: Mapping[str, npt.NDArray[np.generic]]) -> bool:
    """Whether every column has its rows, and images the shape of those of the cameras."""
    seen = {name: column for name, column in columns.items() if name in ("images", "target")}
    if any(len(column) != header.steps for name, column in columns.items() if name not in seen):
        return False
    if any(len(column) != header.steps + 1 for column in seen.values()):
        return False
    images = seen.get("images")
    if images is None:
        return True
    sides = images.shape[3:]
    return images.dtype == np.uint8 and images.shape[1:3] == (len(header.cameras), 3) and sides == sides[:1] * 2


def _steps(header: EpisodeHeader, columns: dict[str, npt.NDArray[np.generic]]) -> Iterable[Step]:
    end = header.end
    rows = {name: column.tolist() for name, column in columns.items()}
    for row in range(header.steps):
        yield Step(
            key=StepKey(end.robot, end.boot_epoch, end.episode, rows["step"][row]),
            tick=rows["tick"][row],
            generation=rows["generation"][row],
            chunk_id=rows["chunk_id"][row],
            observation=rows["observation"][row],
            action_policy=rows["action_policy"][row],
            action_executed=rows["action_executed"][row],
            reward=rows["reward"][row],
            intervened=bool(rows["intervened"][row]),
        )
