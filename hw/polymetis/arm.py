"""An FR3 behind a Polymetis server: start-up checks, the controller, its updates, and whether it does what it was told.

The server answers an update without saying what became of it, and falls back to a controller of its own in silence. But it logs
the torque that was computed for every state, so every state tells whether the timeline kept here is the one that moves the arm.
"""

from __future__ import annotations

import time
from copy import copy
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

import numpy as np
import numpy.typing as npt

from poco.arm_settings import PolymetisSettings, RobotSettings
from poco.clock import TICKS_PER_SECOND
from poco.errors import ArmError
from poco.limits import JOINTS, POSITION_MAX_RAD, POSITION_MIN_RAD
from poco.start_pose import check_start_pose

from .controller import UpdateWriter, controller_bytes
from .inertia import ArmInertia
from .polymetis_pb2 import RobotState
from .timeline import Piece, Timeline
from .wire import ControllerServer, ServerLost

Floats = npt.NDArray[np.float64]
Verdict = Literal["follows", "refused", "other"]

CONNECT_LIMIT_S = 5.0
CONNECT_PAUSE_S = 0.1
MISFIT_NM = 0.05
"""Most by which a torque of ours may differ from what the timeline says; rounding makes 0.0001 N m."""

WATCH_S = 0.1
"""How often the server is asked whether the controller still runs."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One state: robot tick and time (s since the origin), joints [7] (rad, rad/s, N m), the torque that the controller gave."""

    tick: int
    time_s: float
    q: Floats
    dq: Floats
    tau: Floats
    tau_ext: Floats
    tau_computed: Floats
    error: bool


class PolymetisArm:
    """The arm of one run; every method belongs to the single thread of the bridge's process."""

    def __init__(self, robot: RobotSettings, polymetis: PolymetisSettings) -> None:
        self._robot, self._settings = robot, polymetis
        law = robot.impedance
        self._stiffness, self._damping = np.array(law.stiffness_nm_rad), np.array(law.damping_nm_s_rad)
        self._torque_max = np.array(law.torque_max_nm)
        self._writer = UpdateWriter()
        self._origin_s = 0
        self._timeline = Timeline(np.zeros(JOINTS))
        self._before: Timeline | None = None
        self._watched_s = 0.0
        self._inertia: ArmInertia
        self.server: ControllerServer

    def connect(self) -> list[str]:
        """Open the connection and wait for a living robot client; returns what to tell the person. Raises ArmError."""
        host, port = self._robot.host, self._settings.port
        self.server = ControllerServer(host, port)
        deadline_s = time.monotonic() + CONNECT_LIMIT_S
        while True:
            try:
                facts = self.server.metadata()
                break
            except ServerLost as error:
                if time.monotonic() > deadline_s:
                    raise ArmError(
                        f"{error}: start the controller server and its robot client on {host} (launch_robot.py), or correct "
                        "robot.host and polymetis.port"
                    ) from error
                time.sleep(CONNECT_PAUSE_S)
        if (facts.dof, facts.hz) != (JOINTS, TICKS_PER_SECOND):
            raise ArmError(
                f"the robot client of {host}:{port} has {facts.dof} joints at {facts.hz} Hz, must have {JOINTS} at "
                f"{TICKS_PER_SECOND} Hz: start the one for the Franka arm on hardware"
            )
        self._inertia = ArmInertia(facts.urdf_file, np.array(self._settings.rotor_inertia_kg_m2))
        return [f"server {facts.polymetis_version or 'of unknown version'}, installed package {installed_version()}"]

    def check_ready(self) -> None:
        """Check that states move on and the pose leaves room before the first motion; raises ArmError with the remedy."""
        first = self.read()
        time.sleep(5 * CONNECT_PAUSE_S)
        last = self.read()
        if last.tick <= first.tick:
            raise ArmError(f"the server at {self.server.address} sends no new states: start its robot client again")
        if last.error:
            raise ArmError(f"the robot client of {self.server.address} reports an error: look at the arm and in Desk")
        check_start_pose(last.q, self._robot.start_margin_rad)

    def start(self) -> Reading:
        """Let our controller take over, holding the arm where it is; returns the first state that it answered."""
        held = self.read()
        self._origin_s = held.tick // TICKS_PER_SECOND
        gains = (self._stiffness, self._damping, self._torque_max)
        module = controller_bytes(*gains, self._origin_s, held.q, self._settings.gap_max_s)
        self._timeline, self._before = Timeline(held.q), None
        self.server.set_controller(module)
        self._watched_s = time.monotonic()
        return self.read()

    @property
    def origin_tick(self) -> int:
        """The robot tick at which the timeline's time is 0."""
        return self._origin_s * TICKS_PER_SECOND

    def read(self) -> Reading:
        """Return the newest state; raises ServerLost."""
        return self._reading(self.server.state())

    def _reading(self, state: RobotState) -> Reading:
        stamp = state.timestamp
        if len(state.joint_positions) != JOINTS:
            raise ServerLost(f"the server at {self.server.address} has no state of the arm yet: start its robot client")
        return Reading(
            stamp.seconds * TICKS_PER_SECOND + round(stamp.nanos / 1e6),
            stamp.seconds - self._origin_s + stamp.nanos * 1e-9,
            np.array(state.joint_positions),
            np.array(state.joint_velocities),
            np.array(state.motor_torques_measured),
            np.array(state.motor_torques_external),
            np.array(state.joint_torques_computed),
            state.error_code != 0,
        )

    def tell(self, piece: Piece) -> None:
        """Give the controller `piece` in place of what it holds from there on; raises ServerLost. Takes some milliseconds."""
        inertia = self._inertia.at(piece.coefficients[0, 0])
        self._before = copy(self._timeline)
        self._timeline.take(piece, inertia)
        self.server.update(self._writer.bytes_of(piece, inertia))

    def desired(self, tick: int) -> Floats:
        """Return where the controller wants the joints [7] (rad) at robot tick `tick`, as far as is known here."""
        return self._timeline.at((tick - self.origin_tick) / TICKS_PER_SECOND)[0]

    @property
    def rest_tick(self) -> int:
        """From which robot tick on the controller holds the arm still."""
        return self.origin_tick + round(max(self._timeline.rest_s, 0.0) * TICKS_PER_SECOND) + 1

    def verdict(self, reading: Reading) -> Verdict:
        """Say whether the torque of `reading` is that of the timeline, of the one before the last update, or of neither."""
        if self._fits(self._timeline, reading):
            return "follows"
        return "refused" if self._before is not None and self._fits(self._before, reading) else "other"

    def forget_update(self) -> None:
        """The last update was refused: what was before it still holds."""
        if self._before is not None:
            self._timeline, self._before = self._before, None

    def still_runs(self) -> bool:
        """Ask, at times, whether a robot client lives and the server still runs our controller; raises ServerLost."""
        now_s = time.monotonic()
        if now_s - self._watched_s < WATCH_S:
            return True
        self._watched_s = now_s
        self.server.metadata()
        return self.server.running()

    def _fits(self, timeline: Timeline, reading: Reading) -> bool:
        if len(reading.tau_computed) != JOINTS:
            return False
        q_d, dq_d, ddq_d = timeline.at(reading.time_s)
        torque = self._stiffness * (np.clip(q_d, POSITION_MIN_RAD, POSITION_MAX_RAD) - reading.q)
        torque += self._damping * (dq_d - reading.dq)
        torque += timeline.inertia @ ddq_d
        torque = np.clip(torque, -self._torque_max, self._torque_max)
        return bool(np.max(np.abs(torque - reading.tau_computed)) < MISFIT_NM)

    def stop(self) -> None:
        """End our controller, so that the server holds the arm; never raises."""
        try:
            self.server.terminate()
        except ServerLost:
            return

    def disconnect(self) -> None:
        """Close the connection."""
        self.server.close()


def installed_version() -> str:
    """Return the version of an installed `polymetis` package, which is read and not used, or that there is none."""
    try:
        return version("polymetis")
    except PackageNotFoundError:
        return "none"
