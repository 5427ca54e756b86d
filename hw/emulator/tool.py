"""What is mounted on the flange: frames of the end effector, its mass as simulated and the load a client has declared."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .arm import SimulatedArm
from .model import flange_to_nominal_end_effector

Floats = npt.NDArray[np.float64]


class Tool:
    """Frames [4, 4] (m) and inertial data of the end effector in the flange frame F.

    Mass, centre of mass [3] and inertia [3, 3] about it are summed over everything the scene fixes to the hand, so the client's
    gravity agrees with the simulation. A load set by the client is reported and never simulated: the law knows the true masses.
    """

    def __init__(self, arm: SimulatedArm) -> None:
        """Weigh what `arm` carries."""
        self._arm = arm
        self.F_T_NE = flange_to_nominal_end_effector()
        self.NE_T_EE = np.eye(4)
        self.EE_T_K = np.eye(4)
        self.load_mass_kg = 0.0
        self.load_centre_m = np.zeros(3)
        self.load_inertia_kg_m2 = np.zeros(9)
        self.mass_kg, self.centre_m, self.inertia_kg_m2 = _weigh(arm)

    @property
    def F_T_EE(self) -> Floats:
        """Pose of the end effector in the flange frame."""
        return self.F_T_NE @ self.NE_T_EE

    @property
    def O_T_EE(self) -> Floats:
        """Measured pose of the end effector in the base frame."""
        return self._arm.O_T_F @ self.F_T_EE

    @property
    def O_T_K(self) -> Floats:
        """Measured pose of the stiffness frame in the base frame."""
        return self.O_T_EE @ self.EE_T_K


def _weigh(arm: SimulatedArm) -> tuple[float, Floats, Floats]:
    model, data = arm.model, arm.data
    hand = model.body("hand").id
    carried = [body for body in range(hand, model.nbody) if _is_within(model.body_parentid, body, hand)]
    flange = arm.O_T_F
    masses = model.body_mass[carried]
    mass = float(masses.sum())
    centres = (data.xipos[carried] - flange[:3, 3]) @ flange[:3, :3]
    centre = masses @ centres / mass
    inertia = np.zeros((3, 3))
    for body, body_mass, body_centre in zip(carried, masses, centres, strict=True):
        axes = flange[:3, :3].T @ data.ximat[body].reshape(3, 3)
        offset = body_centre - centre
        inertia += axes @ np.diag(model.body_inertia[body]) @ axes.T
        inertia += body_mass * (offset @ offset * np.eye(3) - np.outer(offset, offset))
    return mass, centre, inertia


def _is_within(parents: npt.NDArray[np.int32], body: int, ancestor: int) -> bool:
    while body > ancestor:
        body = int(parents[body])
    return body == ancestor
