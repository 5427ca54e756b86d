"""The arm's own kinematics agree with MuJoCo, with finite differences and with themselves."""

from __future__ import annotations

from itertools import pairwise

import mujoco
import numpy as np
import pytest

from poco.kinematics import Floats, forward, inverse, jacobian
from poco.limits import PLANNING_MARGINS, POSITION_MAX_RAD, POSITION_MIN_RAD, fr3_limits

HOME = np.array([0.0, -np.pi / 4, 0.0, -3 * np.pi / 4, 0.0, np.pi / 2, np.pi / 4])
HAND = np.eye(4)
HAND[:2, :2] = np.array([[1.0, 1.0], [-1.0, 1.0]]) / np.sqrt(2.0)
HAND[2, 3] = 0.1034

JOINT_FRAMES = (
    ("0 0 0.333", 0),
    ("0 0 0", -90),
    ("0 -0.316 0", 90),
    ("0.0825 0 0", 90),
    ("-0.0825 0.384 0", -90),
    ("0 0 0", 90),
    ("0.088 0 0", 90),
)


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    opening = "".join(
        f'<body pos="{position}" euler="{roll} 0 0"><joint axis="0 0 1"/><geom size="0.01" mass="1"/>'
        for position, roll in JOINT_FRAMES
    )
    site = '<site name="tip" pos="0 0 0.2104" euler="0 0 -45"/>'
    world = f"<worldbody>{opening}{site}{'</body>' * 7}</worldbody>"
    return mujoco.MjModel.from_xml_string(f'<mujoco><compiler angle="degree"/>{world}</mujoco>')


def random_q(generator: np.random.Generator, count: int) -> Floats:
    return generator.uniform(POSITION_MIN_RAD, POSITION_MAX_RAD, (count, 7))


def test_forward_and_jacobian_equal_mujoco(model: mujoco.MjModel) -> None:
    """Tip pose and Jacobian of 200 random postures equal those of a MuJoCo chain built from the vendor's numbers."""
    data = mujoco.MjData(model)
    tip = model.site("tip").id
    linear, angular = np.zeros((3, 7)), np.zeros((3, 7))
    for q in random_q(np.random.default_rng(1), 200):
        data.qpos[:] = q
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_jacSite(model, data, linear, angular, tip)
        position, rotation = forward(q, HAND)
        np.testing.assert_allclose(position, data.site_xpos[tip], atol=1e-12)
        np.testing.assert_allclose(rotation, data.site_xmat[tip].reshape(3, 3), atol=1e-12)
        np.testing.assert_allclose(jacobian(q, HAND), np.vstack([linear, angular]), atol=1e-12)


def test_jacobian_equals_finite_differences() -> None:
    """Every column of the Jacobian is the central difference of the forward kinematics."""
    step = 1e-6
    for q in random_q(np.random.default_rng(2), 50):
        columns = jacobian(q, HAND)
        for joint in range(7):
            offset = step * np.eye(7)[joint]
            (ahead, ahead_rotation), (behind, behind_rotation) = forward(q + offset, HAND), forward(q - offset, HAND)
            spin = (ahead_rotation - behind_rotation) @ forward(q, HAND)[1].T / (2 * step)
            np.testing.assert_allclose(columns[:3, joint], (ahead - behind) / (2 * step), atol=1e-8)
            np.testing.assert_allclose(columns[3:, joint], [spin[2, 1], spin[0, 2], spin[1, 0]], atol=1e-8)


def test_inverse_reaches_nearby_poses_inside_the_limits() -> None:
    """From the home posture, poses up to 5 cm and 0.3 rad away are reached to 1e-6 m and 1e-6 rad, inside the limits."""
    generator = np.random.default_rng(3)
    limits = fr3_limits(PLANNING_MARGINS)
    lower, upper = limits["position_min"], limits["position_max"]
    position, rotation = forward(HOME, HAND)
    for _ in range(200):
        yaw = generator.uniform(-0.3, 0.3)
        turn = np.array([[np.cos(yaw), -np.sin(yaw), 0.0], [np.sin(yaw), np.cos(yaw), 0.0], [0.0, 0.0, 1.0]])
        target = position + generator.uniform(-0.05, 0.05, 3)
        q, residual_m, residual_rad = inverse(HOME, target, turn @ rotation, HAND, HOME, lower, upper)
        assert residual_m < 1e-6
        assert residual_rad < 1e-6
        np.testing.assert_allclose(forward(q, HAND)[0], target, atol=1e-6)
        assert np.all((q >= lower) & (q <= upper))


def test_inverse_of_an_unreachable_pose_stays_inside_the_limits_and_says_how_far_it_is() -> None:
    """A pose 2 m away gives the residual that is left, joints inside their limits, and the same answer every time."""
    limits = fr3_limits(PLANNING_MARGINS)
    lower, upper = limits["position_min"], limits["position_max"]
    _, rotation = forward(HOME, HAND)
    target = np.array([2.0, 0.0, 0.3])
    q, residual_m, _ = inverse(HOME, target, rotation, HAND, HOME, lower, upper)
    again, *_ = inverse(HOME, target, rotation, HAND, HOME, lower, upper)
    assert np.array_equal(q, again)
    assert np.all((q >= lower) & (q <= upper))
    assert residual_m == pytest.approx(np.linalg.norm(forward(q, HAND)[0] - target))
    assert residual_m > 1.0


def test_posture_drifts_to_rest_while_the_tip_stays() -> None:
    """Repeated calls at the same pose bring the redundant posture closer to rest, a little at a time."""
    limits = fr3_limits(PLANNING_MARGINS)
    q = HOME + np.array([0.3, 0.0, -0.3, 0.0, 0.2, 0.0, 0.1])
    position, rotation = forward(q, HAND)
    distances = [float(np.linalg.norm(q - HOME))]
    for _ in range(300):
        moved, residual_m, _ = inverse(
            q, position, rotation, HAND, HOME, limits["position_min"], limits["position_max"]
        )
        assert residual_m < 1e-6
        assert np.max(np.abs(moved - q)) < 0.02
        q = moved
        distances.append(float(np.linalg.norm(q - HOME)))
    assert distances[-1] < 0.75 * distances[0]
    assert all(later <= earlier + 1e-9 for earlier, later in pairwise(distances))
