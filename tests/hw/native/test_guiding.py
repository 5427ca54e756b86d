"""The servo's law of guiding on the emulated arm: a hand leads it and it stays where it is left, inside ends and box, upright."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from following_arm import make_chunk
from torque_arm import TorqueArm, robot

from poco import _core
from poco.control import guiding_law, servo_law
from poco.hw.emulator.protocol import Error
from poco.kinematics import forward
from poco.limits import STEP_MARGINS, Guards, fr3_limits
from poco.records import ARM_STATE, COMMAND
from poco.runtime.run_options import OPERATOR_SPECIFICATION
from poco.specification import read_specification
from poco.trouble import BY_NAME, Mode, Request

Floats = npt.NDArray[np.float64]

SPECIFICATION = read_specification(OPERATOR_SPECIFICATION)
REST_RAD = np.array(SPECIFICATION.rest_q)
BOX = Guards(box_min_m=(0.30, -0.25, 0.0), box_max_m=(0.70, 0.25, 0.60))
LIMITS = fr3_limits(STEP_MARGINS, BOX, SPECIFICATION.tip)
LAW, GUIDING = servo_law("joint_impedance", robot().impedance), guiding_law(robot(), SPECIFICATION)
ALWAYS = 10**9
FLOOR_BEFORE_END = (1, 1.0)
HAND_N_M, HAND_N_S_M, HAND_MAX_N = 800.0, 40.0, 25.0
DRIFT_RAD, TILT_RAD, BEYOND_M = 1e-4, 0.12, 0.02


class LedArm(TorqueArm):
    """An arm at the start pose of peg-in-hole, and a hand at its end effector."""

    def __init__(self) -> None:
        super().__init__(LAW, LIMITS, GUIDING, REST_RAD)

    @property
    def tip_m(self) -> Floats:
        """Where the tip is measured [3] (m)."""
        position: Floats = forward(self.q, SPECIFICATION.tip)[0]
        return position

    @property
    def tilt_rad(self) -> float:
        """By how much the tip leans away from where it points in the start pose."""
        (_, now), (_, then) = forward(self.q, SPECIFICATION.tip), forward(REST_RAD, SPECIFICATION.tip)
        return float(np.arccos(np.clip(now[:, 2] @ then[:, 2], -1.0, 1.0)))

    def push(self, force_n: Floats) -> None:
        """Let `force_n` [3] push at the end effector where it is now."""
        arm = self.robot.arm
        arm.push[:] = force_n @ arm.translation_jacobian(self.robot.tool.O_T_EE[:3, 3])

    def be_led(self, way_m: Floats, ticks: int) -> None:
        """Let a hand that moves evenly by `way_m` [3] within `ticks` pull the arm behind it."""
        begin_m = self.tip_m
        for tick in range(ticks):
            to_go = begin_m + way_m * (tick + 1) / ticks - self.tip_m
            speed = (self.robot.arm.translation_jacobian(self.robot.tool.O_T_EE[:3, 3]) @ self.robot.arm.dq)[:3]
            self.push(np.clip(HAND_N_M * to_go - HAND_N_S_M * speed, -HAND_MAX_N, HAND_MAX_N))
            self.step()

    def let_go(self, ticks: int) -> None:
        """Take the hand away and wait."""
        self.robot.arm.push[:] = 0.0
        self.step(ticks)


@pytest.fixture
def arm() -> Iterator[LedArm]:
    """An arm that is armed and held."""
    led = LedArm()
    with led:
        led.step(5)
        assert led.servo.mode == Mode.HOLDING
        yield led


def test_a_hand_leads_it_and_it_stays_where_it_is_left(arm: LedArm) -> None:
    """There within 1 cm of the hand, still and within 0.1 mrad seconds later; what counts as commanded is what is measured."""
    arm.run.lead(ALWAYS)
    begin_m = arm.tip_m
    way_m = np.array([0.06, -0.08, 0.05])
    arm.be_led(way_m, 1500)
    arm.be_led(begin_m + way_m - arm.tip_m, 1000)
    assert arm.servo.mode == Mode.LED
    np.testing.assert_allclose(arm.tip_m - begin_m, way_m, atol=0.01)
    measured = arm.q.copy()
    arm.step()
    np.testing.assert_array_equal(arm.q_c, measured)
    arm.let_go(1500)
    left = arm.q.copy()
    arm.let_go(2000)
    np.testing.assert_allclose(arm.q, left, atol=DRIFT_RAD)
    assert (arm.mode, arm.robot.reflexes) == (Mode.LED, 0)
    assert arm.fastest_nm_s <= 900.0 + 1e-6


@pytest.mark.parametrize("lost", [1, 7, 18])
def test_the_stop_after_guiding_is_the_same_where_its_first_states_are_lost(lost: int) -> None:
    """The set-point brakes from where the hand last had the arm, at that tick: not from there once states come again."""
    whole, lossy = LedArm(), LedArm()
    with whole, lossy:
        for arm in (whole, lossy):
            arm.step(5)
            arm.run.lead(ALWAYS)
            arm.be_led(np.array([0.0, 0.1, 0.0]), 400)
            assert arm.servo.mode == Mode.LED
            arm.run.lead(0)
        left = whole.q_c.copy()
        whole.step(lost + 1)
        for _ in range(lost):
            lossy.robot.advance()
        lossy.step()
        assert (whole.mode, lossy.mode) == (Mode.BRAKING, Mode.BRAKING)
        assert np.abs(whole.q_c - left).max() > 1e-5
        np.testing.assert_allclose(lossy.q_c, whole.q_c, rtol=0.0, atol=1e-12)


def test_it_only_damps_where_nothing_is_in_the_way() -> None:
    """Inside ends and box the torque is that of the dampers and of Coriolis; an upright tip adds nothing, wherever it is turned."""
    state, command, law = np.zeros((), ARM_STATE), np.zeros((), COMMAND), GUIDING.copy()
    law["torque_step_max"], law["tip_damping"] = 1e3, 0.0
    state["q"], state["dq"] = REST_RAD, np.linspace(-0.5, 0.5, 7)
    state["q"][6] += 0.4
    zeros, jacobian = [0.0] * 7, np.ones(42).tolist()
    coriolis = np.linspace(0.1, 0.7, 7)
    torque = _core.impedance_torque(law, state, zeros, coriolis.tolist(), [1.0] * 49, jacobian, command, LIMITS, zeros)
    np.testing.assert_allclose(torque, coriolis - law["damping"] * state["dq"], atol=1e-9)


def test_the_tip_stays_upright_and_turns_freely(arm: LedArm) -> None:
    """Twisted by 3 N m it gives way by 3 / 60 rad and comes back; turned about its own axis it stays turned."""
    arm.run.lead(ALWAYS)
    arm.step(2)
    axis = np.array([1.0, 0.0, 0.0])
    for _ in range(1500):
        arm.robot.arm.push[:] = 3.0 * axis @ arm.jacobian()[3:]
        arm.step()
    assert arm.tilt_rad == pytest.approx(3.0 / 60.0, abs=0.02)
    arm.let_go(2500)
    assert arm.tilt_rad < 0.01
    yaw = arm.q[6]
    for _ in range(400):
        arm.robot.arm.push[:] = 0.5 * np.array([0.0, 0.0, 1.0]) @ arm.jacobian()[3:]
        arm.step()
    arm.let_go(1000)
    assert abs(arm.q[6] - yaw) > 0.05
    assert arm.tilt_rad < 0.01


@pytest.mark.parametrize("way_m", [(0.0, 0.6, 0.0), (0.5, 0.0, 0.0), (0.0, 0.0, -0.5)])
def test_a_hand_does_not_lead_it_out_of_the_box(arm: LedArm, way_m: tuple[float, float, float]) -> None:
    """Pulled by 25 N beyond a wall it stops within 2 cm of it, and comes back inside when it is let go."""
    arm.run.lead(ALWAYS)
    arm.be_led(np.array(way_m), 4000)
    low, high = np.array(BOX.box_min_m), np.array(BOX.box_max_m)
    beyond = np.maximum(low - arm.tip_m, arm.tip_m - high)
    assert 0.0 < beyond.max() < BEYOND_M
    assert arm.tilt_rad < TILT_RAD
    arm.let_go(3000)
    assert np.all(arm.tip_m > low)
    assert np.all(arm.tip_m < high)
    assert arm.robot.reflexes == 0


@pytest.mark.parametrize(
    ("joint", "side"),
    [(joint, side) for joint in range(7) for side in (-1.0, 1.0) if (joint, side) != FLOOR_BEFORE_END],
)
def test_a_hand_does_not_push_a_joint_to_its_end(joint: int, side: float) -> None:
    """From a third before its end a joint is pushed by 10 N m (3 in the wrist): it stays inside the servo's limits."""
    guiding = guiding_law(robot(), SPECIFICATION)
    guiding["tip_stiffness"] = guiding["tip_damping"] = 0.0
    end = float(LIMITS["position_max" if side > 0 else "position_min"][joint])
    q = REST_RAD.copy()
    q[joint] = end - side * 0.3
    with TorqueArm(LAW, LIMITS, guiding, q) as arm:
        arm.run.lead(ALWAYS)
        arm.step(5)
        for _ in range(1500):
            arm.robot.arm.push[joint] = side * (10.0 if joint < 4 else 3.0)
            arm.step()
        assert arm.servo.mode == Mode.LED
        assert side * (end - arm.q[joint]) > 0.01
        assert side * (end - arm.q[joint]) < 0.1


def test_when_its_time_is_over_it_brakes_and_follows_plans_again(arm: LedArm) -> None:
    """Nobody renews the time in the middle of a push: it comes to rest from the speed it has, holds, and takes a chunk."""
    arm.run.lead(arm.robot.tick + 600)
    for _ in range(700):
        arm.push(np.array([0.0, 6.0, 0.0]))
        arm.step()
    assert np.abs(arm.robot.arm.dq).max() < 0.3
    arm.let_go(600)
    assert arm.servo.mode == Mode.HOLDING
    held = arm.q_c.copy()
    np.testing.assert_allclose(arm.q, held, atol=2e-4)
    zero = np.zeros(7)
    chunk = make_chunk((held, zero, zero), REST_RAD[None], [3000], attach=arm.robot.tick + 5, ident=1)
    arm.run.publish_chunk(chunk)
    arm.step(3500)
    np.testing.assert_allclose(arm.q, REST_RAD, atol=2e-3)
    assert (arm.robot.reflexes, arm.servo.fault) == (0, 0)


def test_what_is_planned_does_not_move_an_arm_that_is_led(arm: LedArm) -> None:
    """A chunk that comes meanwhile is refused; in a motion the hand is given nothing before that has ended."""
    arm.run.lead(ALWAYS)
    arm.step(2)
    zero, goal = np.zeros(7), REST_RAD + 0.05 * np.eye(7)[0]
    arm.run.publish_chunk(make_chunk((REST_RAD, zero, zero), goal[None], [500], attach=arm.robot.tick + 5, ident=1))
    arm.step(300)
    assert arm.servo.mode == Mode.LED
    assert arm.run.control()["event_counts"][BY_NAME["chunk_wrong_predecessor"].code] == 1
    arm.run.lead(0)
    arm.step(100)
    held = arm.q_c.copy()
    arm.run.publish_chunk(make_chunk((held, zero, zero), goal[None], [500], attach=arm.robot.tick + 5, ident=2))
    arm.step(100)
    arm.run.lead(ALWAYS)
    arm.step(100)
    assert arm.servo.mode == Mode.FOLLOWING
    arm.step(400)
    assert arm.servo.mode == Mode.LED
    np.testing.assert_allclose(arm.q, goal, atol=2e-3)


@pytest.mark.parametrize("trouble", ["state", "model", "pose", "disarmed", "reflex"])
def test_trouble_takes_it_out_of_the_hand(arm: LedArm, trouble: str) -> None:
    """In the middle of being led: it brakes and holds at the permitted rate; only recovery, or arming, gives it back."""
    arm.run.lead(ALWAYS)
    arm.be_led(np.array([0.0, 0.06, 0.02]), 500)
    match trouble:
        case "state":
            arm.step(1, blind="q")
        case "model":
            arm.step(1, blind="jacobian")
        case "pose":
            arm.step(1, blind="O_T_EE")
        case "disarmed":
            arm.run.set_request(Request.DISARMED)
        case "reflex":
            arm.robot.stop_by_reflex(Error.JOINT_REFLEX)
    arm.robot.arm.push[:] = 0.0
    arm.step(1)
    if trouble == "reflex":
        arm.step(1)
        assert arm.servo.fault == BY_NAME["arm_error"].code
        return
    arm.step(1)
    assert arm.servo.mode == Mode.BRAKING
    arm.step(600)
    assert arm.servo.mode == (Mode.DISARMED if trouble == "disarmed" else Mode.FAULT)
    np.testing.assert_allclose(arm.q, arm.q_c, atol=2e-4)
    arm.run.set_request(Request.ARMED)
    arm.run.native.recover()
    arm.step(2)
    assert arm.servo.mode == Mode.LED
    assert arm.robot.reflexes == 0
    assert arm.fastest_nm_s <= 900.0 + 1e-6


def test_lost_datagrams_change_nothing(arm: LedArm) -> None:
    """Five commands and four states are lost on the way: it is still led, without a reflex and without a pull."""
    arm.run.lead(ALWAYS)
    arm.be_led(np.array([0.0, 0.03, 0.0]), 400)
    arm.step(5, lost=True)
    for _ in range(4):
        arm.robot.advance()
    arm.be_led(np.array([0.0, 0.03, 0.0]), 400)
    assert (arm.mode, arm.servo.fault, arm.robot.reflexes) == (Mode.LED, 0, 0)
    arm.let_go(1200)
    left = arm.q.copy()
    arm.let_go(500)
    np.testing.assert_allclose(arm.q, left, atol=DRIFT_RAD)
