"""The servo's own law by itself: springs at joints or tip as the formula says, and bounds that hold whatever comes in."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from following_arm import READY_RAD, wide_limits
from torque_arm import SETTINGS, gains

from poco import _core
from poco.arm_settings import Control
from poco.control import servo_law
from poco.errors import SettingsError
from poco.limits import TORQUE_MAX_NM
from poco.records import ARM_STATE, COMMAND
from poco.settings import read_settings

Floats = npt.NDArray[np.float64]
Record = npt.NDArray[np.void]

TIP = np.eye(4)
TIP[:3, 3] = 0.02, 0.01, 0.15
END_EFFECTOR = np.eye(4)
END_EFFECTOR[2, 3] = 0.1034
NO_TORQUE = [0.0] * 7


def limits_of(tool: Floats) -> Record:
    limits = wide_limits()
    limits["flange_t_tip"] = tool.ravel()
    return limits


def pose(q: Floats, tool: Floats) -> tuple[Floats, Floats]:
    """Return position [3] and rotation [3, 3] of `tool` at `q`."""
    position, columns = _core.tip(q.tolist(), limits_of(tool))
    return np.array(position), np.array(columns).T


def jacobian(q: Floats, tool: Floats) -> Floats:
    """Return the Jacobian [6, 7] of `tool` by central differences."""
    columns = []
    for joint in range(7):
        step = np.zeros(7)
        step[joint] = 1e-6
        (after, turned), (before, unturned) = pose(q + step, tool), pose(q - step, tool)
        spin = (turned - unturned) @ pose(q, tool)[1].T
        columns.append([*(after - before), spin[2, 1], spin[0, 2], spin[1, 0]])
    return np.array(columns).T / 2e-6


class Bench:
    """One call of the law: `state` and `command` at rest in the ready pose, to be changed by a test."""

    def __init__(self, control: Control, torque_step_max: float | None = 1e3) -> None:
        self.law, self.limits = servo_law(control, gains()), limits_of(TIP)
        if torque_step_max is not None:
            self.law["torque_step_max"] = torque_step_max
        self.state, self.command = np.zeros((), ARM_STATE), np.zeros((), COMMAND)
        self.state["q"] = self.command["q"] = READY_RAD
        self.mass = [0.0] * 49
        self.coriolis, self.last, self.taken = list(NO_TORQUE), list(NO_TORQUE), list(NO_TORQUE)

    def torque(self) -> Floats:
        q = np.array(self.state["q"])
        position, rotation = pose(q, END_EFFECTOR)
        transform = np.eye(4)
        transform[:3, :3], transform[:3, 3] = rotation, position
        self.state["O_T_EE"] = transform.T.ravel()
        of_end_effector = jacobian(q, END_EFFECTOR).T.ravel().tolist()
        return self.ask(of_end_effector)

    def ask(self, of_end_effector: list[float]) -> Floats:
        return np.array(
            _core.impedance_torque(
                self.law,
                self.state,
                self.last,
                self.coriolis,
                self.mass,
                of_end_effector,
                self.command,
                self.limits,
                self.taken,
            )
        )


def test_joint_springs_pull_by_stiffness_and_damping() -> None:
    """tau = K (q_c - q) + D (dq_c - dq) + M ddq_c + c."""
    bench, given = Bench("joint_impedance"), gains()
    rng = np.random.default_rng(1)
    lag, rate = rng.uniform(-0.01, 0.01, 7), rng.uniform(-0.05, 0.05, 7)
    bench.state["q"] -= lag
    bench.command["dq"] = 0.1
    bench.state["dq"] = 0.1 - rate
    bench.coriolis = rng.uniform(-1, 1, 7).tolist()
    root = 0.2 * rng.normal(size=(7, 7))
    bench.mass, bench.command["ddq"] = (root @ root.T).ravel().tolist(), rng.uniform(-5, 5, 7)
    expected = np.array(given.stiffness_nm_rad) * lag + np.array(given.damping_nm_s_rad) * rate + bench.coriolis
    expected += root @ root.T @ bench.command["ddq"]
    np.testing.assert_allclose(bench.torque(), expected, atol=1e-12)


def test_tip_springs_make_their_wrench_at_the_tip_and_the_posture_none() -> None:
    """The torque is J^T F of a spring at the tip, plus a part that makes no wrench there and turns towards the posture."""
    bench, given = Bench("cartesian_impedance"), gains()
    bench.command["q"] = READY_RAD + np.array([0.01, -0.008, 0.012, 0.006, -0.01, 0.009, 0.02])
    position, rotation = pose(READY_RAD, TIP)
    goal, turned = pose(np.array(bench.command["q"]), TIP)
    spin = turned @ rotation.T
    angle = np.array([spin[2, 1] - spin[1, 2], spin[0, 2] - spin[2, 0], spin[1, 0] - spin[0, 1]]) / 2
    wrench = np.array(given.tip_stiffness) * np.concatenate((goal - position, angle))
    at_tip = jacobian(READY_RAD, TIP)
    bench.law["stiffness"] = bench.law["damping"] = 0.0
    task = bench.torque()
    np.testing.assert_allclose(task, at_tip.T @ wrench, atol=1e-5)
    bench.law["stiffness"] = 30.0
    posture = bench.torque() - task
    np.testing.assert_allclose(np.linalg.pinv(at_tip.T) @ posture, np.zeros(6), atol=1e-3)
    assert posture @ (bench.command["q"] - READY_RAD) > 0.0
    free = np.linalg.svd(at_tip)[2][6]
    wanted = 30.0 * (free @ (bench.command["q"] - READY_RAD)) * free
    np.testing.assert_allclose(posture, wanted, atol=1e-4)


def test_tip_dampers_brake_the_tip_and_not_its_planned_motion() -> None:
    """Moving as planned costs no torque; a tip that moves otherwise is braked by D of the difference of its velocity."""
    bench, given = Bench("cartesian_impedance"), gains()
    bench.law["stiffness"] = bench.law["damping"] = 0.0
    bench.state["dq"] = bench.command["dq"] = np.linspace(-0.2, 0.2, 7)
    np.testing.assert_allclose(bench.torque(), np.zeros(7), atol=1e-9)
    bench.command["dq"] = 0.0
    at_tip = jacobian(READY_RAD, TIP)
    np.testing.assert_allclose(
        bench.torque(), -at_tip.T @ (np.array(given.tip_damping) * (at_tip @ bench.state["dq"])), atol=1e-5
    )


def test_a_state_without_numbers_lets_go_at_the_permitted_rate() -> None:
    """Where a measured joint is NaN the torque goes to zero; a last torque that cannot be is the last one known, repeated."""
    bench = Bench("joint_impedance", torque_step_max=None)
    bench.last = [10.0] * 7
    bench.state["q"][3] = np.nan
    np.testing.assert_allclose(bench.torque(), np.full(7, 9.1), atol=1e-12)
    bench.last = [np.nan] * 7
    bench.taken = [-5.0] * 7
    np.testing.assert_allclose(bench.torque(), np.full(7, -5.0), atol=1e-12)
    bench.last = [-500.0] * 7
    np.testing.assert_allclose(bench.torque(), np.full(7, -5.0), atol=1e-12)


def wild(rng: np.random.Generator, size: int) -> Floats:
    """Return numbers of any size, and now and then what is none."""
    values: Floats = rng.normal(size=size) * 10.0 ** rng.uniform(-3, 6)
    if rng.random() < 0.1:
        values[rng.integers(size)] = rng.choice([np.nan, np.inf, -np.inf, 1e308])
    return values


def drive_wildly(control: Control, seed: int, ticks: int) -> None:
    """Feed `ticks` wild states, set-points and models to the law and check every torque against rate and range."""
    rng = np.random.default_rng(seed)
    bench = Bench(control, torque_step_max=None)
    last = np.zeros(7)
    for _ in range(ticks):
        for field in ("q", "dq", "O_T_EE"):
            bench.state[field] = wild(rng, bench.state[field].size)
        for field in ("q", "dq", "ddq"):
            bench.command[field] = wild(rng, 7)
        bench.coriolis, bench.mass, bench.taken = wild(rng, 7).tolist(), wild(rng, 49).tolist(), last.tolist()
        bench.last = np.where(rng.random(7) < 0.05, np.abs(wild(rng, 7)) + 200.0, np.float32(last)).tolist()
        torque = bench.ask(wild(rng, 42).tolist())
        assert (np.abs(torque - last) <= 1.0).all(), (torque, last)
        assert (np.abs(torque) <= TORQUE_MAX_NM).all(), torque
        last = torque


@pytest.mark.parametrize("control", ["joint_impedance", "cartesian_impedance"])
def test_no_torque_leaves_rate_and_range(control: Control) -> None:
    """5,000 ticks of anything at all, from one torque to the next: never above 1000 N m/s, never out of the arm's range."""
    drive_wildly(control, 7, 5_000)


@pytest.mark.proof
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("control", ["joint_impedance", "cartesian_impedance"])
def test_no_torque_leaves_rate_and_range_in_a_million_ticks(control: Control, seed: int) -> None:
    """100,000 ticks of anything at all for each of ten seeds."""
    drive_wildly(control, 100 + seed, 100_000)


def test_gains_are_checked() -> None:
    """A torque above the arm's is refused in one sentence, and so is a law without any stiffness."""
    with pytest.raises(SettingsError, match="stiffness_nm_rad is zero for every joint"):
        read_settings(SETTINGS, {"robot.impedance.stiffness_nm_rad": "[0, 0, 0, 0, 0, 0, 0]"})
    with pytest.raises(SettingsError, match="joint 5 is 20 N m, must be at most 12 N m"):
        read_settings(SETTINGS, {"robot.impedance.torque_max_nm": "[80, 80, 80, 80, 20, 11, 11]"})
