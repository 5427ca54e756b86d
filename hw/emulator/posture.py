"""The arm's geometry at joint positions where it need not be: those that it is commanded to."""

from __future__ import annotations

import mujoco
import numpy as np
import numpy.typing as npt

from poco.limits import JOINTS

from .arm import SimulatedArm, site_pose
from .tool import Tool

Floats = npt.NDArray[np.float64]


class Posture:
    """End effector and its Jacobian by MuJoCo's kinematics of the arm's own scene; `take` says for which joint positions."""

    def __init__(self, arm: SimulatedArm, tool: Tool) -> None:
        """Be where `arm` is, with the end effector that `tool` has at any time."""
        self._model, self._tool = arm.model, tool
        self._data = mujoco.MjData(arm.model)
        self._flange = self._data.site("flange")
        self._hand = arm.model.body("hand").id
        self._jacobian = np.zeros((6, arm.model.nv))
        self.take(arm.q)

    def take(self, q: Floats) -> None:
        """Be at `q` [7] (rad)."""
        self._data.qpos[:JOINTS] = q
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)

    @property
    def O_T_EE(self) -> Floats:
        """Pose of the end effector [4, 4] in the base frame (m)."""
        return site_pose(self._flange) @ self._tool.F_T_EE

    def jacobian(self, point_m: Floats | None = None) -> Floats:
        """Return the Jacobian [6, 7] along the axes of the base: m/s over rad/s, then rad/s over rad/s; a view.

        It is that of the end effector, or of the `point_m` [3] (base frame) where it moves with the hand.
        """
        translation, rotation = self._jacobian[:3], self._jacobian[3:]
        point_m = self.O_T_EE[:3, 3] if point_m is None else point_m
        mujoco.mj_jac(self._model, self._data, translation, rotation, point_m, self._hand)
        return self._jacobian[:, :JOINTS]
