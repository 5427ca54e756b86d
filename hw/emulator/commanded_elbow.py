"""The elbow that a client may command beside a pose: the position of joint 3 and the sign of joint 4."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from poco.clock import TICK_S, TICKS_PER_SECOND
from poco.limits import ELBOW_ACCELERATION_MAX_RAD_S2, ELBOW_JERK_MAX_RAD_S3, ELBOW_SPEED_MAX_RAD_S

from .motion_check import START_POSE_TOLERANCE_RAD, CommandedMotion
from .protocol import Error

Floats = npt.NDArray[np.float64]

ELBOW_JOINT = 2
SIGN_JOINT = 3


def elbow_of(q: Floats) -> tuple[float, float]:
    """Return the elbow at `q` [7] (rad): position of joint 3 (rad), and -1 or 1, the side that joint 4 is bent to."""
    return float(q[ELBOW_JOINT]), -1.0 if q[SIGN_JOINT] < 0 else 1.0


def elbow_violations(motion: CommandedMotion, elbow: Floats, first: bool) -> list[Error]:
    """Return what `elbow` [2], commanded for the `first` or a later tick of `motion`, breaks; empty if nothing."""
    present, sign = elbow_of(motion.q)
    if elbow[1] != sign:
        return [Error.START_ELBOW_SIGN_INCONSISTENT if first else Error.ELBOW_SIGN_INCONSISTENT]
    if first and abs(elbow[0] - present) > START_POSE_TOLERANCE_RAD:
        return [Error.START_ELBOW_INVALID]
    speed = (elbow[0] - present) * TICKS_PER_SECOND
    acceleration = (speed - motion.dq[ELBOW_JOINT]) * TICKS_PER_SECOND
    step = acceleration - motion.ddq[ELBOW_JOINT]
    beyond = (
        abs(speed) > ELBOW_SPEED_MAX_RAD_S
        or abs(acceleration) > ELBOW_ACCELERATION_MAX_RAD_S2
        or abs(step) > ELBOW_JERK_MAX_RAD_S3 * TICK_S
    )
    return [Error.ELBOW_LIMITS] if beyond else []


def extrapolated_elbow(motion: CommandedMotion) -> float:
    """Return where joint 3 (rad) of `motion` is a tick from now if its acceleration stays."""
    speed = motion.dq[ELBOW_JOINT] + motion.ddq[ELBOW_JOINT] * TICK_S
    return float(motion.q[ELBOW_JOINT] + speed * TICK_S)
