"""Peg-in-hole: a square peg in the hand, a square hole in a block on the table, and what the task's sensor tells.

Everything that makes the task easy or hard is a value of `PegInHoleParameters`. The block is a mocap body, so that it can
be put elsewhere between episodes; nothing but contact forces acts between peg and block.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from poco.errors import UsageError
from poco.limits import Guards
from poco.records import TaskOutcome, TaskSignal

from ..arm import SimulatedArm
from ..fingers import SimulatedFingers
from ..model import fr3_mjcf

Floats = npt.NDArray[np.float64]
Variant = Literal["easy", "hard"]

TIP_FROM_FLANGE_M = 0.150
"""From the flange to the peg's lower end, along the hand; the specification's flange_t_tip says the same."""

PEG_LENGTH_M = 0.060
HOLE_DEPTH_M = 0.045
SUCCESS_DEPTH_M = 0.025
RIM_HEIGHT_M = 0.050
CENTRE_M = (0.50, 0.0)
SPREAD_M = 0.050
SPREAD_RAD = 0.25
START_HEIGHT_M = 0.11
"""How far above the rim the tip starts an episode, over the middle of the region in which the hole lies."""

GUARDS = Guards(box_min_m=(0.30, -0.25, 0.0), box_max_m=(0.70, 0.25, 0.60))
"""Where the tip may be during this task; the robot's settings file says the same."""

CAMERAS = ("near", "wrist")
"""What a policy that sees is shown: the block and its surroundings from the front, and what lies before the hand."""

BLOCK_SIDE_M = 0.100
_SKY = '<asset><texture type="skybox" builtin="gradient" rgb1=".86 .90 .94" rgb2=".60 .67 .74" width="64" height="64"/></asset>'
_CONTACT = 'friction=".2 .005 .0001" solref=".004 1" solimp=".95 .99 .0005"'


@dataclass(frozen=True, slots=True)
class PegInHoleParameters:
    """One member of the task family.

    `clearance_m` is the gap on each side of the peg; `noise_m` and `noise_rad` are the standard deviations of the pose that
    the sensor reports; `bias_m` is how far the scripted operator misjudges the hole. `joint_impedance_nm_rad` is lowered
    from the vendor's 3000 ... 2000 so that 10 mm of lead press with about 40 N, and the collision thresholds are raised
    from the vendor example's 40 N m and 20 N to what a touch-down at 0.05 m/s does not reach (60 N).
    """

    clearance_m: float = 0.0030
    peg_side_m: float = 0.020
    noise_m: float = 0.0005
    noise_rad: float = 0.005
    bias_m: float = 0.0
    joint_impedance_nm_rad: tuple[float, ...] = (1500.0, 1500.0, 1500.0, 1500.0, 600.0, 600.0, 200.0)
    collision_torque_nm: tuple[float, ...] = (60.0, 60.0, 60.0, 60.0, 30.0, 30.0, 30.0)
    collision_force_n: tuple[float, ...] = (80.0, 80.0, 80.0, 30.0, 30.0, 30.0)

    def __post_init__(self) -> None:
        """Refuse a task that no block could be made for, naming value, limit and remedy."""
        if not 0.010 <= self.peg_side_m <= 0.040:
            raise UsageError(
                f"peg_side_m is {self.peg_side_m} m, must lie in 0.010 to 0.040 m: choose for example 0.020"
            )
        if not 0.0002 <= self.clearance_m <= 0.010:
            raise UsageError(
                f"clearance_m is {self.clearance_m} m a side, must lie in 0.0002 to 0.010 m: choose for example 0.0012"
            )
        if min(self.noise_m, self.noise_rad, self.bias_m) < 0.0 or max(self.noise_m, self.bias_m) > 0.02:
            raise UsageError(
                f"noise_m {self.noise_m}, noise_rad {self.noise_rad} and bias_m {self.bias_m} must lie in 0 to 0.02 m "
                "and be no negative angle: choose for example 0.0005, 0.005 and 0.002"
            )


EASY = PegInHoleParameters()
HARD = replace(EASY, clearance_m=0.0012, bias_m=0.002)


def parameters(variant: Variant) -> PegInHoleParameters:
    """Return the parameters of the named variant; raises UsageError for a name that is none."""
    if variant not in get_args(Variant):
        raise UsageError(f"variant is {variant!r}, known are {', '.join(get_args(Variant))}: choose one of them")
    return EASY if variant == "easy" else HARD


def peg_in_hole_mjcf(task: PegInHoleParameters) -> str:
    """Return the MJCF of the FR3 with the peg in its hand and the block with the hole on the table."""
    half, top = task.peg_side_m / 2, TIP_FROM_FLANGE_M - PEG_LENGTH_M
    peg = (
        f'<geom name="peg" class="arm" type="box" mass="0" size="{half} {half} {PEG_LENGTH_M / 2}" '
        f'pos="0 0 {top + PEG_LENGTH_M / 2}" rgba=".95 .60 .15 1" {_CONTACT}/>'
        f'<site name="tip" pos="0 0 {TIP_FROM_FLANGE_M}" size=".002" rgba="0 0 0 0"/>'
        '<camera name="wrist" pos=".09 0 .02" xyaxes="0 -1 0 -.882 0 -.471" fovy="70"/>'
    )
    table = (
        '<geom name="table" type="box" contype="0" conaffinity="0" size=".30 .35 .001" pos=".5 0 0" rgba=".72 .60 .46 1"/>'
        '<camera name="task" pos="1.05 -0.78 0.46" xyaxes=".786 .619 .000 -.153 .194 .969" fovy="36"/>'
        '<camera name="near" pos=".80 0 .22" xyaxes="0 1 0 -.471 0 .882" fovy="36"/>'
    )
    return fr3_mjcf(table + _block(task), peg, _SKY, finger_opening_m=task.peg_side_m)


def _block(task: PegInHoleParameters) -> str:
    """Four walls that overlap nowhere, each beginning where the one before it ends, on a floor."""
    hole, outer = task.peg_side_m / 2 + task.clearance_m, BLOCK_SIDE_M / 2
    short, long = (outer - hole) / 2, (outer + hole) / 2
    sides = {
        "wall_front": (long, short, short, long),
        "wall_left": (-short, long, long, short),
        "wall_back": (-long, -short, short, long),
        "wall_right": (short, -long, long, short),
    }
    base = RIM_HEIGHT_M - HOLE_DEPTH_M
    walls = "".join(
        f'<geom name="{name}" type="box" size="{a} {b} {HOLE_DEPTH_M / 2}" pos="{x} {y} {-HOLE_DEPTH_M / 2}" '
        f'rgba=".20 .38 .62 1" {_CONTACT}/>'
        for name, (x, y, a, b) in sides.items()
    )
    return (
        f'<body name="hole" mocap="true" pos="{CENTRE_M[0]} {CENTRE_M[1]} {RIM_HEIGHT_M}">{walls}'
        f'<geom name="hole_floor" type="box" size="{outer} {outer} {base / 2}" pos="0 0 {-HOLE_DEPTH_M - base / 2}" '
        f'rgba=".12 .20 .32 1" {_CONTACT}/></body>'
    )


class PegInHole:
    """The running task on one simulated arm: places the hole, senses it, and says how the episode stands.

    Used by the process that simulates; it reads the true scene, and only `signal` is what a policy may know.
    """

    def __init__(self, task: PegInHoleParameters, seed: int = 0) -> None:
        """Build the scene with the arm in it, set the task's joint impedance and place the hole by `seed`."""
        self.parameters = task
        self.collision_torque_nm, self.collision_force_n = task.collision_torque_nm, task.collision_force_n
        self.fingers: SimulatedFingers | None = None
        self.mjcf = peg_in_hole_mjcf(task)
        self.arm = SimulatedArm.from_mjcf(self.mjcf)
        self.arm.joint_impedance = np.array(task.joint_impedance_nm_rad)
        self._tip = self.arm.data.site("tip")
        self._hole = int(self.arm.model.body("hole").mocapid[0])
        self.hole_position = np.zeros(3)
        self.hole_yaw = 0.0
        self.place(seed)

    def place(self, seed: int) -> None:
        """Put the hole where `seed` (>= 0) says, +-5 cm and +-0.25 rad about the centre; the arm must be clear of it."""
        draw = np.random.default_rng([seed, 0]).uniform(-1.0, 1.0, 3)
        position = np.array([*CENTRE_M, RIM_HEIGHT_M])
        position[:2] += SPREAD_M * draw[:2]
        self.put(position, float(SPREAD_RAD * draw[2]))
        self._seed = seed
        self._first_sensed_tick = -1

    def put(self, position: Floats, yaw_rad: float) -> None:
        """Put the middle of the hole's rim at `position` [3] (m, base frame), turned by `yaw_rad` about base z."""
        self.hole_position, self.hole_yaw = position, yaw_rad
        data = self.arm.data
        data.mocap_pos[self._hole] = position
        data.mocap_quat[self._hole] = (math.cos(yaw_rad / 2), 0.0, 0.0, math.sin(yaw_rad / 2))
        self.arm.refresh()

    @property
    def depth_m(self) -> float:
        """How far the peg's lower end is below the rim, 0 if it is beside the hole (m)."""
        offset = self._tip.xpos - self.hole_position
        half = self.parameters.peg_side_m / 2 + self.parameters.clearance_m
        inside = math.hypot(offset[0], offset[1]) < half
        return max(0.0, -float(offset[2])) if inside else 0.0

    @property
    def outcome(self) -> TaskOutcome:
        """ "success" while the peg is at least SUCCESS_DEPTH_M deep, else "running"; a reflex is the arm's to report."""
        return "success" if self.depth_m >= SUCCESS_DEPTH_M else "running"

    def signal(self, tick: int) -> TaskSignal:
        """Return what the sensor sees in robot tick `tick` (>= 0).

        The noise depends on the seed of `place` and on the ticks since the first look after it, so that an episode does not
        depend on when it starts.
        """
        if self._first_sensed_tick < 0:
            self._first_sensed_tick = tick
        noise = np.random.default_rng([self._seed, 1, tick - self._first_sensed_tick]).standard_normal(4)
        x, y, z = (self.hole_position + self.parameters.noise_m * noise[:3]).tolist()
        return TaskSignal(
            tick=tick,
            target_position=(x, y, z),
            target_yaw=self.hole_yaw + self.parameters.noise_rad * float(noise[3]),
            noise_m=self.parameters.noise_m,
            noise_rad=self.parameters.noise_rad,
            outcome=self.outcome,
        )
