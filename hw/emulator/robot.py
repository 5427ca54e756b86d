"""The emulated robot behind the network: modes, motions, reflexes and recovery, in robot time and without sockets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .arm import SimulatedArm
from .cartesian_generators import CartesianMotion, CartesianPoses, CartesianVelocities
from .cartesian_impedance import CartesianImpedance
from .commanded_pose import CommandedPose
from .commanded_torque import CommandedTorque, measured_violations
from .contact import ContactWatch
from .joint_generators import JointPositions, JointVelocities, MotionGenerator
from .joint_targets import JointTargets
from .motion_check import CommandedMotion, MotionCheck
from .posture import Posture
from .protocol import COMMAND_FIELDS, Error, MoveController, MoveGenerator, MoveStatus, RobotMode
from .tool import Tool

MISSED_COMMANDS_MAX = 20
"""The arm stops with communication_constraints_violation when this many commands in a row are missing."""

Floats = npt.NDArray[np.float64]

SUCCESS_WINDOW_TICKS = 100
CARTESIAN = (MoveGenerator.CARTESIAN_POSE, MoveGenerator.CARTESIAN_VELOCITY)


class CommandCounts:
    """What came of the commands so far: taken, lost (none in time), late (answer to an older state), invalid (not finite)."""

    def __init__(self) -> None:
        """Count from zero."""
        self.taken = 0
        self.lost = 0
        self.late = 0
        self.invalid = 0


class EmulatedRobot:
    """One FR3 as its client sees it; `advance` is one tick of 1 ms.

    `tick` is the robot time that the newest state carries as message_id. Not thread-safe; belongs to the server's loop.
    """

    def __init__(
        self,
        arm: SimulatedArm,
        recovery_delay_ticks: int = 500,
        start_grace_ticks: int = 1000,
        start_multiple_ticks: int = 1,
    ) -> None:
        """Hold `arm` where it is.

        Recovery takes `recovery_delay_ticks`. Missing commands are held against a motion from its first command on, or from
        `start_grace_ticks` after its start. Robot time jumps to a whole multiple of `start_multiple_ticks` where a motion
        starts, so that the ticks of a motion need not depend on how long its preparations took.
        """
        self.arm = arm
        self.tool = Tool(arm)
        self.contact = ContactWatch(arm, self.tool)
        self.cartesian_impedance = CartesianImpedance(arm, self.tool)
        self.motion = CommandedMotion(arm.q)
        self.torque = CommandedTorque()
        self.controller = MoveController.IDLE
        self.generator: MoveGenerator | None = None
        self.mode = RobotMode.IDLE
        self.tick = 1
        self.errors = np.zeros(41, np.uint8)
        self.reflex_reason = np.zeros(41, np.uint8)
        self.counts = CommandCounts()
        self.reflexes = 0
        self.ended: MoveStatus | None = None
        self.commanded = False
        check = MotionCheck()
        self._cartesian = CartesianMotion(self.motion, Posture(arm, self.tool))
        self._generators: dict[MoveGenerator, MotionGenerator] = {
            MoveGenerator.JOINT_POSITION: JointPositions(self.motion, check),
            MoveGenerator.JOINT_VELOCITY: JointVelocities(self.motion, check),
            MoveGenerator.CARTESIAN_POSE: CartesianPoses(self._cartesian),
            MoveGenerator.CARTESIAN_VELOCITY: CartesianVelocities(self._cartesian),
        }
        self._targets = JointTargets(self.motion)
        self._moved_by: MotionGenerator = self._targets
        self._brake_deceleration = check.acceleration_max
        self._recovery_delay_ticks = recovery_delay_ticks
        self._recovered_at = 0
        self._start_grace_ticks = start_grace_ticks
        self._start_multiple_ticks = start_multiple_ticks
        self._started_at = 0
        self._missed_in_row = 0
        self._pending: npt.NDArray[np.void] | None = None
        self._answer_lost = False
        self._window = np.zeros(SUCCESS_WINDOW_TICKS, np.uint8)

    @property
    def moving(self) -> bool:
        """Whether a client's motion runs."""
        return self.mode is RobotMode.MOVE

    @property
    def driven_by_torque(self) -> bool:
        """Whether a client's own controller moves the arm."""
        return self.controller is MoveController.EXTERNAL

    @property
    def streamed(self) -> bool:
        """Whether a motion runs whose client has to answer every state; a client of an asynchronous one does not."""
        return self.moving and (self.driven_by_torque or self._moved_by is not self._targets)

    @property
    def commanded_pose(self) -> CommandedPose | None:
        """What the end effector is commanded to in a Cartesian motion; None in any other."""
        return self._cartesian.pose if self.generator in CARTESIAN else None

    @property
    def first_state_of_motion(self) -> bool:
        """Whether the newest state is the one in which the modes switched; a client does not answer it."""
        return self.moving and self.tick <= self._started_at

    @property
    def settled(self) -> bool:
        """Whether the robot is idle and stands still, so that a motion can begin."""
        return self.mode is RobotMode.IDLE and self.motion.at_rest

    @property
    def answered(self) -> bool:
        """Whether nothing is left to wait for: the answer to the newest state is here, or cannot come."""
        return self._pending is not None or self._answer_lost

    @property
    def success_rate(self) -> float:
        """Share of the last 100 ticks with an accepted command; 0 when no motion runs."""
        return float(self._window.mean()) if self.moving else 0.0

    def begins_at_singularity(self, generator: MoveGenerator) -> bool:
        """Tell whether a motion by `generator` cannot begin where the arm is, because the end effector is at a singular pose."""
        return generator in CARTESIAN and self._cartesian.at_singularity

    def begin_motion(
        self,
        controller: MoveController = MoveController.JOINT_IMPEDANCE,
        generator: MoveGenerator = MoveGenerator.JOINT_POSITION,
        target_velocity_max: Floats | None = None,
    ) -> None:
        """Enter a motion with the next state; the robot must be settled.

        JOINT_IMPEDANCE and CARTESIAN_IMPEDANCE take what `generator` names and follow it by a law of the arm's own, EXTERNAL takes
        torques, generator NONE.
        With `target_velocity_max` [7] (rad/s) joint positions are asynchronous: targets that the arm makes its own way to.
        """
        self.mode = RobotMode.MOVE
        self.controller, self.generator = controller, generator
        if self.driven_by_torque:
            self.torque.begin()
        else:
            self._moved_by = self._generators[generator]
            if target_velocity_max is not None:
                self._targets.limit(target_velocity_max)
                self._moved_by = self._targets
            self._moved_by.begin()
        self.reflex_reason[:] = 0
        self.ended = None
        self.commanded = False
        self._pending = None
        self._missed_in_row = 0
        self._started_at = -(-(self.tick + 1) // self._start_multiple_ticks) * self._start_multiple_ticks
        self.tick = self._started_at - 1
        self._window[:] = 0

    def preempt(self) -> None:
        """End a running motion as StopMove and a lost connection do: the arm brakes by itself."""
        if self.moving:
            self._end(MoveStatus.PREEMPTED)

    def lose_answer(self) -> None:
        """Do not wait for an answer to the newest state: state or answer got lost on the way."""
        self._answer_lost = True

    def stop_by_reflex(self, error: Error) -> None:
        """Stop with `error` as if the arm itself had found it; an arm that is stopped already stays as it is."""
        if self.mode in (RobotMode.IDLE, RobotMode.MOVE):
            self._reflex([error])

    def set_user_stop(self, pressed: bool) -> None:
        """Press or release the user stop; released, the arm is idle, or still in the reflex it had before."""
        if pressed:
            self._end(MoveStatus.EMERGENCY_ABORTED)
            self.mode = RobotMode.USER_STOPPED
        elif self.mode is RobotMode.USER_STOPPED:
            self.mode = RobotMode.REFLEX if self.errors.any() else RobotMode.IDLE

    def receive(self, command: npt.NDArray[np.void]) -> None:
        """Take in one COMMAND record; where the motion is streamed, only an answer to the newest state counts."""
        if self.generator is None or (self.streamed and int(command["message_id"]) != self.tick):
            self.counts.late += 1
        elif not (np.isfinite(command[COMMAND_FIELDS[self.generator]]).all() and np.isfinite(command["elbow_c"]).all()):
            self.counts.invalid += 1
        else:
            self._pending = command

    def recover(self) -> bool:
        """Start automatic recovery from a reflex, or return False where it is not possible."""
        if self.mode is RobotMode.REFLEX:
            self.mode = RobotMode.AUTOMATIC_RECOVERY
            self._recovered_at = self.tick + self._recovery_delay_ticks
        return self.mode in (RobotMode.IDLE, RobotMode.AUTOMATIC_RECOVERY)

    def advance(self) -> None:
        """Live through one tick: follow the command or brake, simulate, feel for contacts."""
        self._answer_lost = False
        if self.driven_by_torque:
            self._follow_torque()
        elif self.moving:
            self._follow()
        elif not self.motion.at_rest:
            self.motion.brake(self._brake_deceleration)
        if self.driven_by_torque:
            self.arm.advance_by_torque(self.torque.tau)
            self.motion.accompany(self.arm.q, self.arm.dq)
        elif self.controller is MoveController.CARTESIAN_IMPEDANCE:
            self.arm.advance_under(self.cartesian_impedance.torque(self.motion))
        else:
            self.arm.advance(self.motion.q, self.motion.dq, self.motion.ddq)
        self.tick += 1
        self.contact.update(accelerating=bool(self.motion.ddq.any()))
        if self.moving and (collisions := self.contact.collisions):
            self.motion.give_way(self.arm.q)
            self._reflex(collisions)
        if self.mode is RobotMode.AUTOMATIC_RECOVERY and self.tick >= self._recovered_at and self.motion.at_rest:
            self.errors[:] = 0
            self.mode = RobotMode.IDLE

    def _next_command(self) -> npt.NDArray[np.void] | None:
        """Return the command of this tick, or live through it without one and return None."""
        command, self._pending = self._pending, None
        if not self.streamed:
            if command is None:
                self._moved_by.proceed()
            return command
        self._window[self.tick % SUCCESS_WINDOW_TICKS] = command is not None
        if command is None:
            self._miss()
        return command

    def _took(self) -> None:
        self.commanded = True
        self._missed_in_row = 0
        self.counts.taken += 1

    def _follow_torque(self) -> None:
        """Take the next torque, or keep the last one where it is lost; an arm whose motion ends here brakes by its own law."""
        command = self._next_command()
        violations = measured_violations(self.arm.q, self.arm.dq) if self.moving else []
        if command is not None:
            violations += self.torque.violations(command["tau_J_d"])
        if violations:
            self._reflex(violations)
        elif command is not None:
            self._took()
            self.torque.take(command["tau_J_d"])
            if command["torque_command_finished"]:
                self._end(MoveStatus.SUCCESS)
        if not self.moving:
            self.motion.brake(self._brake_deceleration)

    def _follow(self) -> None:
        """Follow the next command, or go on without one; an arm that refuses it or has waited too long brakes instead."""
        command = self._next_command()
        if command is None:
            if not self.moving:
                self.motion.brake(self._brake_deceleration)
        elif violations := self._moved_by.follow(command, first=not self.commanded):
            self._reflex(violations)
            self.motion.brake(self._brake_deceleration)
        else:
            self._took()
            if command["motion_generation_finished"]:
                self._end(MoveStatus.SUCCESS)

    def _miss(self) -> None:
        if not self.commanded and self.tick - self._started_at < self._start_grace_ticks:
            return
        self.counts.lost += 1
        self._missed_in_row += 1
        if self._missed_in_row >= MISSED_COMMANDS_MAX:
            self._reflex([Error.COMMUNICATION_CONSTRAINTS])
        elif not self.driven_by_torque:
            self._moved_by.proceed()

    def _reflex(self, errors: Sequence[Error]) -> None:
        for error in errors:
            self.errors[error] = self.reflex_reason[error] = 1
        self.reflexes += 1
        self._end(MoveStatus.REFLEX_ABORTED)
        self.mode = RobotMode.REFLEX

    def _end(self, status: MoveStatus) -> None:
        self.mode = RobotMode.IDLE
        self.controller, self.generator = MoveController.IDLE, None
        self.ended = status
        self._pending = None
