"""The two fingers of the simulated hand: slides in the MuJoCo scene, driven with a limited force, one call per tick of 1 ms."""

from __future__ import annotations

from poco.clock import TICK_S

from .arm import SimulatedArm
from .model import FINGER_STROKE_M

WIDTH_MAX_M = 2 * FINGER_STROKE_M
HOLDING_FORCE_N = 60.0
"""Force with which the fingers keep a width that was not given one; our choice."""

_STIFFNESS_N_M = 3000.0
_DAMPING_N_S_M = 30.0
_PUSHING = 0.95
_COUPLING_N_M = 6000.0
_COUPLING_DAMPING_N_S_M = 40.0
"""The law of the width, and the rack that lets both fingers move alike; our choice, stable at 1 kHz."""


class SimulatedFingers:
    """Both fingers of `arm`'s hand, as wide apart as `width_m` says; each pushes with `force_max_n` at most.

    Belongs to the process that simulates. `aim` says where they go, `advance` lives through a tick, before the arm does.
    """

    def __init__(self, arm: SimulatedArm, width_m: float = WIDTH_MAX_M) -> None:
        """Take over the fingers of a scene made with `moving_fingers` and put them `width_m` apart."""
        data = arm.data
        left, right = (arm.model.joint(name) for name in ("finger_left", "finger_right"))
        self._arm = arm
        self._places = [int(joint.qposadr[0]) for joint in (left, right)]
        self._dofs = [int(joint.dofadr[0]) for joint in (left, right)]
        self._q, self._v, self._applied, self._bias = data.qpos, data.qvel, data.qfrc_applied, data.qfrc_bias
        self.put(width_m)

    def put(self, width_m: float) -> None:
        """Teleport the fingers `width_m` apart and keep them there, as only an environment or the start of the emulator may."""
        for place, dof in zip(self._places, self._dofs, strict=True):
            self._q[place], self._v[dof] = width_m / 2, 0.0
        self.aim(width_m, 0.0, HOLDING_FORCE_N)
        self._arm.refresh()

    @property
    def width_m(self) -> float:
        """Distance between the fingers."""
        return float(self._q[self._places[0]] + self._q[self._places[1]])

    @property
    def speed_m_s(self) -> float:
        """How fast the distance grows."""
        return float(self._v[self._dofs[0]] + self._v[self._dofs[1]])

    @property
    def settled(self) -> bool:
        """Whether there is nothing left to do: the fingers are told to be no further, or push with all they are given."""
        pushing = abs(self._reference_m - self.width_m) > _PUSHING * self._lead_m
        return pushing or self._reference_m == self._target_m

    @property
    def _lead_m(self) -> float:
        return self._force_max_n / _STIFFNESS_N_M

    def aim(self, width_m: float, speed_m_s: float, force_max_n: float) -> None:
        """Go to `width_m` from where the fingers are with `speed_m_s`, pushing with at most `force_max_n` there and on the way."""
        self._reference_m = self.width_m
        self._target_m, self._speed_m_s, self._force_max_n = width_m, speed_m_s, force_max_n

    def stay(self) -> None:
        """Stop where the fingers are; what they hold stays held."""
        self._target_m = self._reference_m

    def advance(self) -> None:
        """Move the reference on and push towards it; the arm's own `advance` then simulates."""
        width_m, step_m, lead_m = self.width_m, self._speed_m_s * TICK_S, self._lead_m
        moved_m = min(max(self._target_m - self._reference_m, -step_m), step_m)
        self._reference_m += moved_m
        if abs(self._reference_m - width_m) > lead_m and self._reference_m != self._target_m:
            self._reference_m = min(max(self._reference_m, width_m - lead_m), width_m + lead_m)
        push_n = _STIFFNESS_N_M * (self._reference_m - width_m)
        push_n += _DAMPING_N_S_M * (moved_m / TICK_S - self.speed_m_s)
        push_n = min(max(push_n, -self._force_max_n), self._force_max_n)
        left, right = self._dofs
        uneven_m = float(self._q[self._places[0]] - self._q[self._places[1]])
        uneven_m_s = float(self._v[left] - self._v[right])
        centre_n = -_COUPLING_N_M * uneven_m - _COUPLING_DAMPING_N_S_M * uneven_m_s
        self._applied[left] = push_n + centre_n + self._bias[left]
        self._applied[right] = push_n - centre_n + self._bias[right]
