"""The torque a client's own controller asks for, as the arm takes it: from zero, at a bounded rate, inside the motors' range."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from poco.clock import TICK_S
from poco.limits import (
    JOINTS,
    POSITION_MAX_RAD,
    POSITION_MIN_RAD,
    TORQUE_MAX_NM,
    TORQUE_RATE_MAX_NM_S,
    VELOCITY_MAX_RAD_S,
)

from .protocol import Error

Floats = npt.NDArray[np.float64]

ROUNDING_NM = 1e-9
_STEP_MAX_NM = TORQUE_RATE_MAX_NM_S * TICK_S + ROUNDING_NM


class CommandedTorque:
    """Torque `tau` [7] (N m, without gravity, which the arm adds) of the newest command; a lost command leaves it as it is."""

    def __init__(self) -> None:
        """Ask for nothing."""
        self.tau = np.zeros(JOINTS)

    def begin(self) -> None:
        """Begin a motion: the first command is measured against zero."""
        self.tau[:] = 0.0

    def violations(self, tau: Floats) -> list[Error]:
        """Return what a command of `tau` [7] (N m) breaks; empty if nothing. The flag for one out of range is our choice."""
        found = []
        if (np.abs(tau - self.tau) > _STEP_MAX_NM).any():
            found.append(Error.TORQUE_DISCONTINUITY)
        if (np.abs(tau) > TORQUE_MAX_NM).any():
            found.append(Error.TORQUE_RANGE)
        return found

    def take(self, tau: Floats) -> None:
        """Make `tau` [7] (N m) the torque of this tick."""
        self.tau[:] = tau


def measured_violations(q: Floats, dq: Floats) -> list[Error]:
    """Return the limits that an arm at `q`, `dq` [7] (rad, rad/s) under its client's torque has left; empty if none."""
    found = []
    if (q < POSITION_MIN_RAD).any() or (q > POSITION_MAX_RAD).any():
        found.append(Error.MEASURED_POSITION_LIMITS)
    if (np.abs(dq) > VELOCITY_MAX_RAD_S).any():
        found.append(Error.MEASURED_VELOCITY)
    return found
