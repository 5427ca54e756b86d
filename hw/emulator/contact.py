"""What the arm feels: the external wrench estimated from joint torques, and the thresholds that call it contact or collision."""

from __future__ import annotations

import mujoco
import numpy as np
import numpy.typing as npt

from poco.limits import JOINTS

from .arm import SimulatedArm
from .protocol import PAYLOADS, Command, Error
from .tool import Tool

Floats = npt.NDArray[np.float64]

TORQUE_NOISE_NM = 1e-6
"""External torque below which the arm counts as free; the filter's tail otherwise never ends."""

_SINGULARITY_DAMPING = 1e-6


def default_thresholds() -> npt.NDArray[np.void]:
    """Return the collision behaviour an arm starts with: torque 20/40 N m, force 10/20 N (vendor example values)."""
    thresholds = np.zeros((), PAYLOADS[Command.SET_COLLISION_BEHAVIOR])
    for phase in ("acceleration", "nominal"):
        thresholds[f"lower_torque_{phase}"] = 20.0
        thresholds[f"upper_torque_{phase}"] = 40.0
        thresholds[f"lower_force_{phase}"] = 10.0
        thresholds[f"upper_force_{phase}"] = 20.0
    return thresholds


class ContactWatch:
    """External wrench on the stiffness frame K and its comparison with the thresholds, updated once a tick.

    Signs: what the environment exerts on the arm. `wrench_base`, `wrench_stiffness` are [6] (N, N m) at K, along the axes of
    the base and of K. The four flag arrays are 1.0 where a torque or force is above its lower (contact) or upper (collision)
    threshold.
    """

    def __init__(self, arm: SimulatedArm, tool: Tool) -> None:
        """Watch `arm`, whose stiffness frame `tool` knows, with the default thresholds."""
        self._arm = arm
        self._tool = tool
        self._hand = arm.model.body("hand").id
        self._jacobian = np.zeros((6, arm.model.nv))
        self.thresholds = default_thresholds()
        self.wrench_base = np.zeros(6)
        self.wrench_stiffness = np.zeros(6)
        self.joint_contact = np.zeros(JOINTS)
        self.joint_collision = np.zeros(JOINTS)
        self.cartesian_contact = np.zeros(6)
        self.cartesian_collision = np.zeros(6)
        self._free = True

    def update(self, accelerating: bool) -> None:
        """Take in the arm's present external torque; `accelerating` selects the thresholds."""
        torque = np.abs(self._arm.tau_ext)
        if torque.max() < TORQUE_NOISE_NM:
            if not self._free:
                self._clear()
            return
        self._free = False
        self._estimate_wrench(self._tool.O_T_K)
        force = np.abs(self.wrench_stiffness)
        phase = "acceleration" if accelerating else "nominal"
        self.joint_contact[:] = torque > self.thresholds[f"lower_torque_{phase}"]
        self.joint_collision[:] = torque > self.thresholds[f"upper_torque_{phase}"]
        self.cartesian_contact[:] = force > self.thresholds[f"lower_force_{phase}"]
        self.cartesian_collision[:] = force > self.thresholds[f"upper_force_{phase}"]

    @property
    def collisions(self) -> list[Error]:
        """The reflexes that the present torques and forces call for; empty if none."""
        found = []
        if not self._free:
            if self.joint_collision.any():
                found.append(Error.JOINT_REFLEX)
            if self.cartesian_collision.any():
                found.append(Error.CARTESIAN_REFLEX)
        return found

    def _estimate_wrench(self, O_T_K: Floats) -> None:
        """Solve J^T F = tau_ext in the least-squares sense, damped near singularities."""
        arm = self._arm
        mujoco.mj_jac(arm.model, arm.data, self._jacobian[:3], self._jacobian[3:], O_T_K[:3, 3], self._hand)
        jacobian = self._jacobian[:, :JOINTS]
        gram = jacobian @ jacobian.T + _SINGULARITY_DAMPING * np.eye(6)
        self.wrench_base[:] = np.linalg.solve(gram, jacobian @ arm.tau_ext)
        self.wrench_stiffness[:3] = self.wrench_base[:3] @ O_T_K[:3, :3]
        self.wrench_stiffness[3:] = self.wrench_base[3:] @ O_T_K[:3, :3]

    def _clear(self) -> None:
        self._free = True
        for array in (
            self.wrench_base,
            self.wrench_stiffness,
            self.joint_contact,
            self.joint_collision,
            self.cartesian_contact,
            self.cartesian_collision,
        ):
            array[:] = 0.0
