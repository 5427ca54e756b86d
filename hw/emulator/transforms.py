"""Rigid transforms and small rotations, as the arm reads and integrates them."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_ROTATION_TOLERANCE = 1e-5


def rigid_transform(column_major: Floats) -> Floats | None:
    """Return the transform [4, 4] that a client's `column_major` [16] is, or None if it is not rigid."""
    transform: Floats = column_major.reshape(4, 4).T.copy()
    rotation = transform[:3, :3]
    orthogonal = np.abs(rotation @ rotation.T - np.eye(3)).max() < _ROTATION_TOLERANCE
    rigid = orthogonal and np.linalg.det(rotation) > 0 and tuple(transform[3]) == (0.0, 0.0, 0.0, 1.0)
    return transform if rigid else None


def rotation_vector(rotation: Floats) -> Floats:
    """Return axis times angle [3] (rad) of a `rotation` [3, 3] by less than half a turn."""
    skew = (rotation - rotation.T) / 2
    vector = np.array([skew[2, 1], skew[0, 2], skew[1, 0]])
    sine = math.sqrt(vector @ vector)
    angle = math.atan2(sine, (np.trace(rotation) - 1) / 2)
    return vector * (angle / sine) if sine > 0 else vector


def rotation_by(vector: Floats) -> Floats:
    """Return the rotation [3, 3] about axis times angle `vector` [3] (rad), by Rodrigues' formula."""
    x, y, z = vector
    skew = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    angle = math.sqrt(vector @ vector)
    half = np.sinc(angle / (2 * math.pi))
    rotation: Floats = np.eye(3) + np.sinc(angle / math.pi) * skew + half * half / 2 * skew @ skew
    return rotation


def difference(origin: Floats, target: Floats) -> Floats:
    """Return the way [6] (m, rad; axes of the base) from the pose `origin` to the pose `target`, both [4, 4]."""
    return np.concatenate((target[:3, 3] - origin[:3, 3], rotation_vector(target[:3, :3] @ origin[:3, :3].T)))


def displaced(pose: Floats, way: Floats) -> Floats:
    """Return `pose` [4, 4] moved by `way` [6] (m, rad; axes of the base), the inverse of `difference`."""
    moved = pose.copy()
    moved[:3, 3] += way[:3]
    moved[:3, :3] = rotation_by(way[3:]) @ pose[:3, :3]
    return moved
