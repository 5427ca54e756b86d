"""The adversary between an emulated arm and its client: it does to arm and datagrams what a fault script says."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence

import numpy as np

from poco.clock import TICKS_PER_SECOND
from poco.limits import JOINTS

from ..fault_script import (
    Delay,
    Drop,
    Entry,
    Fault,
    NotFinite,
    Push,
    Reflex,
    ReflexName,
    Reorder,
    SecondClient,
    Silence,
    StaleAfterRecovery,
    Stall,
    UserStop,
)
from .protocol import ARM_PORT, HEADER, PAYLOADS, PROTOCOL_VERSION, STATE, Command, Error, RobotMode, request_size
from .robot import EmulatedRobot

INTRUSION_TICKS = 100
"""So long a second client stays."""

Packet = bytes | memoryview

REFLEXES: dict[ReflexName, Error] = {
    "joint_reflex": Error.JOINT_REFLEX,
    "cartesian_reflex": Error.CARTESIAN_REFLEX,
    "joint_motion_generator_velocity_discontinuity": Error.JOINT_VELOCITY_DISCONTINUITY,
    "joint_motion_generator_acceleration_discontinuity": Error.JOINT_ACCELERATION_DISCONTINUITY,
    "communication_constraints_violation": Error.COMMUNICATION_CONSTRAINTS,
    "power_limit_violation": Error.POWER_LIMIT,
}


class Channel:
    """One direction of datagrams: what goes in comes out now, later, in another order or never."""

    def __init__(self) -> None:
        """Let everything through."""
        self._faults: list[Drop | Delay | Reorder] = []
        self._delayed: list[tuple[int, Packet]] = []
        self._overtaken: list[Packet] = []

    def disturb(self, fault: Drop | Delay | Reorder) -> None:
        """Do `fault` to the next datagrams, after what is to be done already."""
        self._faults += [fault] * fault.count

    def through(self, packet: Packet, tick: int) -> list[Packet]:
        """Return what comes out, in order, where `packet` goes in at `tick`."""
        out = [kept for due, kept in self._delayed if due <= tick]
        self._delayed = [(due, kept) for due, kept in self._delayed if due > tick]
        fault = self._faults.pop(0) if self._faults else None
        match fault:
            case Delay(ticks=ticks):
                self._delayed.append((tick + ticks, bytes(packet)))
            case Reorder():
                self._overtaken.append(bytes(packet))
            case None:
                out += [packet, *self._overtaken]
                self._overtaken.clear()
        return out


class Adversary:
    """Makes an EmulatedRobot and its datagrams suffer the entries it was last given; belongs to the server's loop."""

    def __init__(self, robot: EmulatedRobot, host: str) -> None:
        """Be ready to disturb `robot`, which listens on `host`."""
        self.injected = 0
        self._robot = robot
        self._host = host
        self._states, self._commands = Channel(), Channel()
        self._random = np.random.default_rng(0)
        self._scheduled: list[tuple[int, Fault]] = []
        self._rates: list[tuple[float, Fault]] = []
        self._started = True
        self._tick = 0
        self._silent_until = -1
        self._pushed_until = -1
        self._force_n = np.zeros(3)
        self._not_finite: list[str] = []
        self._stale_after_recovery = 0
        self._stale_states = 0
        self._last_mode = robot.mode
        self._intruder: socket.socket | None = None
        self._intruder_leaves = 0

    def follow(self, entries: Sequence[Entry], seed: int, *, from_motion: bool = False) -> None:
        """Follow `entries` instead of what was left of the last ones; `seed` decides the random part.

        `at` counts the ticks that the arm lives through from now on, or, with `from_motion`, from the start of its next motion.
        """
        self._random = np.random.default_rng(seed)
        self._scheduled = [(entry.at, entry.fault) for entry in entries if entry.at is not None]
        self._rates = [(entry.rate, entry.fault) for entry in entries if entry.rate is not None]
        self._tick, self._started = 0, not from_motion
        self._silent_until = -1

    def advance(self) -> None:
        """Begin a tick: do what is due now."""
        self._started = self._started or self._robot.moving
        if not self._started:
            return
        due = [fault for tick, fault in self._scheduled if tick <= self._tick]
        self._scheduled = [(tick, fault) for tick, fault in self._scheduled if tick > self._tick]
        if self._robot.moving:
            due += [fault for rate, fault in self._rates if self._random.random() < rate]
        for fault in due:
            self._inject(fault)
        if self._tick == self._intruder_leaves:
            self.close()
        self._push()
        self._tick += 1

    def outgoing(self, state: memoryview) -> list[Packet]:
        """Return the datagrams that leave the arm in this tick, where `state` should; the newest is unchanged `state` itself."""
        recovered = self._robot.mode is RobotMode.IDLE and self._last_mode in (
            RobotMode.REFLEX,
            RobotMode.AUTOMATIC_RECOVERY,
        )
        self._last_mode = self._robot.mode
        if recovered:
            self._stale_states, self._stale_after_recovery = self._stale_after_recovery, 0
        if self._tick <= self._silent_until:
            return []
        return self._states.through(self._falsified(state), self._tick)

    def incoming(self, command: bytes) -> list[Packet]:
        """Return the command datagrams that reach the arm now that `command` does."""
        return self._commands.through(command, self._tick)

    def close(self) -> None:
        """Close the second client's connection, if there is one."""
        if self._intruder is not None:
            self._intruder.close()
            self._intruder = None

    def _inject(self, fault: Fault) -> None:
        self.injected += 1
        match fault:
            case Drop(what="states") | Delay(what="states") | Reorder(what="states"):
                self._states.disturb(fault)
            case Drop() | Delay() | Reorder():
                self._commands.disturb(fault)
            case Silence(ticks=ticks):
                self._silent_until = self._tick + ticks
            case Stall(milliseconds=milliseconds):
                time.sleep(milliseconds / TICKS_PER_SECOND)
            case Reflex(error=name):
                self._robot.stop_by_reflex(REFLEXES[name])
            case UserStop(pressed=pressed):
                self._robot.set_user_stop(pressed)
            case NotFinite(field=field, count=count):
                self._not_finite += [field] * count
            case StaleAfterRecovery(count=count):
                self._stale_after_recovery = count
            case SecondClient():
                self._intrude()
            case Push(force_n=force_n, ticks=ticks):
                self._force_n[:] = force_n
                self._pushed_until = self._tick + ticks

    def _push(self) -> None:
        """Let the force of a push act where the end effector is now."""
        arm = self._robot.arm
        if self._tick < self._pushed_until:
            arm.push[:] = self._force_n @ arm.translation_jacobian(self._robot.tool.O_T_EE[:3, 3])
        elif self._tick == self._pushed_until:
            arm.push[:] = 0.0

    def _falsified(self, state: memoryview) -> Packet:
        if not self._stale_states and not self._not_finite:
            return state
        record = np.frombuffer(bytearray(state), STATE)
        if self._stale_states:
            self._stale_states -= 1
            record["robot_mode"] = RobotMode.REFLEX
        if self._not_finite:
            record[self._not_finite.pop(0)][0, self._random.integers(JOINTS)] = np.nan
        return record.tobytes()

    def _intrude(self) -> None:
        self.close()
        self._intruder_leaves = self._tick + INTRUSION_TICKS
        self._intruder = socket.create_connection((self._host, ARM_PORT), timeout=1.0)
        header = np.array((Command.CONNECT, 0, request_size(Command.CONNECT)), HEADER)
        self._intruder.sendall(header.tobytes() + np.array((PROTOCOL_VERSION, 9), PAYLOADS[Command.CONNECT]).tobytes())
