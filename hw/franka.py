"""The FR3 behind the vendor's client library pylibfranka; lives in the servo process and nowhere else.

The library holds the interpreter lock in every blocking call, so no other thread of that process may matter.
Start-up checks and texts follow the vendor's documentation of the Franka Control Interface (protocol 10).
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from poco.arm_settings import RobotSettings
from poco.errors import ArmError
from poco.start_pose import check_start_pose
from poco.trouble import BY_NAME, Trouble

from .arm_facts import ArmFacts, check_agreement, facts_of
from .franka_versions import server_protocol, wrong_protocol

NO_JACOBIAN = [0.0] * 42
SELF_TEST_MIN_SHARE, SELF_TEST_GOOD_SHARE = 0.9, 0.95
SELF_TEST_TRIES = 5
"""A computer that is just starting the other processes of a run may be late once, but not every time."""
RECOVERY_LIMIT_S = 20.0

_NETWORK_REMEDY = "use a direct cable to Control, a performance governor and no other load"
_MODE_REMEDY = {
    "Other": "its brakes are closed: unlock the joints in Desk and activate FCI",
    "Guiding": "the guiding button is held: release it",
    "Reflex": "it stopped in a reflex: look at the arm, then start again with --recover or clear the error in Desk",
    "UserStopped": "the activation device is pressed: release it",
    "AutomaticErrorRecovery": "it is recovering: wait a few seconds and start again",
    "Move": "another program moves it: stop that program",
}


class FrankaArm:
    """One FR3 reached through pylibfranka; every method belongs to the single thread of the servo process."""

    def __init__(self, settings: RobotSettings, *, guided: bool = False) -> None:
        """Be ready to connect; `guided`: a hand will lead it, for which the law reads the Jacobian too."""
        self.settings = settings
        self._robot: Any = None
        self._control: Any = None
        self._library: Any = None
        self._model: Any = None
        self._at_the_tip = guided or settings.control == "cartesian_impedance"
        self._arrived = 1.0
        self._answered: float | None = None

    @property
    def driven_by_torque(self) -> bool:
        """Whether `write` takes torques of the servo's own law instead of set-points for the arm's."""
        return self.settings.control != "position"

    def connect(self) -> None:
        """Open the connection, ending an earlier one; raises ArmError with the remedy when nothing answers or versions differ."""
        self.disconnect()
        try:
            import pylibfranka
        except ImportError as error:
            raise ArmError("pylibfranka is not installed: pip install 'poco-robot[franka]'") from error
        self._library = pylibfranka
        host = self.settings.host
        try:
            self._robot = pylibfranka.Robot(host, pylibfranka.RealtimeConfig.kIgnore)
        except pylibfranka.FrankaException as error:
            raise ArmError(wrong_protocol(host, server_protocol(str(error)), pylibfranka.__version__)) from error
        except Exception as error:  # the library raises plain RuntimeErrors of several classes
            raise ArmError(
                f"no arm answers at {host}, port 1337 ({_text(error)}): start poco-emulator there, or check cable, address "
                "and that FCI is active in Desk; only one client may be connected"
            ) from error
        finally:
            _leave_realtime()

    def disconnect(self) -> None:
        """Give the connection back; a motion that still runs is preempted."""
        self._control = self._model = self._robot = None

    def check_ready(self, recover: bool) -> None:
        """Check mode, errors, start pose and communication before the first motion; raises ArmError with the remedy."""
        state = self._read_idle()
        mode = _mode(state)
        if mode == "Reflex" and recover:
            self.recover()
            state = self._read_idle()
            mode = _mode(state)
        if mode != "Idle":
            raise ArmError(f"the arm is in mode {mode}, must be Idle: {_MODE_REMEDY.get(mode, 'look at Desk')}")
        if bool(state.current_errors):
            raise ArmError(f"the arm reports {state.current_errors}: clear it in Desk before starting")
        check_start_pose(np.array(state.q), self.settings.start_margin_rad)
        self._check_communication()

    def configure(self) -> None:
        """Set stiffness, collision thresholds and load, all only allowed while Idle; raises ArmError if refused or not reported so.

        For torques the vendor's model is fetched too.
        """
        settings = self.settings
        torque, force = list(settings.collision_torque_nm), list(settings.collision_force_n)
        try:
            self._robot.set_collision_behavior(torque, torque, force, force)
            self._robot.set_joint_impedance(list(settings.joint_impedance_nm_rad))
            load = settings.load
            self._robot.set_load(load.mass_kg, list(load.center_m), list(load.inertia_kg_m2))
            if self.driven_by_torque:
                self._model = self._robot.load_model()
        except Exception as error:
            raise ArmError(
                f"the arm refused a setting ({_text(error)}): it must be Idle and the values in range"
            ) from error
        self._read_idle()  # may have been sent before the answer to a setter
        check_agreement(self.facts(), settings)

    def facts(self) -> ArmFacts:
        """Return what the arm says of itself and what the tests before the motion have shown; raises ArmError without states."""
        state = self._read_idle()
        return facts_of(state, self.settings, self._library.__version__, self._arrived, self._answered)

    def hold_on_trial(self) -> list[str]:
        """Hold the arm where it is for `self_test_ticks` and return what to warn of; raises ArmError where too few commands count.

        The arm says itself how many of the last 100 commands came in time. It is left Idle.
        """
        for _ in range(SELF_TEST_TRIES):
            self._answered = self._hold()
            if self._answered >= SELF_TEST_MIN_SHARE:
                break
        else:
            raise ArmError(
                f"only {self._answered:.0%} of the commands of a hold on trial reached the arm in time, at least "
                f"{SELF_TEST_MIN_SHARE:.0%} are needed: {_NETWORK_REMEDY}"
            )
        if self._answered < SELF_TEST_GOOD_SHARE:
            return [f"{self._answered:.0%} of the commands of a hold on trial came in time: {_NETWORK_REMEDY}"]
        return []

    def start(self) -> None:
        """Start the motion, joint positions under the arm's own impedance controller or torques; raises ArmError if rejected."""
        try:
            if self.driven_by_torque:
                self._control = self._robot.start_torque_control()
            else:
                self._control = self._robot.start_joint_position_control(self._library.ControllerMode.JointImpedance)
        except Exception as error:
            raise ArmError(f"the arm rejected the motion ({_text(error)}): see Desk") from error

    def read(self) -> Any:
        """Return the next vendor RobotState of the running motion (blocks at most 1.02 s); raises the library's exceptions."""
        return self._control.readOnce()[0]

    def dynamics(self, state: Any) -> tuple[list[float], list[float], list[float]]:
        """Return what the vendor's model says of `state`.

        Coriolis torque [7] (N m), mass [49] (kg m^2) and the end effector's Jacobian [42] (base frame, by columns), which
        only the laws at the tip and of guiding read.
        """
        model = self._model
        jacobian = model.zero_jacobian(state) if self._at_the_tip else NO_JACOBIAN
        return model.coriolis(state), model.mass(state), jacobian

    def write(self, values: Sequence[float], finished: bool = False) -> None:
        """Send set-points [7] (rad), or torques [7] (N m) where these drive the arm; `finished` ends the motion.

        Returns from that when the arm has confirmed.
        """
        command = self._library.Torques(values) if self.driven_by_torque else self._library.JointPositions(values)
        command.motion_finished = finished
        self._control.writeOnce(command)

    def diagnose(self, error: Exception) -> Trouble:
        """Say which trouble made `read` or `write` raise `error`; asks the arm for its mode (blocks at most 1.02 s)."""
        if not isinstance(error, self._library.NetworkException):
            try:
                mode = _mode(self._robot.read_once())
            except Exception:  # the library's classes share no base
                return BY_NAME["arm_silent"]
            return BY_NAME["user_stopped" if mode == "UserStopped" else "arm_error"]
        return BY_NAME["arm_silent"]

    def release(self) -> None:
        """Forget a motion that has ended in an error, so that the library can start another."""
        self._control = None

    def recover(self) -> None:
        """Ask for automatic error recovery and wait until the arm says Idle; raises ArmError after 20 s.

        An operator's act on a real arm; an emulated arm may be configured to do it by itself.
        """
        try:
            self._robot.automatic_error_recovery()
        except Exception as error:
            raise ArmError(f"the arm could not recover ({_text(error)}): clear the error in Desk") from error
        self._read_idle()  # the socket is full of states from before, which may say Idle: let them go
        deadline_s = time.monotonic() + RECOVERY_LIMIT_S
        while _mode(self._read_idle()) != "Idle":  # the first states after the answer may still say Reflex
            if time.monotonic() > deadline_s:
                raise ArmError(f"the arm is not Idle {RECOVERY_LIMIT_S:.0f} s after recovery: clear the error in Desk")

    def _read_idle(self) -> Any:
        try:
            return self._robot.read_once()
        except Exception as error:  # the library's classes share no base
            raise ArmError(
                f"the arm at {self.settings.host} sends no states ({_text(error)}): let its UDP packets through the firewall and "
                "check the cable"
            ) from error

    def _check_communication(self) -> None:
        states = self.settings.self_test_ticks
        for _ in range(SELF_TEST_TRIES):
            first = tick_of(self._read_idle())
            for _ in range(states):
                last = tick_of(self._read_idle())
            self._arrived = states / max(last - first, states)
            if self._arrived >= SELF_TEST_MIN_SHARE:
                return
        raise ArmError(
            f"only {self._arrived:.0%} of {last - first} states arrived, at least {SELF_TEST_MIN_SHARE:.0%} are needed: "
            f"{_NETWORK_REMEDY}"
        )

    def _hold(self) -> float:
        """Hold by joint positions, end the motion and return the arm's own success rate."""
        try:
            control = self._robot.start_joint_position_control(self._library.ControllerMode.JointImpedance)
            state, _ = control.readOnce()
            command = self._library.JointPositions(state.q_d)
            control.writeOnce(command)
            for _ in range(self.settings.self_test_ticks):
                state, _ = control.readOnce()
                control.writeOnce(command)
            rate = float(state.control_command_success_rate)
            control.readOnce()
            command.motion_finished = True
            control.writeOnce(command)
        except Exception as error:  # the library's classes share no base
            raise ArmError(
                f"a hold on trial ended early ({_text(error)}): look at the arm and {_NETWORK_REMEDY}"
            ) from error
        return rate


def tick_of(state: Any) -> int:
    """Return the robot tick (ms) of a vendor RobotState."""
    milliseconds: float = state.time.to_sec() * 1000.0
    return round(milliseconds)


def mode_number(state: Any) -> int:
    """Return the protocol's robot mode number of a vendor RobotState (1 idle, 2 move, 4 reflex, 5 user stopped)."""
    return int(state.robot_mode)


def _mode(state: Any) -> str:
    return str(state.robot_mode.name).removeprefix("k")


def _text(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".!")


def _leave_realtime() -> None:
    """Undo the SCHED_FIFO 99 that the library gives its constructing thread wherever it may; the servo sets its own."""
    if os.sched_getscheduler(0) != os.SCHED_OTHER:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
