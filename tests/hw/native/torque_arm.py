"""The emulated robot under the servo's own law, in robot time and without a network; MuJoCo in the place of the vendor's model."""

from __future__ import annotations

import os
from types import TracebackType

import mujoco
import numpy as np
import numpy.typing as npt
from following_arm import READY_RAD, wide_limits

from poco import _core
from poco.arm_settings import ImpedanceSettings, RobotSettings
from poco.clock import TICKS_PER_SECOND
from poco.hw.emulator.arm import SimulatedArm
from poco.hw.emulator.model import ROTOR_INERTIA_KG_M2, fr3_mjcf
from poco.hw.emulator.protocol import COMMAND, MoveController, MoveGenerator
from poco.hw.emulator.robot import EmulatedRobot
from poco.limits import TORQUE_MAX_NM
from poco.settings import read_settings
from poco.shm import RunMemory
from poco.trouble import Mode, Request
from programs import ROOT

Floats = npt.NDArray[np.float64]
Record = npt.NDArray[np.void]


SETTINGS = ROOT / "configs" / "fr3_peg_in_hole.yaml"


def robot() -> RobotSettings:
    """Return the arm of the packaged settings."""
    return read_settings(SETTINGS, {}).robot


def gains() -> ImpedanceSettings:
    """Return the gains of the packaged settings."""
    return robot().impedance


class TorqueArm:
    """Servo and emulated robot tick by tick; `fastest_nm_s` and `largest_share` are the extremes of the torques so far."""

    def __init__(
        self, law: Record, limits: Record | None = None, guiding: Record | None = None, q: Floats = READY_RAD
    ) -> None:
        self.robot = EmulatedRobot(SimulatedArm.from_mjcf(fr3_mjcf()), recovery_delay_ticks=1, start_grace_ticks=2)
        self.robot.contact.thresholds["upper_torque_nominal"] = 1e3
        self.robot.contact.thresholds["upper_force_nominal"] = 1e4
        self.robot.arm.reset(q)
        self.robot.motion.give_way(q)
        self.run = RunMemory.create(f"torque-{os.getpid()}-{id(self)}")
        self.servo = _core.Servo(self.run.native, wide_limits() if limits is None else limits, law=law, guiding=guiding)
        self.run.set_request(Request.ARMED)
        self.fastest_nm_s = self.largest_share = 0.0
        self.q_c = q.copy()
        self._last = np.zeros(7)
        self.start()

    def __enter__(self) -> TorqueArm:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.run.unlink()

    @property
    def mode(self) -> Mode:
        """The servo's mode."""
        return Mode(self.servo.mode)

    @property
    def q(self) -> Floats:
        """Measured joint positions [7] (rad)."""
        return self.robot.arm.q

    def start(self) -> None:
        """Begin a motion by torque, after an end of the last one."""
        while not self.robot.settled:
            self.robot.advance()
        self.robot.begin_motion(MoveController.EXTERNAL, MoveGenerator.NONE)
        self.servo.reanchor()
        self._last = np.zeros(7)
        self.robot.advance()

    def jacobian(self) -> Floats:
        """Return the Jacobian [6, 7] of the end effector."""
        arm = self.robot.arm
        full = np.zeros((6, arm.model.nv))
        point, hand = self.robot.tool.O_T_EE[:3, 3], arm.model.body("hand").id
        mujoco.mj_jac(arm.model, arm.data, full[:3], full[3:], point, hand)
        return full[:, :7]

    def step(self, ticks: int = 1, *, lost: bool = False, blind: str = "") -> None:
        """Run `ticks` ticks; `lost` commands never arrive, `blind`, a field of the state or of the model, is NaN in one place."""
        robot, arm = self.robot, self.robot.arm
        for _ in range(ticks):
            fields: dict[str, list[float]] = {
                "q": arm.q.tolist(),
                "dq": arm.dq.tolist(),
                "tau": robot.torque.tau.tolist(),
                "O_T_EE": robot.tool.O_T_EE.T.ravel().tolist(),
                "coriolis": (arm.tau_bias - arm.gravity()).tolist(),
                "mass": (arm.inertia() - ROTOR_INERTIA_KG_M2 * np.eye(7)).ravel().tolist(),
                "jacobian": self.jacobian().T.ravel().tolist(),
            }
            if blind:
                fields[blind][3] = float("nan")
            zero = [0.0] * 7
            command = self.servo.tick(
                robot.tick,
                fields["q"],
                fields["dq"],
                arm.tau.tolist(),
                arm.tau_ext.tolist(),
                zero,
                zero,
                zero,
                fields["O_T_EE"],
                int(robot.mode),
                int(robot.errors.any()),
            )
            self.q_c = np.array(command)
            model = (fields[name] for name in ("tau", "coriolis", "mass", "jacobian"))
            torque = np.array(self.servo.torque(*model))
            self.servo.sent()
            self._judge(torque)
            if not lost:
                record = np.zeros((), COMMAND)
                record["message_id"], record["tau_J_d"] = robot.tick, torque
                robot.receive(record)
                self._last = torque
            robot.advance()

    def _judge(self, torque: Floats) -> None:
        """Compare with the torque that the arm has: a lost command leaves that as it is."""
        self.fastest_nm_s = max(self.fastest_nm_s, float(np.abs(torque - self._last).max()) * TICKS_PER_SECOND)
        self.largest_share = max(self.largest_share, float((np.abs(torque) / TORQUE_MAX_NM).max()))
