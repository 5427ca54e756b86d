"""The emulated arm under the servo's own law: it holds against a push, follows plans, bears losses and never asks too much."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from following_arm import READY_RAD, REST, make_chunk, random_chunk
from torque_arm import TorqueArm, gains, robot

from poco.arm_settings import Control
from poco.control import guiding_law, servo_law
from poco.hw.emulator.protocol import Error
from poco.limits import POSITION_MAX_RAD, POSITION_MIN_RAD, VELOCITY_MAX_RAD_S
from poco.records import LAW
from poco.runtime.run_options import OPERATOR_SPECIFICATION
from poco.specification import read_specification
from poco.trouble import BY_NAME, Mode

Floats = npt.NDArray[np.float64]
CONTROLS: tuple[Control, ...] = ("joint_impedance", "cartesian_impedance")

GUIDING = guiding_law(robot(), read_specification(OPERATOR_SPECIFICATION))
TORQUE_ERRORS = (Error.TORQUE_DISCONTINUITY, Error.TORQUE_RANGE)

HELD_RAD, HELD_M = 2e-4, 2e-4
"""How far a held pose may be from where force over stiffness puts it, joints and tip."""


def law_of(control: Control) -> npt.NDArray[np.void]:
    return servo_law(control, gains())


def push(arm: TorqueArm, force_n: Floats) -> None:
    """Let `force_n` [3] push at the end effector where it is now."""
    simulated = arm.robot.arm
    simulated.push[:] = force_n @ simulated.translation_jacobian(arm.robot.tool.O_T_EE[:3, 3])


def begin_motion(arm: TorqueArm, ticks: int) -> Floats:
    """Publish a chunk of `ticks` ticks and follow it for 195; return where it leads."""
    arm.step(3)
    goal: Floats = READY_RAD + np.array([0.1, 0.05, -0.1, 0.08, 0.1, -0.1, 0.2])
    arm.run.publish_chunk(make_chunk((READY_RAD, REST, REST), goal[None], [ticks], attach=arm.robot.tick + 5, ident=1))
    arm.step(200)
    assert arm.mode == Mode.FOLLOWING
    return goal


def test_joint_springs_hold_against_a_push_by_torque_over_stiffness() -> None:
    """Under 15 N every joint gives way by tau_ext / K to 0.2 mrad, and comes back as closely."""
    with TorqueArm(law_of("joint_impedance")) as arm:
        push(arm, np.array([9.0, 6.0, -10.0]))
        arm.step(1500)
        expected = arm.robot.arm.push / np.array(gains().stiffness_nm_rad)
        np.testing.assert_allclose(arm.q - READY_RAD, expected, atol=HELD_RAD)
        assert np.abs(expected).max() > 2e-3
        arm.robot.arm.push[:] = 0.0
        arm.step(1500)
        np.testing.assert_allclose(arm.q, READY_RAD, atol=HELD_RAD)
        assert arm.mode == Mode.HOLDING


def test_tip_springs_hold_against_a_push_by_force_over_stiffness() -> None:
    """Under 15 N the tip, here the flange, gives way by F / K to 0.2 mm, and comes back as closely."""
    with TorqueArm(law_of("cartesian_impedance")) as arm:
        simulated, force_n = arm.robot.arm, np.array([9.0, 6.0, -10.0])
        origin = simulated.O_T_F[:3, 3].copy()
        for _ in range(1500):
            simulated.push[:] = force_n @ simulated.translation_jacobian(simulated.O_T_F[:3, 3])
            arm.step()
        np.testing.assert_allclose(
            simulated.O_T_F[:3, 3] - origin, force_n / np.array(gains().tip_stiffness[:3]), atol=HELD_M
        )
        simulated.push[:] = 0.0
        arm.step(1500)
        np.testing.assert_allclose(simulated.O_T_F[:3, 3], origin, atol=HELD_M)


@pytest.mark.parametrize("control", CONTROLS)
def test_a_chunk_drives_torques_as_it_drives_set_points(control: Control) -> None:
    """The planned set-points are followed, five lost commands and three lost states change no plan."""
    with TorqueArm(law_of(control)) as arm:
        goal = begin_motion(arm, 600)
        arm.step(5, lost=True)
        for _ in range(3):
            arm.robot.advance()
        arm.step(900)
        np.testing.assert_allclose(arm.q_c, goal, atol=1e-9)
        np.testing.assert_allclose(arm.q, goal, atol=2e-3)
        assert arm.robot.reflexes == 0
        assert arm.robot.counts.lost == 8


@pytest.mark.parametrize("control", CONTROLS)
def test_a_target_that_jumps_moves_nothing_out_of_limits(control: Control) -> None:
    """A chunk that begins elsewhere is refused; a law whose set-point itself jumps stays in rate, range and joint limits."""
    with TorqueArm(law_of(control)) as arm:
        arm.step(3)
        elsewhere = READY_RAD + 0.3
        arm.run.publish_chunk(
            make_chunk((elsewhere, REST, REST), (elsewhere + 0.1)[None], [300], attach=arm.robot.tick + 5, ident=1)
        )
        arm.step(100)
        np.testing.assert_allclose(arm.q, READY_RAD, atol=1e-4)
        arm.robot.arm.q[:] = READY_RAD + 0.04
        fastest = 0.0
        for _ in range(1500):
            arm.step()
            fastest = max(fastest, float((np.abs(arm.robot.arm.dq) / VELOCITY_MAX_RAD_S).max()))
        np.testing.assert_allclose(arm.q, READY_RAD, atol=1e-2)
        assert arm.robot.reflexes == 0
        assert 0.01 < fastest < 1.0
        assert arm.fastest_nm_s <= 900.0 + 1e-6
        assert arm.largest_share <= 80.0 / 87.0 + 1e-9


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("blind", ["coriolis", "mass", "jacobian", "O_T_EE"])
def test_a_model_that_gives_no_numbers_latches(control: Control, blind: str) -> None:
    """In the middle of a motion it brakes and holds with a fault, at the permitted rate; a law that does not read it goes on."""
    read = control == "cartesian_impedance" or blind in ("coriolis", "mass")
    with TorqueArm(law_of(control)) as arm:
        begin_motion(arm, 1500)
        arm.step(1, blind=blind)
        arm.step(1)
        assert (arm.servo.fault, arm.mode) == (
            (BY_NAME["state_not_finite"].code, Mode.BRAKING) if read else (0, Mode.FOLLOWING)
        )
        arm.step(600)
        assert arm.mode == (Mode.FAULT if read else Mode.FOLLOWING)
        arm.run.native.recover()
        arm.step(2)
        assert arm.servo.fault == 0
        assert arm.robot.reflexes == 0
        assert arm.fastest_nm_s <= 900.0 + 1e-6


def test_a_torque_law_is_a_record_of_the_settings() -> None:
    """Position control asks for no law; the others carry the gains and bound the change of torque to 0.9 N m a tick."""
    np.testing.assert_array_equal(law_of("position"), np.zeros((), LAW))
    law = law_of("cartesian_impedance")
    np.testing.assert_array_equal(law["tip_stiffness"], gains().tip_stiffness)
    np.testing.assert_array_equal(law["stiffness"], gains().null_stiffness_nm_rad)
    np.testing.assert_allclose(law["torque_step_max"], 0.9)


def handle_badly(arm: TorqueArm, rng: np.random.Generator, ticks: int) -> None:
    """Chunks, pushes, jumps of the arm, a hand that leads it, losses, reflexes at random for `ticks` ticks; then judge them."""
    ident, done = 0, 0
    while done < ticks:
        if not arm.robot.moving:
            assert not arm.robot.errors[list(TORQUE_ERRORS)].any()
            arm.robot.recover()
            arm.start()
        if arm.servo.fault:
            arm.run.native.recover()
        event, length = rng.random(), int(rng.integers(5, 150))
        if event < 0.5:
            ident += 1
            jump = rng.uniform(-0.3, 0.3, 7) if rng.random() < 0.2 else REST
            start = (arm.q_c + jump, REST, REST)
            arm.run.publish_chunk(
                random_chunk(rng, start, rng.uniform(0.2, 2.0), attach=arm.robot.tick + 3, ident=ident, pred=0)
            )
        elif event < 0.6:
            arm.robot.arm.push[:] = rng.normal(size=7) * rng.uniform(0, 20) * (1, 1, 1, 1, 0.2, 0.2, 0.2)
        elif event < 0.7:
            arm.robot.arm.push[:] = 0.0
        elif event < 0.75:
            arm.robot.arm.q[:] = np.clip(
                arm.q + rng.uniform(-0.1, 0.1, 7), POSITION_MIN_RAD + 0.1, POSITION_MAX_RAD - 0.1
            )
        elif event < 0.78:
            length = int(rng.integers(1, 25))
            arm.step(1, blind=str(rng.choice(["q", "dq", "tau", "O_T_EE", "coriolis", "mass", "jacobian"])))
        elif event < 0.85:
            arm.run.lead(arm.robot.tick + int(rng.integers(1, 400)))
        lost = event > 0.95
        for _ in range(length):
            if arm.robot.moving:
                arm.step(lost=lost and rng.random() < 0.8)
                done += 1
    assert arm.fastest_nm_s <= 1000.0
    assert arm.largest_share <= 1.0
    assert not arm.robot.errors[list(TORQUE_ERRORS)].any()


@pytest.mark.parametrize("control", CONTROLS)
def test_rate_and_clip_hold_on_an_arm_that_is_handled_badly(control: Control) -> None:
    """6,000 ticks of chunks, pushes, jumps, losses and blindness: the arm never meets a torque it refuses."""
    with TorqueArm(law_of(control), guiding=GUIDING) as arm:
        handle_badly(arm, np.random.default_rng(3), 6_000)
        assert arm.fastest_nm_s > 100.0


@pytest.mark.proof
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("control", CONTROLS)
def test_rate_and_clip_hold_for_a_million_ticks(control: Control, seed: int) -> None:
    """50,000 ticks for each of ten seeds and both laws, on the simulated arm."""
    with TorqueArm(law_of(control), guiding=GUIDING) as arm:
        handle_badly(arm, np.random.default_rng(1000 + seed), 50_000)
