"""The arm's own Cartesian impedance law: springs and dampers at the stiffness frame, a soft posture in their null space."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from poco.clock import TICK_S
from poco.limits import JOINTS

from .arm import DAMPING_RATIO, SimulatedArm
from .motion_check import CommandedMotion
from .posture import Posture
from .tool import Tool
from .transforms import difference

Floats = npt.NDArray[np.float64]

CARTESIAN_STIFFNESS = np.array([3000.0] * 3 + [300.0] * 3)
"""Stiffness the arm starts with (N/m, N m/rad; the vendor's example value)."""

POSTURE_STIFFNESS_NM_RAD = 10.0
"""Stiffness of every joint in the null space; our choice."""

_SINGULARITY_DAMPING = 1e-4


class CartesianImpedance:
    """Torques that let the end effector give way like a spring, while the joints keep to the commanded posture softly.

    `stiffness` [6] (N/m, N m/rad) is along the axes of the tool's stiffness frame K. The damping is DAMPING_RATIO of what is
    critical for the inertia that is felt there. Belongs to the emulator's loop.
    """

    def __init__(self, arm: SimulatedArm, tool: Tool) -> None:
        """Be a law for `arm` with `tool`."""
        self.stiffness = CARTESIAN_STIFFNESS
        self._arm, self._tool = arm, tool
        self._measured, self._desired = Posture(arm, tool), Posture(arm, tool)

    def torque(self, motion: CommandedMotion) -> Floats:
        """Return the torque [7] (N m, what holds the arm's weight included) that follows `motion`.

        Set-points belong to the end of the tick, as in `SimulatedArm.advance`, and are led back to its beginning.
        """
        arm, EE_T_K = self._arm, self._tool.EE_T_K
        dq_d = motion.dq - motion.ddq * TICK_S
        self._measured.take(arm.q)
        self._desired.take(motion.q - motion.dq * TICK_S)
        O_T_K, O_T_K_d = self._tool.O_T_K, self._desired.O_T_EE @ EE_T_K
        jacobian = self._measured.jacobian(O_T_K[:3, 3])
        way = difference(O_T_K, O_T_K_d)
        twist = self._desired.jacobian(O_T_K_d[:3, 3]) @ dq_d - jacobian @ arm.dq
        inertia = arm.inertia()
        accelerations = np.linalg.solve(inertia, jacobian.T)
        mobility = jacobian @ accelerations + _SINGULARITY_DAMPING * np.eye(6)
        felt = np.linalg.inv(mobility).astype(np.float64)
        root = _in_base(np.sqrt(self.stiffness), O_T_K)
        felt_root = _square_root(felt)
        damping = DAMPING_RATIO * (root @ felt_root + felt_root @ root)
        posture = POSTURE_STIFFNESS_NM_RAD * (motion.q - arm.q)
        posture += 2.0 * DAMPING_RATIO * np.sqrt(POSTURE_STIFFNESS_NM_RAD * np.diag(inertia)) * (dq_d - arm.dq)
        null_space = np.eye(JOINTS) - jacobian.T @ felt @ accelerations.T
        torque: Floats = jacobian.T @ (root @ root @ way + damping @ twist) + null_space @ posture
        return torque + inertia @ motion.ddq + arm.tau_bias


def _in_base(diagonal: Floats, frame: Floats) -> Floats:
    """Return the matrix [6, 6] along the axes of the base that is `diagonal` [6] along those of `frame` [4, 4]."""
    axes = np.kron(np.eye(2), frame[:3, :3])
    matrix: Floats = axes * diagonal @ axes.T
    return matrix


def _square_root(matrix: Floats) -> Floats:
    """Return the square root of a symmetric positive definite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    root: Floats = vectors * np.sqrt(values) @ vectors.T
    return root
