"""The native forward kinematics agrees with plain Denavit-Hartenberg matrices."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from poco import _core
from poco.limits import POSITION_MAX_RAD, POSITION_MIN_RAD, fr3_limits

PARAMETERS = [  # a (m), d (m), alpha (rad), modified convention
    (0.0, 0.333, 0.0),
    (0.0, 0.0, -np.pi / 2),
    (0.0, 0.316, np.pi / 2),
    (0.0825, 0.0, np.pi / 2),
    (-0.0825, 0.384, -np.pi / 2),
    (0.0, 0.0, np.pi / 2),
    (0.088, 0.0, np.pi / 2),
]


def flange(q: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the flange pose [4, 4] in the base frame."""
    pose = np.eye(4)
    for (a, d, alpha), angle in zip(PARAMETERS, q, strict=True):
        c, s, ca, sa = np.cos(angle), np.sin(angle), np.cos(alpha), np.sin(alpha)
        pose = pose @ np.array(
            [[c, -s, 0, a], [s * ca, c * ca, -sa, -d * sa], [s * sa, c * sa, ca, d * ca], [0, 0, 0, 1]]
        )
    lift = np.eye(4)
    lift[2, 3] = 0.107
    return pose @ lift


def test_tip_agrees_with_denavit_hartenberg() -> None:
    """Position and axes of a rotated, offset tip agree at 200 random joint positions."""
    tool = np.eye(4)
    tool[:3, :3] = np.array([[0, -1, 0], [0.6, 0, -0.8], [0.8, 0, 0.6]])
    tool[:3, 3] = (0.01, -0.02, 0.1034)
    limits = fr3_limits(flange_t_tip=tool)
    rng = np.random.default_rng(0)
    for q in rng.uniform(POSITION_MIN_RAD, POSITION_MAX_RAD, (200, 7)):
        position, axes = _core.tip(list(q), limits)
        expected = flange(q) @ tool
        np.testing.assert_allclose(position, expected[:3, 3], atol=1e-12)
        np.testing.assert_allclose(np.transpose(axes), expected[:3, :3], atol=1e-12)
