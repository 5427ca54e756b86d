"""The FR3 as one table, and the two texts made from it: the MJCF that is simulated and the URDF that is served.

Joint frames are the vendor's published kinematics (franka.de robot specifications), link masses its published values
rounded to 10 g. Inertias are our own: each link is a solid capsule of uniform density along its tube, the hand a solid box.
There are no meshes, so that loading is instant and offscreen frames cost about 2 ms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from poco.clock import TICK_S
from poco.limits import (
    DECELERATION_RAD_S2,
    POSITION_MAX_RAD,
    POSITION_MIN_RAD,
    TORQUE_MAX_NM,
    VELOCITY_MAX_RAD_S,
    VELOCITY_OFFSET_RAD_S,
)

Floats = npt.NDArray[np.float64]
Vector3 = tuple[float, float, float]

READY_RAD = np.array([0.0, -math.pi / 4, 0.0, -3 * math.pi / 4, 0.0, math.pi / 2, math.pi / 4])
"""The vendor's usual start pose: the hand points straight down."""

ROTOR_INERTIA_KG_M2 = 0.1
"""Reflected motor inertia of every joint (MJCF armature). Our choice; it is not part of the URDF, as on the arm."""

FLANGE_OFFSET_M = 0.107
HAND_YAW_RAD = -math.pi / 4
HAND_TO_END_EFFECTOR_M = 0.1034
HAND_MASS_KG = 0.73
HAND_SIZE_M = (0.063, 0.204, 0.066)
FINGER_SIZE_M = (0.02, 0.02, 0.0464)
FINGER_STROKE_M = 0.04
FINGER_MASS_KG = 0.015
FINGER_ARMATURE_KG = 0.185
"""What the motor adds to the inertia of a moving finger; our choice."""

BASE_MASS_KG = 2.4

_GRIP = 'friction="1 .02 .0001" condim="4" solref=".004 1" solimp=".95 .99 .0005"'


@dataclass(frozen=True, slots=True)
class Link:
    """One moving link: joint frame in the parent (m, rad about x), mass (kg) and the capsule (m) it is drawn and weighed as."""

    origin_m: Vector3
    roll_rad: float
    mass_kg: float
    start_m: Vector3
    end_m: Vector3
    radius_m: float

    @property
    def centre_m(self) -> Floats:
        """Centre of mass [3] in the joint frame."""
        centre: Floats = (np.array(self.start_m) + np.array(self.end_m)) / 2
        return centre

    @property
    def inertia_kg_m2(self) -> Floats:
        """Inertia [3, 3] of the solid capsule about its centre, along the axes of the joint frame."""
        span = np.array(self.end_m) - np.array(self.start_m)
        length = float(np.linalg.norm(span))
        axis = span / length
        radius = self.radius_m
        caps_kg = self.mass_kg * (4 / 3 * radius) / (4 / 3 * radius + length)
        tube_kg = self.mass_kg - caps_kg
        axial = tube_kg * radius**2 / 2 + caps_kg * 2 / 5 * radius**2
        across = tube_kg * (length**2 / 12 + radius**2 / 4)
        across += caps_kg * (2 / 5 * radius**2 + length**2 / 4 + 3 / 8 * length * radius)
        along: Floats = np.outer(axis, axis)
        inertia: Floats = across * (np.eye(3) - along) + axial * along
        return inertia


LINKS = (
    Link((0.0, 0.0, 0.333), 0.0, 2.93, (0.0, 0.0, -0.19), (0.0, 0.0, -0.02), 0.06),
    Link((0.0, 0.0, 0.0), -math.pi / 2, 2.94, (0.0, 0.0, 0.02), (0.0, -0.19, 0.0), 0.06),
    Link((0.0, -0.316, 0.0), math.pi / 2, 2.24, (0.0, 0.0, -0.11), (0.07, 0.0, 0.0), 0.055),
    Link((0.0825, 0.0, 0.0), math.pi / 2, 2.62, (0.0, 0.0, 0.02), (-0.08, 0.10, 0.0), 0.055),
    Link((-0.0825, 0.384, 0.0), -math.pi / 2, 2.33, (0.0, 0.02, -0.26), (0.0, 0.02, -0.02), 0.05),
    Link((0.0, 0.0, 0.0), math.pi / 2, 1.82, (0.0, 0.0, 0.01), (0.08, 0.02, 0.0), 0.05),
    Link((0.088, 0.0, 0.0), math.pi / 2, 0.63, (0.0, 0.0, 0.02), (0.0, 0.0, 0.065), 0.042),
)
"""Joints 1 to 7 from the base outwards; every joint turns about z of its own frame."""


def flange_to_nominal_end_effector() -> Floats:
    """Return F_T_NE [4, 4] (m) of the hand: turned -45 degrees about z, 0.1034 m out."""
    cosine, sine = math.cos(HAND_YAW_RAD), math.sin(HAND_YAW_RAD)
    transform = np.eye(4)
    transform[:2, :2] = [[cosine, -sine], [sine, cosine]]
    transform[2, 3] = HAND_TO_END_EFFECTOR_M
    return transform


def _text(values: Floats | Vector3) -> str:
    return " ".join(f"{float(value):.17g}" for value in values)


def _upper_triangle(inertia: Floats) -> dict[str, float]:
    return {
        "ixx": inertia[0, 0],
        "iyy": inertia[1, 1],
        "izz": inertia[2, 2],
        "ixy": inertia[0, 1],
        "ixz": inertia[0, 2],
        "iyz": inertia[1, 2],
    }


def _fingers_mjcf(opening_m: float, moving: bool) -> str:
    """Two boxes, fixed `opening_m` apart, or on slides that meet where both are at 0."""
    width, depth, height = FINGER_SIZE_M
    z = HAND_SIZE_M[2] + height / 2
    size, fingers = f"{width / 2} {depth / 2} {height / 2}", ""
    for side, sign in (("left", 1), ("right", -1)):
        shape = f'<geom name="{side}_finger" class="arm" type="box" rgba=".3 .3 .32 1" size="{size}" '
        if moving:
            fingers += (
                f'<body name="{side}_finger" pos="0 {sign * depth / 2} {z}">'
                f'<joint name="finger_{side}" type="slide" axis="0 {sign} 0" range="0 {FINGER_STROKE_M}" '
                f'armature="{FINGER_ARMATURE_KG}" solreflimit=".002 1" solimplimit=".99 .999 .0005"/>'
                f'{shape}mass="{FINGER_MASS_KG}" {_GRIP}/></body>'
            )
        else:
            fingers += f'{shape}mass="0" pos="0 {sign * (opening_m / 2 + depth / 2)} {z}"/>'
    return fingers


def _hand_mjcf(hand_xml: str, finger_opening_m: float, moving_fingers: bool) -> str:
    half = [side / 2 for side in HAND_SIZE_M]
    mass_kg = HAND_MASS_KG - (2 * FINGER_MASS_KG if moving_fingers else 0.0)
    return (
        f'<site name="flange" pos="0 0 {FLANGE_OFFSET_M}" size=".005"/>'
        f'<body name="hand" pos="0 0 {FLANGE_OFFSET_M}" euler="0 0 {HAND_YAW_RAD:.17g}">'
        f'<geom name="hand" class="arm" type="box" mass="{mass_kg}" rgba=".85 .85 .87 1" '
        f'size="{half[0]} {half[1]} {half[2]}" pos="0 0 {half[2]}"/>{_fingers_mjcf(finger_opening_m, moving_fingers)}'
        f'<site name="end_effector" pos="0 0 {HAND_TO_END_EFFECTOR_M}" size=".005"/>{hand_xml}</body>'
    )


def fr3_mjcf(
    world_xml: str = "",
    hand_xml: str = "",
    top_xml: str = "",
    finger_opening_m: float = 0.04,
    moving_fingers: bool = False,
) -> str:
    """Return the MJCF of the FR3 with a hand on a floor at z = 0, with a task's own elements put in.

    `world_xml` goes to the end of the worldbody, `hand_xml` into the body "hand" (z points to the finger tips; sites "flange"
    and "end_effector" exist), `top_xml` to the end of the mujoco element. The fingers are fixed, `finger_opening_m` apart, unless
    `moving_fingers` puts them on the slides finger_left and finger_right, which follow the arm's joints. Geoms of class "arm" meet
    the world and not each other; give what the hand holds the same class. The arm's joints joint1..joint7 are the first seven
    degrees of freedom. Any process may call it.
    """
    body = _hand_mjcf(hand_xml, finger_opening_m, moving_fingers)
    for index in range(len(LINKS), 0, -1):
        link = LINKS[index - 1]
        low, high = POSITION_MIN_RAD[index - 1], POSITION_MAX_RAD[index - 1]
        inertia = " ".join(f"{value:.17g}" for value in _upper_triangle(link.inertia_kg_m2).values())
        body = (
            f'<body name="link{index}" pos="{_text(link.origin_m)}" euler="{link.roll_rad:.17g} 0 0">'
            f'<inertial pos="{_text(link.centre_m)}" mass="{link.mass_kg}" fullinertia="{inertia}"/>'
            f'<joint name="joint{index}" axis="0 0 1" range="{low} {high}" armature="{ROTOR_INERTIA_KG_M2}"/>'
            f'<geom name="link{index}" class="arm" type="capsule" mass="0" size="{link.radius_m}" '
            f'fromto="{_text(link.start_m)} {_text(link.end_m)}"/>{body}</body>'
        )
    return (
        '<mujoco model="fr3"><compiler angle="radian" autolimits="true"/>'
        f'<option timestep="{TICK_S}" integrator="implicitfast"/>'
        '<visual><global offwidth="640" offheight="480"/><quality shadowsize="0" offsamples="0"/>'
        '<headlight ambient=".4 .4 .4" diffuse=".5 .5 .5" specular="0 0 0"/></visual>'
        '<default><default class="arm"><geom contype="1" conaffinity="0" rgba=".93 .94 .95 1"/></default></default>'
        '<worldbody><light pos="1 1 2.5" dir="-.4 -.4 -1" castshadow="false"/>'
        '<camera name="overview" pos="1.35 -1.1 .95" xyaxes=".66 .75 0 -.38 .33 .86"/>'
        '<geom name="floor" type="plane" size="2 2 .1" rgba=".55 .58 .6 1"/>'
        '<body name="link0"><geom name="link0" class="arm" type="capsule" size=".07" '
        f'fromto="-.03 0 .06 0 0 .10" mass="{BASE_MASS_KG}"/>{body}</body>'
        f"{world_xml}</worldbody>{top_xml}</mujoco>"
    )


def _urdf_joint(index: int) -> str:
    link, slot = LINKS[index - 1], index - 1
    return (
        f'<joint name="joint{index}" type="revolute">'
        f'<origin xyz="{_text(link.origin_m)}" rpy="{link.roll_rad:.17g} 0 0"/>'
        f'<parent link="link{index - 1}"/><child link="link{index}"/><axis xyz="0 0 1"/>'
        f'<limit lower="{POSITION_MIN_RAD[slot]}" upper="{POSITION_MAX_RAD[slot]}" '
        f'velocity="{VELOCITY_MAX_RAD_S[slot]}" effort="{TORQUE_MAX_NM[slot]}"/>'
        f'<position_based_velocity_limits velocity_offset="{VELOCITY_OFFSET_RAD_S[slot]}" '
        f'deceleration_limit="{DECELERATION_RAD_S2[slot]}"/></joint>'
    )


def _urdf_link(index: int) -> str:
    link = LINKS[index - 1]
    inertia = " ".join(f'{name}="{value:.17g}"' for name, value in _upper_triangle(link.inertia_kg_m2).items())
    return (
        f'<link name="link{index}"><inertial><origin xyz="{_text(link.centre_m)}" rpy="0 0 0"/>'
        f'<mass value="{link.mass_kg}"/><inertia {inertia}/></inertial></link>'
    )


def fr3_urdf() -> str:
    """Return the URDF text that GetRobotModel serves: the bare arm up to link8, the flange.

    What is mounted on the flange is not in it; the client adds it from m_ee, F_x_Cee and I_ee of the state, to the link named
    exactly "link8": under any other name the vendor's library loses that mass or crashes.
    """
    indices = range(1, len(LINKS) + 1)
    return (
        '<?xml version="1.0"?><robot name="fr3"><link name="link0"/>'
        + "".join(_urdf_link(index) + _urdf_joint(index) for index in indices)
        + '<link name="link8"/><joint name="joint8" type="fixed">'
        + f'<origin xyz="0 0 {FLANGE_OFFSET_M}" rpy="0 0 0"/>'
        + '<parent link="link7"/><child link="link8"/></joint></robot>'
    )
