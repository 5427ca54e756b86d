"""How the servo moves the arm, by set-points or by torques of its own law: from the settings to the record that it reads."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from poco.arm_settings import Control, ImpedanceSettings, RobotSettings
from poco.clock import TICK_S
from poco.kinematics import forward
from poco.limits import TORQUE_RATE_MAX_NM_S
from poco.records import LAW
from poco.specification import Specification

KINDS: dict[Control, int] = {"position": 0, "joint_impedance": 1, "cartesian_impedance": 2}
GUIDING = 3

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
    _bound_torques(record, gains)
    return record


def guiding_law(robot: RobotSettings, specification: Specification) -> npt.NDArray[np.void]:
    """Return one LAW record (shape ()) by which the arm gives way to a hand that shows the task of `specification`. Any process.

    Tip deltas do not tilt the tip, so neither may the hand: its z axis is kept as in the start pose.
    """
    record, guiding = np.zeros((), LAW), robot.guiding
    record["kind"] = GUIDING
    record["stiffness"], record["damping"] = guiding.end_nm_rad, guiding.damping_nm_s_rad
    record["tip_stiffness"][:3], record["tip_damping"][:3] = guiding.wall_n_m, guiding.wall_n_s_m
    if specification.action_space == "tip_delta":
        _, rotation = forward(np.array(specification.rest_q), specification.tip)
        record["upright"] = rotation[:, 2]
        record["tip_stiffness"][3:], record["tip_damping"][3:] = guiding.upright_nm_rad, guiding.upright_nm_s_rad
    _bound_torques(record, robot.impedance)
    return record


def _bound_torques(record: npt.NDArray[np.void], gains: ImpedanceSettings) -> None:
    record["torque_max"] = gains.torque_max_nm
    record["torque_step_max"] = TORQUE_RATE_SHARE * TORQUE_RATE_MAX_NM_S * TICK_S
