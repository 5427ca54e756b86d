"""The arm's joint-space inertia from the URDF that the server serves, so that planned accelerations can be fed forward."""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from poco.errors import ArmError
from poco.limits import JOINTS

Floats = npt.NDArray[np.float64]

_TRIANGLE = ("ixx", "ixy", "ixz", "iyy", "iyz", "izz")


@dataclass(frozen=True, slots=True)
class _Body:
    """A link behind its joint: frame in the parent [4, 4], axis [3] and number of the joint (-1: fixed), what it weighs."""

    parent: int
    frame: Floats
    axis: Floats
    joint: int
    mass_kg: float
    centre: Floats
    inertia: Floats


class ArmInertia:
    """M(q) = sum of J_v^T m J_v + J_w^T I J_w over all links, plus the rotors' inertia on the diagonal."""

    def __init__(self, urdf: str, rotor_kg_m2: Floats) -> None:
        """Read the tree of links in `urdf`; raises ArmError where it is none or does not have seven turning joints."""
        self._rotor = np.diag(rotor_kg_m2)
        try:
            self._bodies = _bodies(ElementTree.fromstring(urdf))
        except (ElementTree.ParseError, KeyError, ValueError, AttributeError) as error:
            raise ArmError(f"the robot client serves a URDF that cannot be read ({error}): start it again") from error
        turning = sum(body.joint >= 0 for body in self._bodies)
        if turning != JOINTS:
            raise ArmError(
                f"the robot client serves a URDF with {turning} turning joints, must be {JOINTS}: start the arm's"
            )

    def at(self, q: Floats) -> Floats:
        """Return M [7, 7] (kg m^2) at `q` [7] (rad)."""
        total = self._rotor.copy()
        frames: list[Floats] = []
        columns: list[tuple[Floats, Floats]] = [(np.zeros(3), np.zeros(3))] * JOINTS
        moved_by: list[list[int]] = []
        for body in self._bodies:
            frame = (frames[body.parent] if body.parent >= 0 else np.eye(4)) @ body.frame
            joints = list(moved_by[body.parent]) if body.parent >= 0 else []
            if body.joint >= 0:
                axis = frame[:3, :3] @ body.axis
                columns[body.joint] = axis, frame[:3, 3].copy()
                joints.append(body.joint)
                turn = np.eye(4)
                turn[:3, :3] = _turn(body.axis, q[body.joint])
                frame = frame @ turn
            frames.append(frame)
            moved_by.append(joints)
            if body.mass_kg > 0.0:
                total += _of_body(body, frame, [(j, *columns[j]) for j in joints])
        return total


def _of_body(body: _Body, frame: Floats, joints: list[tuple[int, Floats, Floats]]) -> Floats:
    rotation, centre = frame[:3, :3], frame[:3, :3] @ body.centre + frame[:3, 3]
    moves, turns = np.zeros((3, JOINTS)), np.zeros((3, JOINTS))
    for joint, axis, origin in joints:
        moves[:, joint], turns[:, joint] = np.cross(axis, centre - origin), axis
    share: Floats = body.mass_kg * moves.T @ moves + turns.T @ (rotation @ body.inertia @ rotation.T) @ turns
    return share


def _bodies(robot: ElementTree.Element) -> list[_Body]:
    """Return the links in an order in which parents come before their children."""
    links = {link.attrib["name"]: link for link in robot.findall("link")}
    joints = {joint.find("child").attrib["link"]: joint for joint in robot.findall("joint")}  # type: ignore[union-attr]
    order: list[str] = [name for name in links if name not in joints]
    for name in order:
        order += [child for child, joint in joints.items() if joint.find("parent").attrib["link"] == name]  # type: ignore[union-attr]
    bodies, turning = [], 0
    for name in order:
        joint = joints.get(name)
        turns = joint is not None and joint.attrib["type"] in ("revolute", "continuous")
        bodies.append(_body(links[name], joint, order, turning if turns else -1))
        turning += turns
    return bodies


def _body(link: ElementTree.Element, joint: ElementTree.Element | None, order: list[str], number: int) -> _Body:
    parent, frame, axis = -1, np.eye(4), np.array([0.0, 0.0, 1.0])
    if joint is not None:
        parent = order.index(joint.find("parent").attrib["link"])  # type: ignore[union-attr]
        frame = _pose(joint.find("origin"))
        axis = axis if (found := joint.find("axis")) is None else _numbers(found.attrib["xyz"])
    inertial = link.find("inertial")
    if inertial is None:
        return _Body(parent, frame, axis, number, 0.0, np.zeros(3), np.zeros((3, 3)))
    pose, inertia = _pose(inertial.find("origin")), np.zeros((3, 3))
    inertia[np.triu_indices(3)] = [float(inertial.find("inertia").attrib[name]) for name in _TRIANGLE]  # type: ignore[union-attr]
    inertia = inertia + np.triu(inertia, 1).T
    mass_kg = float(inertial.find("mass").attrib["value"])  # type: ignore[union-attr]
    return _Body(parent, frame, axis, number, mass_kg, pose[:3, 3], pose[:3, :3] @ inertia @ pose[:3, :3].T)


def _pose(origin: ElementTree.Element | None) -> Floats:
    pose = np.eye(4)
    if origin is not None:
        roll, pitch, yaw = _numbers(origin.attrib.get("rpy", "0 0 0"))
        x, y, z = np.eye(3)
        pose[:3, :3] = _turn(z, yaw) @ _turn(y, pitch) @ _turn(x, roll)
        pose[:3, 3] = _numbers(origin.attrib.get("xyz", "0 0 0"))
    return pose


def _turn(axis: Floats, angle: float) -> Floats:
    """Rotation [3, 3] about the unit vector `axis` (Rodrigues)."""
    x, y, z = axis
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    rotation: Floats = np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * cross @ cross
    return rotation


def _numbers(text: str) -> Floats:
    return np.array([float(word) for word in text.split()])
