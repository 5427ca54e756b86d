"""The arm's strictness: each limit is judged by backward differences of what was commanded, exactly at the limit."""

from __future__ import annotations

import numpy as np
import pytest

from poco.hw.emulator.model import READY_RAD
from poco.hw.emulator.motion_check import CommandedMotion, MotionCheck
from poco.hw.emulator.protocol import Error
from poco.limits import JOINTS, POSITION_MAX_RAD, ROBOT_MARGINS, VelocityEnvelope, fr3_limits


def moving(dq: float, ddq: float, q: np.ndarray = READY_RAD) -> CommandedMotion:
    motion = CommandedMotion(q)
    motion.dq[:] = dq
    motion.ddq[:] = ddq
    return motion


def violations(motion: CommandedMotion, jerk_rad_s3: float, joint: int = 0) -> list[Error]:
    ddq = motion.ddq.copy()
    ddq[joint] += jerk_rad_s3 * 1e-3
    dq = motion.dq + ddq * 1e-3
    q = motion.q + dq * 1e-3
    return MotionCheck().violations(motion, q, dq, ddq)


def test_each_limit_is_exact() -> None:
    """Just inside is accepted, just outside raises that limit's error alone."""
    assert violations(moving(0.5, 0.0), 4999.9) == []
    assert violations(moving(0.5, 0.0), 5000.1) == [Error.JOINT_ACCELERATION_DISCONTINUITY]
    assert violations(moving(0.5, 9.0), 999.9) == []
    assert violations(moving(0.5, 9.0), 1000.1) == [Error.JOINT_VELOCITY_DISCONTINUITY]
    assert violations(moving(2.6199, 0.0), 0.0) == []
    assert violations(moving(2.6201, 0.0), 0.0) == [Error.JOINT_VELOCITY_LIMITS]


@pytest.mark.parametrize("joint", range(JOINTS))
def test_velocity_limit_falls_towards_the_joint_limit(joint: int) -> None:
    """0.1 rad before the joint limit the position-dependent bound decides, and it is lower than v_max."""
    q = READY_RAD.copy()
    q[joint] = POSITION_MAX_RAD[joint] - 0.1
    limits = fr3_limits(ROBOT_MARGINS)
    fastest = float(VelocityEnvelope(limits)(q)[1][joint])
    assert fastest < limits["velocity_max"][joint]
    for scale, expected in ((0.99, []), (1.01, [Error.JOINT_VELOCITY_LIMITS])):
        motion = CommandedMotion(q)
        motion.dq[joint] = scale * fastest
        assert MotionCheck().violations(motion, q, motion.dq, motion.ddq) == expected


def test_extrapolation_keeps_the_acceleration_and_braking_ends_at_rest() -> None:
    """A lost command continues with constant acceleration; the brake needs v / a seconds and then stands still exactly."""
    motion = moving(0.5, 2.0)
    before = motion.q.copy()
    for _ in range(10):
        motion.extrapolate()
    np.testing.assert_allclose(motion.dq, 0.52)
    np.testing.assert_allclose(motion.q - before, 0.5 * 0.01 + 2.0 * 1e-6 * 55, rtol=1e-9)
    ticks = 0
    while not motion.at_rest:
        motion.brake(np.full(JOINTS, 10.0))
        ticks += 1
    assert ticks == 53
