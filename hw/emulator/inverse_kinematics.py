"""Joint positions that follow a commanded pose from tick to tick: damped least squares, the elbow as given or left where it was."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from poco.clock import TICK_S
from poco.limits import JOINTS

from .commanded_elbow import ELBOW_JOINT
from .posture import Posture
from .transforms import difference

Floats = npt.NDArray[np.float64]

DAMPING = 1e-6
"""Added to the squares of the Jacobian's singular values; what it leaves undone a further iteration does."""

ITERATIONS = 4
CONVERGED = 1e-10
REACHED = 1e-6
"""Way (m, rad) to the commanded pose above which the arm cannot follow it."""

POSTURE_RATE = 1.0
"""How fast (1/s) the null space leads the joints back to the posture that the motion began in; our choice."""

SINGULAR = 0.01
"""Smallest singular value of the Jacobian below which a pose counts as singular; our choice."""

_ELBOW_ROW = np.eye(JOINTS)[ELBOW_JOINT]


class InverseKinematics:
    """Follows poses from wherever the joints are, so that it never jumps to another branch; belongs to one robot."""

    def __init__(self, posture: Posture) -> None:
        """Work on `posture`, which is then where the last solution is."""
        self._posture = posture
        self._rest = np.zeros(JOINTS)

    def begin(self, q: Floats) -> None:
        """Begin a motion at `q` [7] (rad), the posture that the null space keeps."""
        self._rest[:] = q

    def solve(self, q: Floats, O_T_EE: Floats, elbow_rad: float | None) -> Floats | None:
        """Return the joint positions [7] (rad) next to `q` that reach the pose [4, 4], or None where none are in reach.

        `elbow_rad` is the position of joint 3, or None to leave it to the null space, which keeps the posture last asked for.
        """
        solution = np.array(q)
        if elbow_rad is not None:
            self._rest[:] = q
        towards_rest = POSTURE_RATE * TICK_S * (self._rest - q)
        for _ in range(ITERATIONS):
            self._posture.take(solution)
            way, rows = difference(self._posture.O_T_EE, O_T_EE), self._posture.jacobian()
            if elbow_rad is not None:
                way, rows = np.append(way, elbow_rad - solution[ELBOW_JOINT]), np.vstack((rows, _ELBOW_ROW))
            if np.abs(way).max() < CONVERGED and not towards_rest.any():
                return solution
            gram = rows @ rows.T + DAMPING * np.eye(len(rows))
            solution += towards_rest + rows.T @ np.linalg.solve(gram, way - rows @ towards_rest)
            towards_rest[:] = 0.0
        self._posture.take(solution)
        return solution if np.abs(difference(self._posture.O_T_EE, O_T_EE)).max() < REACHED else None


def is_singular(posture: Posture) -> bool:
    """Tell whether the end effector cannot be moved in every direction from where `posture` is."""
    smallest = np.linalg.svd(posture.jacobian(), compute_uv=False)[-1]
    return bool(smallest < SINGULAR)
