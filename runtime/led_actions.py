"""From where a hand has led the arm to the actions that would have moved it there: what a policy learns from is always an action.

A joint position is the measured one at the end of the period. Tip deltas are bounded, and a hand may be quicker than they are: each
is the way, as far as one action goes, from where the deltas so far have led to where the tip is measured. What is too far is
caught up with in the next periods, so that the deltas, executed one after the other, end where the hand did. What they cannot say,
a tilt of the tip or another posture of the elbow, is left out; the servo keeps the tip upright meanwhile.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from poco.observation import tip_pose, wrap
from poco.specification import Specification, scale, unscale

Floats = npt.NDArray[np.float64]


class LedActions:
    """The actions of one episode, in order; policy process only."""

    def __init__(self, specification: Specification, q: Floats) -> None:
        """Begin where the arm was held at joints `q` [7] (rad) when the hand took it."""
        self._specification = specification
        self._reached = self._pose(q)

    def next(self, q: Floats) -> Floats:
        """Return the action of the arm [4 or 7] in action units for a period that has ended at joints `q` [7] (rad)."""
        fields = self._specification.arm_action
        if self._specification.action_space == "joint_position":
            return scale(fields, q)
        way = self._pose(q) - self._reached
        way[3] = wrap(float(way[3]))
        action = scale(fields, way)
        self._reached = self._reached + unscale(fields, action)
        return action

    def moved(self, q: Floats, distance_m: float, angle_rad: float) -> bool:
        """Tell whether at joints `q` [7] (rad) the tip is further than that from where the actions so far have led."""
        way = self._pose(q) - self._reached
        return bool(np.linalg.norm(way[:3]) > distance_m or abs(wrap(float(way[3]))) > angle_rad)

    def _pose(self, q: Floats) -> Floats:
        """Return position and yaw of the tip [4] (m, rad)."""
        position, yaw = tip_pose(np.ascontiguousarray(q, np.float64), self._specification.tip)
        return np.array([*position, yaw])
