"""The simulated arm: its model, its law, and that it can be saved."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from poco.clock import TICK_S
from poco.hw.emulator.arm import JOINT_IMPEDANCE_NM_RAD, SimulatedArm
from poco.hw.emulator.contact import ContactWatch
from poco.hw.emulator.model import HAND_MASS_KG, LINKS, READY_RAD, flange_to_nominal_end_effector, fr3_mjcf
from poco.hw.emulator.tool import Tool
from poco.limits import JOINTS, TORQUE_MAX_NM

REST = np.zeros(JOINTS)


@pytest.fixture
def arm() -> SimulatedArm:
    return SimulatedArm.from_mjcf(fr3_mjcf())


def test_capsule_inertia_is_what_mujoco_makes_of_the_same_solid() -> None:
    """Our formula for every link equals MuJoCo's for a capsule of that mass and size."""
    for link in LINKS:
        ends = " ".join(map(str, (*link.start_m, *link.end_m)))
        geom = f'<geom type="capsule" size="{link.radius_m}" fromto="{ends}" mass="{link.mass_kg}"/>'
        model = mujoco.MjModel.from_xml_string(f"<mujoco><worldbody><body>{geom}</body></worldbody></mujoco>")
        expected = np.sort(model.body_inertia[1])
        np.testing.assert_allclose(np.sort(np.linalg.eigvalsh(link.inertia_kg_m2)), expected, rtol=1e-9)
        np.testing.assert_allclose(link.centre_m, model.body_ipos[1], atol=1e-12)


def test_kinematics_are_the_vendors(arm: SimulatedArm) -> None:
    """At zero the flange is where the published frames put it; the hand is 0.1034 m further, turned by -45 degrees."""
    arm.reset(np.zeros(JOINTS))
    np.testing.assert_allclose(arm.O_T_F[:3, 3], (0.088, 0.0, 0.333 + 0.316 + 0.384 - 0.107), atol=1e-12)
    np.testing.assert_allclose(arm.O_T_F @ flange_to_nominal_end_effector(), arm.O_T_EE, atol=1e-12)


def test_tool_weighs_what_the_scene_hangs_on_the_hand() -> None:
    """Mass and centre of a body added to the hand appear in m_ee and F_x_Cee."""
    block = '<body pos="0 0 .2"><geom type="box" size=".01 .01 .01" mass=".27"/></body>'
    tool = Tool(SimulatedArm.from_mjcf(fr3_mjcf(hand_xml=block)))
    assert tool.mass_kg == pytest.approx(HAND_MASS_KG + 0.27)
    expected = (HAND_MASS_KG * 0.033 + 0.27 * 0.2) / tool.mass_kg
    np.testing.assert_allclose(tool.centre_m, (0, 0, expected), atol=1e-9)


def test_an_arm_at_rest_stays_bit_for_bit(arm: SimulatedArm) -> None:
    """Gravity is compensated exactly: 200 ticks of hold change no bit and need no external torque."""
    for _ in range(200):
        arm.advance(READY_RAD, REST, REST)
    assert np.array_equal(arm.q, READY_RAD)
    assert not arm.tau_ext.any()


@pytest.mark.parametrize("stiffness", [JOINT_IMPEDANCE_NM_RAD, np.array([600.0, 600, 600, 600, 250, 150, 50])])
def test_the_law_tracks_and_calms_down(arm: SimulatedArm, stiffness: np.ndarray) -> None:
    """A smooth motion is followed to 0.1 mrad and a kick dies out, with the vendor's stiffness and with a soft one."""
    arm.joint_impedance = stiffness
    rate = 2 * np.pi
    farthest = 0.0
    for tick in range(1, 1001):
        phase = rate * tick * TICK_S
        q_d = READY_RAD + 0.1 * (phase - np.sin(phase)) / (2 * np.pi)
        dq_d = np.full(JOINTS, 0.1 * rate * (1 - np.cos(phase)) / (2 * np.pi))
        arm.advance(q_d, dq_d, np.full(JOINTS, 0.1 * rate**2 * np.sin(phase) / (2 * np.pi)))
        farthest = max(farthest, float(np.abs(arm.q - q_d).max()))
    assert farthest < 1e-4
    goal = q_d
    arm.dq[:] = 0.3
    for _ in range(2000):
        arm.advance(goal, REST, REST)
    np.testing.assert_allclose(arm.q, goal, atol=1e-6)


def test_torque_is_clipped(arm: SimulatedArm) -> None:
    """A far set-point asks for no more than the motors can give."""
    arm.advance(READY_RAD + 0.5, REST, REST)
    assert (np.abs(arm.tau) <= TORQUE_MAX_NM).all()
    assert (np.abs(arm.tau) == TORQUE_MAX_NM).any()


def test_contact_is_felt_as_the_force_it_is() -> None:
    """Leaning softly on a plate with a set force: the estimated wrench at the end effector points up and has its size."""
    plate = '<geom name="plate" type="box" size=".2 .2 .05" pos=".307 0 .426"/>'
    arm = SimulatedArm.from_mjcf(fr3_mjcf(plate))
    arm.joint_impedance = np.array([600.0, 600, 600, 600, 250, 150, 50])
    watch = ContactWatch(arm, Tool(arm))
    goal = READY_RAD + np.array([0, 0.03, 0, 0, 0, 0, 0])
    for _ in range(1500):
        arm.advance(goal, REST, REST)
    watch.update(accelerating=False)
    force = watch.wrench_base
    total = sum(contact_force(arm, index)[0] for index in range(arm.data.ncon))
    assert total > 5.0
    assert force[2] == pytest.approx(total, rel=0.1)
    assert watch.wrench_stiffness[2] == pytest.approx(-force[2], rel=0.01)
    watch.thresholds["lower_force_nominal"] = 0.5 * total
    watch.thresholds["upper_force_nominal"] = 2.0 * total
    watch.update(accelerating=False)
    assert watch.cartesian_contact[2] == 1.0
    assert watch.cartesian_collision[2] == 0.0


def contact_force(arm: SimulatedArm, index: int) -> np.ndarray:
    force = np.zeros(6)
    mujoco.mj_contactForce(arm.model, arm.data, index, force)
    return force
