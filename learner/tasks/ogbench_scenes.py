"""The manipulation scenes of OGBench (Park et al. 2024): what is in them, and the specification of their observations.

The bounds hold the arm's workspace, the ways of buttons, drawer and window, and the velocities of play and of random actions with
some margin. What lies beyond them, such as a cube that was knocked off the table, is clipped, and the environment counts it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from poco.errors import UsageError
from poco.settings import nearest
from poco.specification import Field, Specification, foreign_specification

RATE_HZ = 20.0
TASKS = (1, 2, 3, 4, 5)

RewardKind = Literal["published", "success"]
Bounds = tuple[str, tuple[float, ...], tuple[float, ...]]
"""Unit of a field and the values in it that map to -1 and 1."""


@dataclass(frozen=True, slots=True)
class SceneParts:
    """What a scene is made of; `slides` is 2 with drawer and window, `episode_steps` the published time limit."""

    cubes: int
    buttons: int
    slides: int
    episode_steps: int

    @property
    def parts(self) -> int:
        """Number of parts of a task that can be satisfied."""
        return self.cubes + self.buttons + self.slides


SCENES = {
    "cube-single": SceneParts(1, 0, 0, 200),
    "cube-double": SceneParts(2, 0, 0, 500),
    "cube-triple": SceneParts(3, 0, 0, 1000),
    "scene": SceneParts(1, 2, 2, 750),
    "puzzle-3x3": SceneParts(0, 9, 0, 500),
}

ARM: dict[str, Bounds] = {
    "joint_position": (
        "rad",
        (-3.5, -3.0, 0.5, -3.5, -2.0, -2.0 * math.pi),
        (-0.4, -0.4, 3.1, -0.7, -1.2, 2.0 * math.pi),
    ),
    "joint_velocity": ("rad/s", (-4.0, -4.0, -4.0, -6.0, -4.0, -4.0), (4.0, 4.0, 4.0, 6.0, 4.0, 4.0)),
    "tip_position": ("0.1 m", (-2.5, -4.5, 0.0), (2.5, 4.5, 4.5)),
    "tip_yaw_cosine_sine": ("1", (-1.0, -1.0), (1.0, 1.0)),
    "gripper_closing": ("1/3", (0.0,), (3.0,)),
    "gripper_contact": ("1", (0.0,), (1.0,)),
}
CUBE: dict[str, Bounds] = {
    "position": ("0.1 m", (-4.0, -6.0, 0.0), (4.0, 6.0, 4.5)),
    "quaternion": ("1", (-1.0,) * 4, (1.0,) * 4),
    "yaw_cosine_sine": ("1", (-1.0, -1.0), (1.0, 1.0)),
}
BUTTON: dict[str, Bounds] = {
    "state": ("1", (0.0, 0.0), (1.0, 1.0)),
    "position": ("1/120 m", (-4.0,), (4.0,)),
    "velocity": ("m/s", (-1.0,), (1.0,)),
}
SLIDES: dict[str, Bounds] = {
    "drawer_position": ("1/18 m", (-3.2,), (0.4,)),
    "drawer_velocity": ("m/s", (-1.0,), (1.0,)),
    "window_position": ("1/15 m", (-0.4,), (3.4,)),
    "window_velocity": ("m/s", (-1.0,), (1.0,)),
}
ACTION: dict[str, Bounds] = {
    "tip_step": ("m", (-0.05,) * 3, (0.05,) * 3),
    "yaw_step": ("rad", (-0.3,), (0.3,)),
    "gripper_step": ("1", (-1.0,), (1.0,)),
}


def scene_parts(scene: str) -> SceneParts:
    """Return what `scene` is made of; raises UsageError with the nearest known name."""
    if scene not in SCENES:
        raise UsageError(f"the OGBench scene {scene!r} is unknown; {nearest(scene, list(SCENES))}")
    return SCENES[scene]


def scene_specification(scene: str, chunk_steps: int, reward: RewardKind = "published") -> Specification:
    """Return the specification of `scene`: chunks of `chunk_steps` actions, all executed, without delay.

    Its name tells the kind of reward, so that data of one kind are never taken for those of the other. Raises UsageError.
    """
    if reward not in ("published", "success"):
        raise UsageError(f"reward is {reward!r}, must be published or success")
    parts = scene_parts(scene)
    observation = [*_fields("", ARM)]
    for cube in range(parts.cubes):
        observation += _fields(f"cube_{cube}_", CUBE)
    for button in range(parts.buttons):
        observation += _fields(f"button_{button}_", BUTTON)
    if parts.slides:
        observation += _fields("", SLIDES)
    return foreign_specification(
        f"ogbench_{scene}_{reward}", RATE_HZ, chunk_steps, observation, list(_fields("", ACTION))
    )


def _fields(prefix: str, table: dict[str, Bounds]) -> Iterator[Field]:
    for name, (unit, low, high) in table.items():
        full = prefix + name
        yield Field(name=full, source=f"ogbench.{full}", frame="world", unit=unit, low=low, high=high)
