"""The simulated FR3: MuJoCo physics under the arm's own joint impedance law, one call per tick of 1 ms.

The emulator and the gymnasium environment drive this same class; nothing in it knows of networks or tasks.
"""

from __future__ import annotations

import math

import mujoco
import numpy as np
import numpy.typing as npt

from poco.clock import TICK_S
from poco.limits import JOINTS, TORQUE_MAX_NM

from .model import READY_RAD

Floats = npt.NDArray[np.float64]

JOINT_IMPEDANCE_NM_RAD = np.array([3000.0, 3000.0, 3000.0, 2500.0, 2500.0, 2000.0, 2000.0])
"""Joint stiffness the arm starts with (the vendor's example value)."""

DAMPING_RATIO = 0.7
EXTERNAL_TORQUE_CUTOFF_HZ = 30.0
"""Cut-off of the first-order filter of the external torque; our choice, the vendor states none."""

_TORQUE_MIN_NM = -TORQUE_MAX_NM
_IDENTITY = np.eye(4)


class SimulatedArm:
    """One FR3 in a MuJoCo scene whose first seven degrees of freedom are its joints.

    `q`, `dq` are live views of the simulation (rad, rad/s); `tau` (N m, with gravity) is the last torque of the law,
    `tau_ext` (N m) the filtered torque that contacts and `push` exert on the joints. Arrays are [7] and must not be written to,
    but for `push` (N m): what somebody who pushes the arm adds to every joint.
    After every call, positions, contacts and inertia in `data` belong to the present `q`. One process, one thread.
    """

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        """Take over a compiled scene made from `fr3_mjcf` and put the arm into its ready pose."""
        self.model = model
        self.data = data
        self.q: Floats = data.qpos[:JOINTS]
        self.dq: Floats = data.qvel[:JOINTS]
        self.tau = np.zeros(JOINTS)
        self.tau_ext = np.zeros(JOINTS)
        self.push = np.zeros(JOINTS)
        self._still = mujoco.MjData(model)
        self._gravity = np.zeros(model.nv)
        self._flange = data.site("flange")
        self._end_effector = data.site("end_effector")
        self._bias: Floats = data.qfrc_bias[:JOINTS]
        self._applied: Floats = data.qfrc_applied[:JOINTS]
        self._contact: Floats = data.qfrc_constraint[:JOINTS]
        self._acceleration = np.zeros(model.nv)
        self._inertial = np.zeros(model.nv)
        self._inertial_joints = self._inertial[:JOINTS]
        self._work = np.zeros(JOINTS)
        self._filter_gain = TICK_S / (TICK_S + 1.0 / (2.0 * math.pi * EXTERNAL_TORQUE_CUTOFF_HZ))
        self.reset(READY_RAD)
        self._reference_inertia = np.diag(self.inertia())
        self.joint_impedance = JOINT_IMPEDANCE_NM_RAD

    @classmethod
    def from_mjcf(cls, text: str) -> SimulatedArm:
        """Compile `text` (see `fr3_mjcf`) and return an arm at rest in its ready pose."""
        model = mujoco.MjModel.from_xml_string(text)
        return cls(model, mujoco.MjData(model))

    @property
    def joint_impedance(self) -> Floats:
        """Stiffness K [7] (N m/rad) of the law; setting it sets the damping D = 2 * 0.7 * sqrt(K * M_ii) of the ready pose too."""
        return self._stiffness

    @joint_impedance.setter
    def joint_impedance(self, stiffness: Floats) -> None:
        self._stiffness = np.array(stiffness, dtype=np.float64)
        self._damping = 2.0 * DAMPING_RATIO * np.sqrt(self._stiffness * self._reference_inertia)

    @property
    def tau_bias(self) -> Floats:
        """Gravity and Coriolis torque [7] (N m) at the present state; a live view."""
        return self._bias

    @property
    def O_T_F(self) -> Floats:
        """Pose of the flange [4, 4] in the base frame (m)."""
        return site_pose(self._flange)

    @property
    def O_T_EE(self) -> Floats:
        """Pose of the nominal end effector [4, 4] in the base frame (m)."""
        return site_pose(self._end_effector)

    def advance(self, q_d: Floats, dq_d: Floats, ddq_d: Floats) -> None:
        """Simulate one tick of 1 ms under the law tau = K (q_d - q) + D (dq_d - dq) + M(q) ddq_d + c(q, dq) + g(q).

        Set-points are [7] (rad, rad/s, rad/s^2) and belong to the end of the tick, the measured state to its beginning: the
        differences are taken at the beginning, to where the set-points are led back by their own derivatives. The torque is
        clipped at TORQUE_MAX_NM.
        """
        tau, work = self.tau, self._work
        self._acceleration[:JOINTS] = ddq_d
        mujoco.mj_mulM(self.model, self.data, self._inertial, self._acceleration)
        np.add(self._bias, self._inertial_joints, out=tau)
        np.multiply(dq_d, -TICK_S, out=work)
        work += q_d
        work -= self.q
        work *= self._stiffness
        tau += work
        np.multiply(ddq_d, -TICK_S, out=work)
        work += dq_d
        work -= self.dq
        work *= self._damping
        tau += work
        self._simulate()

    def advance_by_torque(self, tau_d: Floats) -> None:
        """Simulate one tick of 1 ms under a client's torque `tau_d` [7] (N m), to which the arm adds gravity and nothing else.

        The sum is clipped at TORQUE_MAX_NM.
        """
        np.add(self.gravity(), tau_d, out=self.tau)
        self._simulate()

    def advance_under(self, tau: Floats) -> None:
        """Simulate one tick of 1 ms under the torque `tau` [7] (N m) of another law, clipped at TORQUE_MAX_NM."""
        self.tau[:] = tau
        self._simulate()

    def gravity(self) -> Floats:
        """Return the torque [7] (N m) that holds the arm and what it carries against gravity where it is; a view."""
        still = self._still
        still.qpos[:] = self.data.qpos
        mujoco.mj_kinematics(self.model, still)
        mujoco.mj_comPos(self.model, still)
        mujoco.mj_rne(self.model, still, 0, self._gravity)
        gravity: Floats = self._gravity[:JOINTS]
        return gravity

    def _simulate(self) -> None:
        tau, work = self.tau, self._work
        np.minimum(tau, TORQUE_MAX_NM, out=tau)
        np.maximum(tau, _TORQUE_MIN_NM, out=tau)
        np.add(tau, self.push, out=self._applied)
        mujoco.mj_step2(self.model, self.data)
        np.add(self._contact, self.push, out=work)
        work -= self.tau_ext
        work *= self._filter_gain
        self.tau_ext += work
        mujoco.mj_step1(self.model, self.data)

    def translation_jacobian(self, point_m: Floats) -> Floats:
        """Return d(point)/dq [3, 7] (m/rad) of the `point_m` [3] (base frame) where it moves with the hand."""
        jacobian = np.zeros((3, self.model.nv))
        mujoco.mj_jac(self.model, self.data, jacobian, None, point_m, self.model.body("hand").id)
        return jacobian[:, :JOINTS]

    def refresh(self) -> None:
        """Recompute positions and contacts after a task moved one of its own bodies."""
        mujoco.mj_step1(self.model, self.data)

    def reset(self, q: Floats) -> None:
        """Teleport the arm to `q` [7] (rad) at rest, as only an environment or the start of the emulator may."""
        self.q[:] = q
        self.data.qvel[:] = 0.0
        self.data.qacc_warmstart[:] = 0.0
        self.tau_ext[:] = 0.0
        mujoco.mj_step1(self.model, self.data)
        self.tau[:] = self._bias

    def inertia(self) -> Floats:
        """Return the joint-space inertia M(q) [7, 7] (kg m^2), reflected rotor inertia included."""
        inertia = np.zeros((self.model.nv, self.model.nv))
        mujoco.mj_fullM(self.model, inertia, self.data.qM)
        return inertia[:JOINTS, :JOINTS].copy()


def site_pose(site: mujoco._structs._MjDataSiteViews) -> Floats:
    """Return the pose [4, 4] of a MuJoCo site in the base frame (m)."""
    transform = _IDENTITY.copy()
    transform[:3, :3] = site.xmat.reshape(3, 3)
    transform[:3, 3] = site.xpos
    return transform
