"""How the servo moves the arm, by set-points or by torques of its own law: from the settings to the record that it reads."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from poco.arm_settings import Control, ImpedanceSettings
from poco.clock import TICK_S
from poco.limits import TORQUE_RATE_MAX_NM_S
from poco.records import LAW

KINDS: dict[Control, int] = {"position": 0, "joint_impedance": 1, "cartesian_impedance": 2}

TORQUE_RATE_SHARE = 0.9
"""How much of the arm's limit on the change of a torque the servo uses."""


def servo_law(control: Control, gains: ImpedanceSettings) -> npt.NDArray[np.void]:
    """Return one LAW record (shape ()) of `control` with its `gains`; all zero where set-points move the arm. Any process."""
    record = np.zeros((), LAW)
    record["kind"] = KINDS[control]
    if control == "position":
        return record
    at_the_tip = control == "cartesian_impedance"
    record["stiffness"] = gains.null_stiffness_nm_rad if at_the_tip else gains.stiffness_nm_rad
    record["damping"] = gains.null_damping_nm_s_rad if at_the_tip else gains.damping_nm_s_rad
    if at_the_tip:
        record["tip_stiffness"], record["tip_damping"] = gains.tip_stiffness, gains.tip_damping
    record["torque_max"] = gains.torque_max_nm
    record["torque_step_max"] = TORQUE_RATE_SHARE * TORQUE_RATE_MAX_NM_S * TICK_S
    return record
