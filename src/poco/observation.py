"""From robot state and task signal to the observation vector a policy sees, in environment and runtime alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from poco.errors import ArtifactError
from poco.kinematics import forward, jacobian
from poco.records import ROBOT_STATE, TaskSignal
from poco.settings import nearest
from poco.specification import SEEN, Field, Specification, scale

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything an observation may be made of: measured and commanded joints [7] (rad, rad/s), tip poses, task signal.

    `commanded_velocity` [3] (m/s, base frame) is the velocity of the commanded tip, `gripper_width` (m) how far apart the fingers
    are, NaN without a gripper.
    """

    q: Floats
    dq: Floats
    q_c: Floats
    tip_position: Floats
    tip_yaw: float
    commanded_position: Floats
    commanded_yaw: float
    commanded_velocity: Floats
    gripper_width: float
    signal: TaskSignal


def tip_pose(q: Floats, flange_t_tip: Floats) -> tuple[Floats, float]:
    """Return position [3] (m) and yaw (rad, of the tip's x axis about base z) of the tool tip at joints `q` [7]."""
    position, rotation = forward(q, flange_t_tip)
    return position, float(np.arctan2(rotation[1, 0], rotation[0, 0]))


def wrap(angle_rad: float) -> float:
    """Return `angle_rad` brought into (-pi, pi]."""
    return float(-((np.pi - angle_rad) % (2.0 * np.pi) - np.pi))


def scene(state: npt.NDArray[np.void], signal: TaskSignal, specification: Specification) -> Scene:
    """Build the Scene of one ROBOT_STATE record and one TaskSignal; any process may call it."""
    tip = specification.tip
    position, yaw = tip_pose(state["q"], tip)
    commanded_position, commanded_yaw = tip_pose(state["q_c"], tip)
    commanded_velocity = jacobian(state["q_c"], tip)[:3] @ state["dq_c"]
    return Scene(
        q=state["q"],
        dq=state["dq"],
        q_c=state["q_c"],
        tip_position=position,
        tip_yaw=yaw,
        commanded_position=commanded_position,
        commanded_yaw=commanded_yaw,
        commanded_velocity=commanded_velocity,
        gripper_width=float(state["gripper_width"]),
        signal=signal,
    )


QUANTITIES: Mapping[str, Callable[[Scene], npt.ArrayLike]] = {
    "joint_position": lambda view: view.q,
    "joint_velocity": lambda view: view.dq,
    "tip_position": lambda view: view.tip_position,
    "tip_yaw": lambda view: view.tip_yaw,
    "target_offset": lambda view: np.subtract(view.signal.target_position, view.tip_position),
    "target_yaw_offset": lambda view: wrap(view.signal.target_yaw - view.tip_yaw),
    "lead_position": lambda view: view.commanded_position - view.tip_position,
    "commanded_velocity": lambda view: view.commanded_velocity,
    "gripper_width": lambda view: view.gripper_width,
    "lead_yaw": lambda view: wrap(view.commanded_yaw - view.tip_yaw),
}
"""Named quantities a field's `source` may take."""

UNITS: Mapping[str, str] = {
    "joint_position": "rad",
    "joint_velocity": "rad/s",
    "tip_position": "m",
    "tip_yaw": "rad",
    "target_offset": "m",
    "target_yaw_offset": "rad",
    "lead_position": "m",
    "commanded_velocity": "m/s",
    "gripper_width": "m",
    "lead_yaw": "rad",
    "tip_step": "m",
    "yaw_step": "rad",
}
"""What they, and the actions, are given in."""

ACTIONS: Mapping[str, tuple[str, ...]] = {
    "tip_delta": ("tip_step", "tip_step", "tip_step", "yaw_step"),
    "joint_position": ("joint_position",) * 7,
}
"""What the elements of an action are in each action space, one by one; the width of a gripper comes behind them."""

TARGET = ("target_offset", "target_yaw_offset")
"""Those that depend on what the task's sensor tells."""


def sees_target(specification: Specification) -> bool:
    """Tell whether an observation holds where the task's sensor sees the target."""
    return any(item.source in TARGET for item in specification.observation)


def without_target(specification: Specification) -> tuple[Specification, Specification]:
    """Return `specification` without what depends on the target, which images show instead, and with nothing but that."""
    hidden = tuple(item for item in specification.observation if item.source in TARGET)
    rest = tuple(item for item in specification.observation if item.source not in TARGET)
    return (
        msgspec.structs.replace(specification, observation=rest),
        msgspec.structs.replace(specification, observation=hidden),
    )


def check_sources(specification: Specification) -> None:
    """Raise ArtifactError if the robot is not ours, or a field names an unknown source, one of another size or unit, or an action
    that is moved otherwise. Before motion.
    """
    if specification.robot == "foreign":
        raise ArtifactError(
            f"specification {specification.name} is of a foreign robot, which poco trains for but does not drive: give a policy "
            "of the FR3"
        )
    state = np.zeros((), ROBOT_STATE)
    state["q"] = state["q_c"] = specification.rest_q
    signal = TaskSignal(
        tick=0, target_position=(0.0,) * 3, target_yaw=0.0, noise_m=0.0, noise_rad=0.0, outcome="running"
    )
    view = scene(state, signal, specification)
    for item in specification.observation:
        if item.source.startswith(SEEN):
            continue
        if item.source == "gripper_width" and not specification.grips:
            raise ArtifactError(
                f"field {item.name} is the width of a gripper, the specification has gripper: none: write gripper: width"
            )
        if item.source not in QUANTITIES:
            raise ArtifactError(
                f"field {item.name} has the unknown source {item.source!r}; {nearest(item.source, list(QUANTITIES))}"
            )
        size = np.size(QUANTITIES[item.source](view))
        if size != item.size:
            raise ArtifactError(
                f"field {item.name} has {item.size} elements, its source {item.source} gives {size}: correct low and high"
            )
        _check_unit(item)
    _check_action(specification)


def _check_action(specification: Specification) -> None:
    """Raise ArtifactError unless the elements of an action are what its action space moves, in this order and unit."""
    due = ACTIONS[specification.action_space] + ("gripper_width",) * specification.grips
    if [item.source for item in specification.action for _ in range(item.size)] != list(due):
        elements = ", ".join(f"{source} ({due.count(source)})" for source in dict.fromkeys(due))
        named = ", ".join(f"{item.source} ({item.size})" for item in specification.action)
        raise ArtifactError(
            f"the fields of an action have the sources {named}, action space {specification.action_space} with gripper "
            f"{specification.gripper} has {elements}, in this order: name them so"
        )
    for item in specification.action:
        _check_unit(item)


def _check_unit(item: Field) -> None:
    """Raise ArtifactError where a field of a known source says that it has another unit than that."""
    unit = UNITS[item.source]
    if item.unit != unit:
        raise ArtifactError(
            f"field {item.name} is in {item.unit}, its source {item.source} in {unit}: give low and high in {unit}"
        )


def observe(state: npt.NDArray[np.void], signal: TaskSignal, specification: Specification) -> npt.NDArray[np.float32]:
    """Return the observation vector [observation_size] in [-1, 1] that the model sees.

    `state` is one ROBOT_STATE record. What is seen through cameras is not among it: give the specification's `told` part. Any
    process may call it. Sources are checked by `check_sources` beforehand.
    """
    view = scene(state, signal, specification)
    values = np.concatenate(
        [np.atleast_1d(np.asarray(QUANTITIES[item.source](view))) for item in specification.observation]
    )
    return scale(specification.observation, values).astype(np.float32)
