"""The arm with its task in one process: what `rollout.Rollout` drives in the environment instead of servo and network."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from poco import _core
from poco.limits import JOINTS
from poco.records import ARM_STATE, COMMAND, ROBOT_STATE, TaskSignal
from poco.trouble import Request

from ..arm import SimulatedArm
from ..contact import ContactWatch
from ..motion_check import CommandedMotion
from ..protocol import RobotMode
from ..tool import Tool
from .hand import TaskHand

Floats = npt.NDArray[np.float64]
Record = npt.NDArray[np.void]

_MEASURED = ("q", "dq", "tau", "tau_ext")
_COMMANDED = ("q", "dq", "ddq")


class Task(Protocol):
    """What goes on around the arm of its scene; torques [7] and forces [6] (N, N m) above its thresholds are a collision."""

    arm: SimulatedArm
    collision_torque_nm: tuple[float, ...]
    collision_force_n: tuple[float, ...]

    def place(self, seed: int) -> None:
        """Put the objects where `seed` (>= 0) says."""
        ...

    def signal(self, tick: int) -> TaskSignal:
        """Return what the sensor sees in robot tick `tick`."""
        ...


class SimulatedPlant:
    """Ticks like the robot path: state of tick k, rounded as on the wire -> `step` -> command -> physics -> state k + 1.

    A collision ends the motion as the arm's reflex does and latches the servo's fault. One process, one thread.
    """

    def __init__(self, task: Task, limits: Record, hand: TaskHand | None = None) -> None:
        """Drive the arm of `task`, and its `hand` if it has one, under `limits` (a LIMITS record with the margins of `step`).

        The collision thresholds are the same in both phases of a motion, so the phase does not matter here.
        """
        self.task = task
        self._arm, self._hand = task.arm, hand
        self._limits = limits
        self._contact = ContactWatch(task.arm, Tool(task.arm))
        for phase in ("acceleration", "nominal"):
            self._contact.thresholds[f"upper_torque_{phase}"] = task.collision_torque_nm
            self._contact.thresholds[f"upper_force_{phase}"] = task.collision_force_n
        self._arm_state = np.zeros((), ARM_STATE)
        self._robot_state = np.zeros((), ROBOT_STATE)
        self._command = np.zeros((), COMMAND)
        self._wire = np.zeros(JOINTS, np.float32)
        self.reset(np.array(task.arm.q))

    def reset(self, q: Floats) -> None:
        """Teleport the arm to `q` [7] (rad) at rest, open the hand and start a new servo at tick 0."""
        self._arm.reset(q)
        if self._hand is not None:
            self._hand.reset()
        self._motion = CommandedMotion(q)
        arm, motion = self._arm, self._motion
        self._fields = {
            "q": arm.q,
            "dq": arm.dq,
            "tau": arm.tau,
            "tau_ext": arm.tau_ext,
            "q_d": motion.q,
            "dq_d": motion.dq,
            "ddq_d": motion.ddq,
        }
        self._memory = _core.Memory()
        self._newest: Record | None = None
        self._reflex = False
        self._tick = -1

    @property
    def tick(self) -> int:
        """The robot tick that was commanded last, -1 before the first."""
        return self._tick

    @property
    def reflex(self) -> bool:
        """Whether a collision has ended the motion since `reset`."""
        return self._reflex

    def publish(self, spline: Record) -> None:
        """Offer a CHUNK_SPLINE record to the servo."""
        self._newest = spline

    def signal(self) -> TaskSignal:
        """Return the task signal of the current tick."""
        return self.task.signal(self._tick)

    def wait(self, tick: int) -> Record:
        """Run until `tick` has been commanded; return the ROBOT_STATE record."""
        while self._tick < tick:
            self._live()
        return self.report()

    def _live(self) -> None:
        """One tick: let the last command act, then answer the new state."""
        if self._tick >= 0:
            self._act()
        self._tick += 1
        self._sense()
        _core.step(self._arm_state, self._newest, Request.ARMED, self._limits, self._memory, self._command)

    def _act(self) -> None:
        arm, motion = self._arm, self._motion
        if not self._reflex:
            q = self._command["q"]
            motion.take(q, *motion.differentiate(q))
        if self._hand is not None:
            self._hand.advance(self._tick, int(self._command["chunk_id"]), self._newest)
        arm.advance(motion.q, motion.dq, motion.ddq)
        self._contact.update(accelerating=False)
        if not self._reflex and self._contact.collisions:
            self._reflex = True
            motion.give_way(arm.q)

    def _sense(self) -> None:
        state, wire = self._arm_state, self._wire
        state["tick"] = self._tick
        for name, value in self._fields.items():
            wire[:] = value
            state[name] = wire
        state["robot_mode"] = RobotMode.REFLEX if self._reflex else RobotMode.MOVE
        state["errors"] = self._reflex

    def report(self) -> Record:
        """Return the ROBOT_STATE record of the current tick, a copy."""
        report, state, command = self._robot_state, self._arm_state, self._command
        report["tick"] = self._tick
        for name in _MEASURED:
            report[name] = state[name]
        for name in _COMMANDED:
            report[f"{name}_c"] = command[name]
        report["O_T_EE"] = self._arm.O_T_EE.astype(np.float32).T.ravel()
        for name in ("chunk_id", "generation", "mode", "fault"):
            report[name] = command[name]
        if self._hand is not None:
            report["gripper_width"] = self._hand.width_m
        return report.copy()
