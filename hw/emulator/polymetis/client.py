"""The robot client beside the arm: asks the server for torques once a tick, keeps its own safety bounds, recovers by itself.

Bounds, and the springs that begin inside them, are those that Polymetis' client for the Franka arm is set to; where its joint
bounds are a Panda's, those of the simulated FR3 take their place. Time is robot time.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from poco.clock import TICK_S
from poco.hw.polymetis.polymetis_pb2 import RobotClientMetadata, RobotState
from poco.limits import JOINTS, POSITION_MAX_RAD, POSITION_MIN_RAD

from ..arm import SimulatedArm
from ..contact import ContactWatch
from ..model import fr3_urdf
from ..tool import Tool
from .host import ControllerHost

Floats = npt.NDArray[np.float64]

VERSION = "0.2.155"
HZ = 1000
DEFAULT_KQ = (40.0, 30.0, 50.0, 25.0, 35.0, 25.0, 10.0)
DEFAULT_KQD = (4.0, 6.0, 5.0, 5.0, 3.0, 2.0, 1.0)
DEFAULT_KX = (750.0, 750.0, 750.0, 15.0, 15.0, 15.0)
DEFAULT_KXD = (37.0, 37.0, 37.0, 2.0, 2.0, 2.0)
REST_RAD = (-0.139, -0.0205, -0.052, -2.069, 0.0506, 2.003, -0.917)

BOX_MIN_M, BOX_MAX_M = np.array([0.1, -0.4, -0.05]), np.array([1.0, 0.4, 1.0])
JOINT_MARGIN_RAD = 0.1
Q_MIN_RAD, Q_MAX_RAD = POSITION_MIN_RAD + JOINT_MARGIN_RAD, POSITION_MAX_RAD - JOINT_MARGIN_RAD
SPEED_MAX_RAD_S = np.array([2.075] * 4 + [2.51] * 3)
SPRING_M, SPRING_RAD, SPRING_RAD_S = 0.05, 0.2, 0.5
"""So far inside box, joint bounds and speed bounds the springs begin."""

SPRING_N_M, SPRING_NM_RAD, SPRING_NM_S_RAD = 200.0, 50.0, 20.0
TORQUE_CLAMP_NM = np.array([86.0] * 4 + [11.5] * 3)
COLLISION_THRESHOLD = 40.0
TORQUE_RATE_NM = 1.0
"""Most that the client library lets a torque change in a tick."""

LOW_PASS_HZ = 100.0
ABORT_TICKS = 1000
"""So long the client waits before it asks for recovery."""


def inwards(values: Floats, low: Floats, high: Floats, margin: float) -> Floats:
    """Return how far each value is beyond `margin` inside its bounds, positive where the way back is upwards."""
    return np.maximum(low + margin - values, 0.0) - np.maximum(values - (high - margin), 0.0)


def metadata() -> RobotClientMetadata:
    """Return what the client tells the server of itself."""
    return RobotClientMetadata(
        urdf_file=fr3_urdf(),
        hz=HZ,
        default_Kq=DEFAULT_KQ,
        default_Kqd=DEFAULT_KQD,
        dof=JOINTS,
        ee_link_name="fr3_link8",
        ee_link_idx=JOINTS,
        rest_pose=REST_RAD,
        polymetis_version=VERSION,
        default_Kx=DEFAULT_KX,
        default_Kxd=DEFAULT_KXD,
    )


class RobotClient:
    """One arm under the torques of a server; `advance` is one tick of 1 ms. Belongs to the emulator's loop."""

    def __init__(self, arm: SimulatedArm, recovery_delay_ticks: int) -> None:
        """Hold `arm` where it is; after `ABORT_TICKS` recovery takes `recovery_delay_ticks`."""
        self.arm = arm
        self.tick = 1
        self.aborts = 0
        self._tool = Tool(arm)
        self._contact = ContactWatch(arm, self._tool)
        for phase in ("acceleration", "nominal"):
            self._contact.thresholds[f"upper_torque_{phase}"] = COLLISION_THRESHOLD
            self._contact.thresholds[f"upper_force_{phase}"] = COLLISION_THRESHOLD
        self._recovery_ticks = ABORT_TICKS + recovery_delay_ticks
        self._away_until = 0
        self._hold_q = arm.q.copy()
        self._filter = TICK_S / (TICK_S + 1.0 / (2.0 * math.pi * LOW_PASS_HZ))
        self._torque, self._computed = np.zeros(JOINTS), np.zeros(JOINTS)
        self._safened, self._filtered = np.zeros(JOINTS), np.zeros(JOINTS)

    @property
    def away(self) -> bool:
        """Whether it asks no server at present."""
        return self.tick < self._away_until

    def pause(self, ticks: int) -> None:
        """Ask no server for `ticks`; the arm holds by itself."""
        self._away_until = max(self._away_until, self.tick + ticks)
        self._hold_q = self.arm.q.copy()
        self._torque[:] = self._filtered[:] = 0.0

    def abort(self) -> None:
        """End the torque motion as a bound that is crossed does, and recover by itself."""
        self.aborts += 1
        self.pause(self._recovery_ticks)

    def advance(self, host: ControllerHost | None) -> None:
        """Live through one tick with `host`, None while there is no server."""
        if host is None and not self.away:
            self.abort()
        if host is None or self.away:
            self.arm.advance(self._hold_q, np.zeros(JOINTS), np.zeros(JOINTS))
        else:
            self._follow(host.control_update(self._state(), self.tick))
        self.tick += 1
        self._contact.update(accelerating=False)
        if not self.away and (reason := self._crossed()):
            print(f"robot client aborted at {self.tick}: {reason}", flush=True)
            self.abort()

    def _follow(self, computed: Floats) -> None:
        self._computed = computed
        self._safened = np.clip(computed + self._springs(), -TORQUE_CLAMP_NM, TORQUE_CLAMP_NM)
        self._filtered += self._filter * (self._safened - self._filtered)
        self._torque += np.clip(self._filtered - self._torque, -TORQUE_RATE_NM, TORQUE_RATE_NM)
        self.arm.advance_by_torque(self._torque)

    def _springs(self) -> Floats:
        """Return the torques [7] (N m) that push back where the arm comes near one of its bounds."""
        arm, position = self.arm, self._tool.O_T_EE[:3, 3]
        torque = SPRING_NM_RAD * inwards(arm.q, Q_MIN_RAD, Q_MAX_RAD, SPRING_RAD)
        torque += SPRING_NM_S_RAD * inwards(arm.dq, -SPEED_MAX_RAD_S, SPEED_MAX_RAD_S, SPRING_RAD_S)
        force = SPRING_N_M * inwards(position, BOX_MIN_M, BOX_MAX_M, SPRING_M)
        if force.any():
            torque += force @ arm.translation_jacobian(position)
        return torque

    def _crossed(self) -> str:
        """Return which bound the arm has crossed, empty for none."""
        position, q = self._tool.O_T_EE[:3, 3], self.arm.q
        if np.any((position < BOX_MIN_M) | (position > BOX_MAX_M)):
            return f"end effector at {position.round(3).tolist()} m, outside the box"
        if np.any((q < Q_MIN_RAD) | (q > Q_MAX_RAD)):
            return f"joints at {q.round(3).tolist()} rad, outside their bounds"
        if np.any(np.abs(self.arm.dq) > SPEED_MAX_RAD_S):
            return f"joints at {self.arm.dq.round(3).tolist()} rad/s, faster than they may be"
        if self._contact.collisions:
            wrench, torque = self._contact.wrench_stiffness.round(1).tolist(), self.arm.tau_ext.round(1).tolist()
            return f"a collision: {wrench} N, N m at the stiffness frame, {torque} N m at the joints"
        return ""

    def _state(self) -> RobotState:
        arm = self.arm
        state = RobotState(
            joint_positions=arm.q.tolist(),
            joint_velocities=arm.dq.tolist(),
            prev_joint_torques_computed=self._computed.tolist(),
            prev_joint_torques_computed_safened=self._safened.tolist(),
            motor_torques_measured=arm.tau.tolist(),
            motor_torques_external=arm.tau_ext.tolist(),
            motor_torques_desired=self._torque.tolist(),
            prev_command_successful=True,
        )
        state.timestamp.seconds, state.timestamp.nanos = self.tick // 1000, self.tick % 1000 * 1_000_000
        return state
