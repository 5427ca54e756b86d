"""The state datagram: one preallocated packet, of which a tick rewrites only what changes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from poco.clock import TICKS_PER_SECOND
from poco.limits import JOINTS

from .commanded_elbow import ELBOW_JOINT, elbow_of
from .posture import Posture
from .protocol import STATE, STATE_GENERATOR_IDLE
from .robot import EmulatedRobot

Floats = npt.NDArray[np.float64]

GRAVITY_M_S2 = (0.0, 0.0, -9.81)


class StateDatagram:
    """Fills the 1377 bytes of a state from a robot; `bytes` is the packet, valid until the next `update`."""

    def __init__(self, robot: EmulatedRobot) -> None:
        """Write the constant fields and the present ones."""
        self._robot = robot
        self._record = np.zeros(1, STATE)
        self._field = {name: self._record[name].reshape(-1) for name in STATE.names or ()}
        self.bytes = self._record.data.cast("B")
        self._desired = Posture(robot.arm, robot.tool)
        self._last_tau = robot.arm.tau.copy()
        self._desired_q = np.full(JOINTS, np.nan)
        self._field["O_ddP_O"][:] = GRAVITY_M_S2
        self.update_tool()
        self.update()

    def update_tool(self) -> None:
        """Rewrite what only a setter changes: frames, masses and inertias of tool and load."""
        tool, field = self._robot.tool, self._field
        for name in ("F_T_EE", "EE_T_K", "F_T_NE", "NE_T_EE"):
            field[name][:] = getattr(tool, name).ravel(order="F")
        field["m_ee"][:] = tool.mass_kg
        field["F_x_Cee"][:] = tool.centre_m
        field["I_ee"][:] = tool.inertia_kg_m2.ravel(order="F")
        field["m_load"][:] = tool.load_mass_kg
        field["F_x_Cload"][:] = tool.load_centre_m
        field["I_load"][:] = tool.load_inertia_kg_m2
        self._desired_q[:] = np.nan

    def update(self) -> None:
        """Rewrite what a tick changes."""
        robot, field = self._robot, self._field
        arm, motion, contact = robot.arm, robot.motion, robot.contact
        field["message_id"][:] = robot.tick
        field["q"][:] = field["theta"][:] = arm.q
        field["dq"][:] = field["dtheta"][:] = arm.dq
        field["q_d"][:] = motion.q
        field["dq_d"][:] = motion.dq
        field["ddq_d"][:] = motion.ddq
        field["tau_J"][:] = arm.tau
        field["tau_J_d"][:] = robot.torque.tau if robot.driven_by_torque else arm.tau - arm.tau_bias
        field["dtau_J"][:] = (arm.tau - self._last_tau) * TICKS_PER_SECOND
        self._last_tau[:] = arm.tau
        field["tau_ext_hat_filtered"][:] = arm.tau_ext
        field["O_F_ext_hat_K"][:] = contact.wrench_base
        field["K_F_ext_hat_K"][:] = contact.wrench_stiffness
        field["joint_contact"][:] = contact.joint_contact
        field["joint_collision"][:] = contact.joint_collision
        field["cartesian_contact"][:] = contact.cartesian_contact
        field["cartesian_collision"][:] = contact.cartesian_collision
        field["O_T_EE"][:] = robot.tool.O_T_EE.ravel(order="F")
        field["elbow"][:] = elbow_of(arm.q)
        self._update_desired(motion.q, motion.dq)
        self._update_commanded()
        field["motion_generator_mode"][:] = STATE_GENERATOR_IDLE if robot.generator is None else robot.generator + 1
        field["controller_mode"][:] = robot.controller
        field["robot_mode"][:] = robot.mode
        field["errors"][:] = robot.errors
        field["reflex_reason"][:] = robot.reflex_reason
        field["control_command_success_rate"][:] = robot.success_rate

    def _update_desired(self, q_d: Floats, dq_d: Floats) -> None:
        """Rewrite the Cartesian fields of the desired motion, which follow from `q_d`, `dq_d` [7]."""
        field = self._field
        if np.array_equal(q_d, self._desired_q) and not dq_d.any():
            field["O_dP_EE_d"][:] = 0.0
            return
        self._desired_q[:] = q_d
        self._desired.take(q_d)
        field["O_T_EE_d"][:] = self._desired.O_T_EE.ravel(order="F")
        field["O_dP_EE_d"][:] = self._desired.jacobian() @ dq_d
        field["elbow_d"][:] = elbow_of(q_d)

    def _update_commanded(self) -> None:
        """Rewrite what the end effector was commanded to, which outside Cartesian motions is what is desired of it."""
        field, motion, pose = self._field, self._robot.motion, self._robot.commanded_pose
        if pose is None:
            field["O_T_EE_c"][:] = field["O_T_EE_d"]
            field["O_dP_EE_c"][:] = field["O_dP_EE_d"]
            field["O_ddP_EE_c"][:] = 0.0
        else:
            field["O_T_EE_c"][:] = pose.O_T_EE.ravel(order="F")
            field["O_dP_EE_c"][:] = pose.twist
            field["O_ddP_EE_c"][:] = pose.acceleration
        field["elbow_c"][:] = field["elbow_d"]
        field["delbow_c"][:] = motion.dq[ELBOW_JOINT], 0.0
        field["ddelbow_c"][:] = motion.ddq[ELBOW_JOINT], 0.0
