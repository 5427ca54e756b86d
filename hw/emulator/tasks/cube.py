"""Cube placing: a cube on the table to be grasped, lifted and set down on a marked square, and what the task's sensor tells.

The cube is a free body that nothing but contact forces hold; the square it belongs on does not move.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from poco.limits import Guards
from poco.records import TaskOutcome, TaskSignal

from ...cube_operator import CUBE_SIDE_M, GOAL_M
from ..arm import SimulatedArm
from ..fingers import WIDTH_MAX_M, SimulatedFingers
from ..model import HAND_TO_END_EFFECTOR_M, fr3_mjcf

Floats = npt.NDArray[np.float64]

TIP_FROM_FLANGE_M = HAND_TO_END_EFFECTOR_M
"""From the flange to where the fingers hold, along the hand; the specification's flange_t_tip says the same."""

CUBE_MASS_KG = 0.080
CENTRE_M = (0.50, -0.08)
SPREAD_M = 0.040
SPREAD_RAD = 0.25
"""Where the cube lies at the start of an episode, about the centre."""

GOAL_RADIUS_M = 0.020
RESTING_M = 0.003
RELEASED_M = 0.006
"""The cube counts as placed when it lies this near to goal and table, with the fingers so much further apart than it is."""

NOISE_M, NOISE_RAD = 0.0005, 0.005
"""Standard deviation of the pose that the sensor reports."""

JOINT_IMPEDANCE_NM_RAD = (1500.0, 1500.0, 1500.0, 1500.0, 600.0, 600.0, 200.0)
COLLISION_TORQUE_NM = (60.0, 60.0, 60.0, 60.0, 30.0, 30.0, 30.0)
COLLISION_FORCE_N = (80.0, 80.0, 80.0, 30.0, 30.0, 30.0)

GUARDS = Guards(box_min_m=(0.30, -0.25, 0.0), box_max_m=(0.70, 0.25, 0.60))
"""Where the tip may be during this task; the robot's settings file says the same."""

_SKY = '<asset><texture type="skybox" builtin="gradient" rgb1=".86 .90 .94" rgb2=".60 .67 .74" width="64" height="64"/></asset>'
_FRICTION = '<option cone="elliptic" impratio="10"/>'
"""With MuJoCo's plain friction cone a held cube creeps out of the fingers."""


def cube_mjcf() -> str:
    """Return the MJCF of the FR3 with moving fingers, the cube and the marked square on the table."""
    half = CUBE_SIDE_M / 2
    table = (
        '<geom name="table" type="box" contype="0" conaffinity="0" size=".30 .35 .001" pos=".5 0 0" rgba=".72 .60 .46 1"/>'
        f'<geom name="goal" type="box" contype="0" conaffinity="0" size="{half} {half} .0005" '
        f'pos="{GOAL_M[0]} {GOAL_M[1]} .001" rgba=".20 .60 .35 1"/>'
        '<camera name="task" pos="1.05 -0.78 0.46" xyaxes=".786 .619 .000 -.153 .194 .969" fovy="36"/>'
        '<camera name="near" pos=".80 0 .22" xyaxes="0 1 0 -.471 0 .882" fovy="36"/>'
        f'<body name="cube" pos="{CENTRE_M[0]} {CENTRE_M[1]} {half}"><freejoint name="cube"/>'
        f'<geom name="cube" type="box" mass="{CUBE_MASS_KG}" size="{half} {half} {half}" rgba=".80 .25 .20 1" '
        'friction="1 .02 .0001" condim="4" solref=".004 1" solimp=".95 .99 .0005"/></body>'
    )
    hand = (
        f'<site name="tip" pos="0 0 {TIP_FROM_FLANGE_M}" size=".002" rgba="0 0 0 0"/>'
        '<camera name="wrist" pos=".09 0 .02" xyaxes="0 -1 0 -.882 0 -.471" fovy="70"/>'
    )
    return fr3_mjcf(table, hand, _SKY + _FRICTION, moving_fingers=True)


class CubePlacing:
    """The running task on one simulated arm with a gripper: places the cube, senses it, and says how the episode stands.

    Used by the process that simulates; it reads the true scene, and only `signal` is what a policy may know.
    """

    def __init__(self, seed: int = 0) -> None:
        """Build the scene with the arm in it, set the task's joint impedance and place the cube by `seed`."""
        self.collision_torque_nm: tuple[float, ...] = COLLISION_TORQUE_NM
        self.collision_force_n: tuple[float, ...] = COLLISION_FORCE_N
        self.mjcf = cube_mjcf()
        self.arm = SimulatedArm.from_mjcf(self.mjcf)
        self.arm.joint_impedance = np.array(JOINT_IMPEDANCE_NM_RAD)
        self.fingers: SimulatedFingers | None = SimulatedFingers(self.arm, WIDTH_MAX_M)
        joint = self.arm.model.joint("cube")
        self._place, self._dof = int(joint.qposadr[0]), int(joint.dofadr[0])
        self._cube = self.arm.data.body("cube")
        self.place(seed)

    def place(self, seed: int) -> None:
        """Lay the cube where `seed` (>= 0) says, +-4 cm and +-0.25 rad about the centre; the hand must be clear of it."""
        draw = np.random.default_rng([seed, 0]).uniform(-1.0, 1.0, 3)
        position = np.array([*CENTRE_M, CUBE_SIDE_M / 2])
        position[:2] += SPREAD_M * draw[:2]
        self.put(position, float(SPREAD_RAD * draw[2]))
        self._seed = seed
        self._first_sensed_tick = -1

    def put(self, position: Floats, yaw_rad: float) -> None:
        """Put the middle of the cube at `position` [3] (m, base frame), at rest, turned by `yaw_rad` about base z."""
        data, place, dof = self.arm.data, self._place, self._dof
        data.qpos[place : place + 3] = position
        data.qpos[place + 3 : place + 7] = (math.cos(yaw_rad / 2), 0.0, 0.0, math.sin(yaw_rad / 2))
        data.qvel[dof : dof + 6] = 0.0
        self.arm.refresh()

    @property
    def cube_position(self) -> Floats:
        """Middle of the cube [3] (m, base frame)."""
        return np.array(self._cube.xpos)

    @property
    def cube_yaw(self) -> float:
        """How far the cube is turned about base z (rad), brought into -pi/4 to pi/4: its sides all look alike."""
        axes = self._cube.xmat.reshape(3, 3)
        yaw_rad = math.atan2(axes[1, 0], axes[0, 0])
        return (yaw_rad + math.pi / 4) % (math.pi / 2) - math.pi / 4

    @property
    def outcome(self) -> TaskOutcome:
        """ "success" while the cube lies on the goal and nothing holds it, else "running"; a reflex is the arm's to report."""
        x, y, z = self.cube_position
        near = math.hypot(x - GOAL_M[0], y - GOAL_M[1]) < GOAL_RADIUS_M
        resting = abs(z - CUBE_SIDE_M / 2) < RESTING_M
        released = self.fingers is not None and self.fingers.width_m > CUBE_SIDE_M + RELEASED_M
        return "success" if near and resting and released else "running"

    def signal(self, tick: int) -> TaskSignal:
        """Return what the sensor sees in robot tick `tick` (>= 0): the middle and yaw of the cube.

        The noise depends on the seed of `place` and on the ticks since the first look after it.
        """
        if self._first_sensed_tick < 0:
            self._first_sensed_tick = tick
        noise = np.random.default_rng([self._seed, 1, tick - self._first_sensed_tick]).standard_normal(4)
        x, y, z = (self.cube_position + NOISE_M * noise[:3]).tolist()
        return TaskSignal(
            tick=tick,
            target_position=(x, y, z),
            target_yaw=self.cube_yaw + NOISE_RAD * float(noise[3]),
            noise_m=NOISE_M,
            noise_rad=NOISE_RAD,
            outcome=self.outcome,
        )
