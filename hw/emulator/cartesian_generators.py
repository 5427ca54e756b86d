"""Motion generators in Cartesian space: what a client's poses or twists of the end effector mean for the motion of the joints."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .commanded_elbow import elbow_violations, extrapolated_elbow
from .commanded_pose import CommandedPose, start_violations, violations
from .inverse_kinematics import InverseKinematics, is_singular
from .motion_check import INVERSE_KINEMATICS, CommandedMotion, MotionCheck
from .posture import Posture
from .protocol import Error
from .transforms import rigid_transform

Floats = npt.NDArray[np.float64]


class CartesianMotion:
    """The joint `motion` of an arm under the `pose` that its end effector is commanded to; both generators move the same one."""

    def __init__(self, motion: CommandedMotion, posture: Posture) -> None:
        """Move `motion`, inside the arm's own limits in both spaces, by the geometry of `posture`."""
        self.pose = CommandedPose()
        self._motion = motion
        self._posture = posture
        self._check = MotionCheck(INVERSE_KINEMATICS)
        self._inverse = InverseKinematics(posture)
        self._elbow_commanded = False

    @property
    def at_singularity(self) -> bool:
        """Whether the arm is commanded to be where no Cartesian motion can start."""
        self._posture.take(self._motion.q)
        return is_singular(self._posture)

    def begin(self) -> None:
        """Begin a motion from rest where the arm is commanded to be."""
        self._posture.take(self._motion.q)
        self.pose.begin(self._posture.O_T_EE)
        self._inverse.begin(self._motion.q)

    def follow(
        self, O_T_EE: Floats, twist: Floats, acceleration: Floats, command: npt.NDArray[np.void], first: bool
    ) -> list[Error]:
        """Take pose [4, 4], twist and acceleration [6] and the elbow of `command`, or leave them and return what they break."""
        found = violations(self.pose, twist, acceleration)
        self._elbow_commanded = bool(command["valid_elbow"])
        if self._elbow_commanded:
            found += elbow_violations(self._motion, command["elbow_c"], first)
        if not found:
            found = self._follow_by_joints(O_T_EE, float(command["elbow_c"][0]) if self._elbow_commanded else None)
        if not found:
            self.pose.take(O_T_EE, twist, acceleration)
        return found

    def proceed(self) -> None:
        """Continue for one tick with constant Cartesian acceleration, or that of the joints where they cannot follow."""
        self.pose.extrapolate()
        elbow_rad = extrapolated_elbow(self._motion) if self._elbow_commanded else None
        q = self._inverse.solve(self._motion.q, self.pose.O_T_EE, elbow_rad)
        if q is None:
            self._motion.extrapolate()
        else:
            self._motion.take(q, *self._motion.differentiate(q))

    def _follow_by_joints(self, O_T_EE: Floats, elbow_rad: float | None) -> list[Error]:
        """Move the joints to the pose; one out of reach would need joints faster than any."""
        q = self._inverse.solve(self._motion.q, O_T_EE, elbow_rad)
        if q is None:
            return [Error.CARTESIAN_JOINT_VELOCITY_LIMITS]
        return self._check.take(self._motion, q, *self._motion.differentiate(q))


class CartesianPoses:
    """Poses of the end effector, differentiated by the arm."""

    def __init__(self, cartesian: CartesianMotion) -> None:
        """Move `cartesian`."""
        self._cartesian = cartesian

    def begin(self) -> None:
        """Begin a motion; the first command must be where the arm is commanded to be."""
        self._cartesian.begin()

    def follow(self, command: npt.NDArray[np.void], first: bool) -> list[Error]:
        """Go to O_T_EE_c."""
        pose, target = self._cartesian.pose, rigid_transform(command["O_T_EE_c"])
        if target is None:
            return [Error.INVALID_FRAME]
        found = start_violations(pose, target) if first else []
        return found or self._cartesian.follow(target, *pose.differentiate(target), command, first)

    def proceed(self) -> None:
        """Continue the Cartesian motion."""
        self._cartesian.proceed()


class CartesianVelocities:
    """Twists of the end effector (axes of the base, turning about the end effector), integrated from where the motion begins."""

    def __init__(self, cartesian: CartesianMotion) -> None:
        """Move `cartesian`."""
        self._cartesian = cartesian

    def begin(self) -> None:
        """Begin a motion; the first command counts from rest."""
        self._cartesian.begin()

    def follow(self, command: npt.NDArray[np.void], first: bool) -> list[Error]:
        """Move by O_dP_EE_c for this tick."""
        twist = command["O_dP_EE_c"]
        target, acceleration = self._cartesian.pose.integrate(twist)
        return self._cartesian.follow(target, twist, acceleration, command, first)

    def proceed(self) -> None:
        """Continue the Cartesian motion."""
        self._cartesian.proceed()
