"""What a policy sees and does, written down once: every field's name, frame, unit and bounds, and the timing of a chunk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import yaml

from poco.clock import TICKS_PER_SECOND
from poco.errors import ArtifactError, SettingsError
from poco.records import SCHEMA_VERSION
from poco.settings import convert_strictly

Floats = npt.NDArray[np.float64]
Bounds = Annotated[tuple[float, ...], msgspec.Meta(max_length=4096)]
Fields = Annotated[tuple["Field", ...], msgspec.Meta(max_length=256)]


ROTATION_TOLERANCE = 1e-3
"""So far may the rows of a rotation be from unit length and right angles: three digits, as people write them."""

SEEN = "images:"
"""Begins the source of what an encoder has made of a camera's images; the hash of the encoder follows."""


class Field(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One named piece of the observation or action vector.

    `source` names the quantity it is taken from (`observation.QUANTITIES` or an action of the action space), `low` and `high`
    are the values in `unit` that map to -1 and 1.
    """

    name: str
    source: str
    frame: str
    unit: str
    low: Bounds
    high: Bounds

    @property
    def size(self) -> int:
        """Number of elements of this field."""
        return len(self.low)


class Specification(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Contract between data, policy and robot; two sides work together only if their `digest()` agrees.

    A policy observes at step k; its chunk holds the actions of steps k + delay_steps ... k + delay_steps +
    chunk_steps - 1, of which the first execute_steps are executed before the next chunk attaches. Tip deltas are
    cumulative from the commanded pose at the attachment point. With gripper "width" the last element of an action is how far
    apart the fingers are to be (m).

    The robot "foreign" is an arm or simulation that poco learns for but does not drive: its actions have any size and
    mean what its environment or data set says, flange_t_tip and rest_q are empty, and its rate need not be whole ticks.
    """

    name: str
    robot: Literal["fr3", "foreign"]
    rate_hz: float
    chunk_steps: int
    execute_steps: int
    delay_steps: int
    action_space: Literal["tip_delta", "joint_position", "foreign"]
    delta_base: Literal["commanded_at_attachment", "none"]
    gripper: Literal["none", "width"]
    flange_t_tip: Bounds
    rest_q: Bounds
    observation: Fields
    action: Fields
    version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        """Refuse a specification that no arm could follow, naming value, limit and remedy."""
        period = TICKS_PER_SECOND / self.rate_hz if self.rate_hz > 0 else 0.0
        if self.version != SCHEMA_VERSION:
            raise ArtifactError(
                f"specification version is {self.version}, this poco reads {SCHEMA_VERSION}: export it again"
            )
        odd = abs(period - round(period)) > 1e-9 and self.robot != "foreign"
        if not 1.0 <= self.rate_hz <= 200.0 or odd:
            raise ArtifactError(
                f"rate_hz is {self.rate_hz}, must divide 1000 and lie in 1 to 200: choose for example 20 or 50"
            )
        if not 1 <= self.execute_steps <= self.chunk_steps <= 200:
            raise ArtifactError(
                f"execute_steps is {self.execute_steps}, must lie between 1 and chunk_steps ({self.chunk_steps}, at most 200)"
            )
        if not 0 <= self.delay_steps < self.execute_steps:
            raise ArtifactError(
                f"delay_steps is {self.delay_steps}, must be at least 0 and below execute_steps ({self.execute_steps})"
            )
        if (self.robot == "foreign") != (self.action_space == "foreign"):
            raise ArtifactError(
                f"action_space is {self.action_space} for robot {self.robot}: a foreign robot has foreign actions, and only it"
            )
        lengths = (0, 0) if self.robot == "foreign" else (16, 7)
        if (len(self.flange_t_tip), len(self.rest_q)) != lengths:
            raise ArtifactError(
                f"flange_t_tip needs {lengths[0]} numbers (row-major) and rest_q {lengths[1]} (rad) for robot {self.robot}"
            )
        if self.robot != "foreign" and not _is_pose(self.tip):
            raise ArtifactError(
                "flange_t_tip is no pose: needs three rows of a rotation with a position (m) behind it, then 0, 0, 0, 1"
            )
        if self.robot == "foreign" and self.grips:
            raise ArtifactError(
                "gripper is width for a foreign robot, whose actions are all its own: write gripper: none"
            )
        expected = {"tip_delta": 4, "joint_position": 7, "foreign": max(1, self.action_size)}[
            self.action_space
        ] + self.grips
        if self.action_size != expected:
            raise ArtifactError(
                f"action has {self.action_size} elements, action space {self.action_space} with gripper {self.gripper} has "
                f"{expected}"
            )
        if self.grips and self.action[-1].size != 1:
            raise ArtifactError(
                f"the last field of an action, {self.action[-1].name}, has {self.action[-1].size} elements, the width of a gripper "
                "is one: give it a field of its own"
            )
        base = "commanded_at_attachment" if self.action_space == "tip_delta" else "none"
        if self.delta_base != base:
            raise ArtifactError(f"delta_base is {self.delta_base}, must be {base} for action space {self.action_space}")
        for item in (*self.observation, *self.action):
            bounds = np.array([item.low, item.high]) if len(item.low) == len(item.high) else np.zeros((2, 1))
            if not np.all(np.isfinite(bounds)) or not np.all(bounds[0] < bounds[1]):
                raise ArtifactError(
                    f"field {item.name} needs finite low < high of equal length, has {item.low} and {item.high}"
                )

    @property
    def period_ticks(self) -> int:
        """Length of one control period in ticks of 1 ms, rounded for a foreign robot."""
        return round(TICKS_PER_SECOND / self.rate_hz)

    @property
    def grips(self) -> bool:
        """Whether the last element of an action is the width of a gripper."""
        return self.gripper != "none"

    @property
    def arm_action(self) -> Fields:
        """The fields of an action that move the arm: all but the width of a gripper."""
        return self.action[:-1] if self.grips else self.action

    @property
    def observation_size(self) -> int:
        """Number of elements of the observation vector."""
        return sum(item.size for item in self.observation)

    @property
    def action_size(self) -> int:
        """Number of elements of one action."""
        return sum(item.size for item in self.action)

    @property
    def tip(self) -> Floats:
        """Pose of the tool tip in the flange frame, [4, 4] (m)."""
        return np.array(self.flange_t_tip, dtype=np.float64).reshape(4, 4)

    @property
    def cameras(self) -> tuple[str, ...]:
        """The cameras through which is seen, in the order of their images; none for a policy that sees nothing."""
        return tuple(item.frame for item in self.observation if item.source.startswith(SEEN))

    @property
    def told(self) -> Specification:
        """This specification without what an encoder makes of images."""
        rest = tuple(item for item in self.observation if not item.source.startswith(SEEN))
        return msgspec.structs.replace(self, observation=rest)

    def digest(self) -> str:
        """Return the sha256 of the canonical JSON of this specification, the hash that all sides compare."""
        canonical = json.dumps(msgspec.to_builtins(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def _is_pose(matrix: Floats) -> bool:
    """Tell whether `matrix` [4, 4] turns and moves, and does nothing else."""
    turn = matrix[:3, :3]
    rigid = np.allclose(turn @ turn.T, np.eye(3), atol=ROTATION_TOLERANCE) and np.linalg.det(turn) > 0.0
    return bool(rigid and np.array_equal(matrix[3], [0.0, 0.0, 0.0, 1.0]))


def foreign_specification(
    name: str, rate_hz: float, chunk_steps: int, observation: Sequence[Field], action: Sequence[Field]
) -> Specification:
    """Return the specification of a robot that poco only learns for: chunks of `chunk_steps`, all executed, no delay."""
    return Specification(
        name=name,
        robot="foreign",
        rate_hz=rate_hz,
        chunk_steps=chunk_steps,
        execute_steps=chunk_steps,
        delay_steps=0,
        action_space="foreign",
        delta_base="none",
        gripper="none",
        flange_t_tip=(),
        rest_q=(),
        observation=tuple(observation),
        action=tuple(action),
    )


def read_specification(path: Path) -> Specification:
    """Read the specification in the YAML file at `path`.

    Raises SettingsError for a missing file, no YAML, an unknown or missing key or a wrong type, ArtifactError for a value no arm
    could follow. Any process may call it.
    """
    if not path.is_file():
        lack = "is a folder" if path.is_dir() else "does not exist"
        raise SettingsError(f"specification file {path} {lack}: see configs/ for a whole example")
    try:
        tree = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"specification file {path} is not YAML ({' '.join(str(error).split())})") from error
    return convert_strictly(tree, Specification, f"specification file {path}")


def scale(fields: tuple[Field, ...], values: npt.ArrayLike) -> Floats:
    """Map physical `values` [..., size] to [-1, 1] by the bounds of `fields`, clipped."""
    low, high = _bounds(fields)
    return np.clip(2.0 * (np.asarray(values, dtype=np.float64) - low) / (high - low) - 1.0, -1.0, 1.0)


def unscale(fields: tuple[Field, ...], values: npt.ArrayLike) -> Floats:
    """Map `values` [..., size] in [-1, 1], clipped, to physical units by the bounds of `fields`."""
    low, high = _bounds(fields)
    return low + (np.clip(np.asarray(values, dtype=np.float64), -1.0, 1.0) + 1.0) * 0.5 * (high - low)


def _bounds(fields: tuple[Field, ...]) -> tuple[Floats, Floats]:
    return np.concatenate([item.low for item in fields]), np.concatenate([item.high for item in fields])
