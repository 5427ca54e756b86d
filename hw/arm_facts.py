"""What an arm says of itself when it is made ready, kept for the run and held against the settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from poco.arm_settings import LoadSettings, RobotSettings
from poco.errors import ArmError

SINGLE = 1e-5
"""Relative error of what the arm reports in single precision, generously."""

END_EFFECTOR_TOLERANCE_KG = 0.02
"""The scale on which a hand and its fingers are weighed."""

_FLOOR = 1e-6


class ArmFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the arm and the library said: `arm.json` of a run folder. SI units, transforms by columns, shares 0 to 1.

    `arrived` of the states before the motion; `answered` of the commands of the hold on trial, None where there was none.
    """

    library: str
    control: str
    end_effector_kg: float
    end_effector_center_m: list[float]
    flange_to_end_effector: list[float]
    load_kg: float
    load_center_m: list[float]
    load_inertia_kg_m2: list[float]
    collision_torque_nm: list[float]
    collision_force_n: list[float]
    joint_impedance_nm_rad: list[float]
    arrived: float
    answered: float | None


def facts_of(state: Any, settings: RobotSettings, library: str, arrived: float, answered: float | None) -> ArmFacts:
    """Return the facts of a vendor RobotState `state`, and of what was set without an echo. Servo process."""
    return ArmFacts(
        library=library,
        control=settings.control,
        end_effector_kg=float(state.m_ee),
        end_effector_center_m=_floats(state.F_x_Cee),
        flange_to_end_effector=_floats(state.F_T_EE),
        load_kg=float(state.m_load),
        load_center_m=_floats(state.F_x_Cload),
        load_inertia_kg_m2=_floats(state.I_load),
        collision_torque_nm=list(settings.collision_torque_nm),
        collision_force_n=list(settings.collision_force_n),
        joint_impedance_nm_rad=list(settings.joint_impedance_nm_rad),
        arrived=arrived,
        answered=answered,
    )


def check_agreement(facts: ArmFacts, settings: RobotSettings) -> None:
    """Raise ArmError where the arm does not say what the settings say of end effector and load."""
    expected_kg = settings.end_effector_kg
    if expected_kg is not None and abs(facts.end_effector_kg - expected_kg) > END_EFFECTOR_TOLERANCE_KG:
        raise ArmError(
            f"the arm carries an end effector of {facts.end_effector_kg:.3f} kg, robot.end_effector_kg says {expected_kg:.3f} kg "
            f"(within {END_EFFECTOR_TOLERANCE_KG} kg): correct it in Desk or in the settings, a wrong mass makes the arm drift"
        )
    load: LoadSettings = settings.load
    for name, reported, asked in (
        ("mass (kg)", [facts.load_kg], [load.mass_kg]),
        ("centre (m)", facts.load_center_m, load.center_m),
        ("inertia (kg m^2)", facts.load_inertia_kg_m2, load.inertia_kg_m2),
    ):
        if not np.allclose(reported, asked, rtol=SINGLE, atol=_FLOOR):
            raise ArmError(
                f"the arm reports a load of {name} {_text(reported)}, {_text(asked)} was set: look at robot.load and at Desk, "
                "and start again"
            )


def summary(facts: ArmFacts) -> str:
    """Return in a few words what the arm carries, for the terminal."""
    x, y, z = facts.flange_to_end_effector[12:15]
    return (
        f"end effector {facts.end_effector_kg:.2f} kg, {1e3 * x:.0f} {1e3 * y:.0f} {1e3 * z:.0f} mm from the flange, "
        f"load {facts.load_kg:.2f} kg"
    )


def _floats(values: Sequence[float]) -> list[float]:
    return [float(value) for value in np.ravel(values)]


def _text(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values)
