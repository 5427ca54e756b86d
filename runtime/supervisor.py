"""The supervisor: starts the servo first and stops it last, restarts the policy, records ticks, stops the arm on Ctrl-C."""

from __future__ import annotations

import os
import re
import signal as signals
import time
from dataclasses import replace
from functools import partial
from types import FrameType

import numpy as np
import numpy.typing as npt

from poco.clock import monotonic_ns
from poco.errors import ArmError, PocoError
from poco.frames import FrameRing, ring_name
from poco.hw.task_driver import EMULATOR
from poco.hw.task_signals import EmulatorSignals
from poco.runtime.child import Child
from poco.runtime.companion import Companion
from poco.runtime.console import TerminalKeys
from poco.runtime.entrance import Entrance
from poco.runtime.events import noted
from poco.runtime.eyes import cameras_of
from poco.runtime.policy_watch import STALL_S, START_LIMIT_S, PolicyWatch, start_limit_s
from poco.runtime.recorder import TickRecorder
from poco.runtime.recoveries import Recoveries
from poco.runtime.run_folder import Dilation, Event, Fault, Hold, Recovery, Reflex, RunFolder, SupervisorStall
from poco.runtime.run_options import RunOptions
from poco.runtime.status import Status
from poco.service_manager import ServiceManager
from poco.settings import CameraSettings
from poco.shm import RunMemory
from poco.trouble import BY_NAME, TROUBLES, Grade, Request, describe

BEAT_S = 0.02
STOP_LIMIT_S = 15.0
SETTLE_S = 1.0
LINK_END_LIMIT_S = 5.0
DILATION_S = 1.0
DILATION_REPLY_S = 0.5
INTERRUPTED_EXIT = 130
STOP_SIGNALS = (signals.SIGINT, signals.SIGTERM, signals.SIGHUP)


class _LeftEarly(Exception):
    """The run is to end before its motion has begun."""


class Supervisor:
    """One run from start to stop; lives in the process that the user started."""

    def __init__(
        self, options: RunOptions, folder: RunFolder, memory: RunMemory, status: Status, keys: TerminalKeys | None
    ) -> None:
        self.options, self.memory, self.status, self._keys = options, memory, status, keys
        self._entrance = Entrance(options.run_name, f"supervisor-{options.boot_epoch}")
        self.folder = replace(folder, events_to=self._journal)
        self.interrupted = False
        self._recorder = TickRecorder(folder, options.keep_minutes)
        self._children: list[Child] = []
        self._servo: Child | None = None
        self._in_motion = False
        self._failure: PocoError | None = None
        self._looked_ns, self._stood_still_s, self._ticks_dropped = 0, 0.0, 0
        self._recoveries = Recoveries(options.settings.robot)
        self._reflex_errors: frozenset[str] = frozenset()
        self._next_dilation_s = 0.0
        self._emulator: EmulatorSignals | None = None
        self._companions: list[Companion] = []
        self._rings: list[FrameRing] = []
        self._manager, self._answered_tick = ServiceManager(), 0

    def run(self) -> int:
        """Run all episodes and return the exit code; raises PocoError if a process cannot start or a fault stays."""
        previous = {number: signals.signal(number, self._interrupt) for number in STOP_SIGNALS if _heeded(number)}
        try:
            self._supervise(self._bring_up())
        except _LeftEarly:
            pass
        except OSError as error:
            self._fail(error)
        finally:
            self._stop_all()
            for number, handler in previous.items():
                signals.signal(number, handler)
        if self._failure is not None:
            raise self._failure
        return INTERRUPTED_EXIT if self.interrupted else 0

    def _bring_up(self) -> PolicyWatch:
        """Start every process and let the motion begin."""
        if self.options.settings.robot.kind == "sim":
            self._start_emulator()
        link = Companion(lambda: self._start("link"), self.status.note, "the journal waits in memory")
        self._companions.append(link)
        link.child.wait_for("ready", START_LIMIT_S, self._beat_or_leave)
        if self.options.swaps:
            gate = Companion(lambda: self._start("gate"), self.status.note, "no new policy is taken")
            self._companions.append(gate)
        if self.options.compiles:
            compiler = Companion(lambda: self._start("compiler"), self.status.note, "weights stay inputs")
            self._companions.append(compiler)
        if self.options.specification().grips:
            self._start_gripper()
        for camera in cameras_of(self.options.cameras(), self.options.settings.cameras):
            self._start_camera(camera)
        self.status.note("starting servo and policy; the very first start compiles for about 20 s")
        servo = self._start("servo", module="polymetis.bridge" if self._behind_polymetis else "")
        silence_s = self.options.settings.servo.policy_silence_s
        start, limit_s = (
            partial(self._start, module="guided" if self.options.guided else ""),
            start_limit_s(self.options),
        )
        policy = PolicyWatch(start, self.folder, self.memory, self.status, silence_s, limit_s)
        arm, keeps_time, missing = servo.wait_for("ready", START_LIMIT_S, self._beat_or_leave).partition("|")
        self.status.note(arm)
        if keeps_time:
            self.status.realtime(missing)
        if computed_by := policy.child.wait_for("ready", limit_s, self._beat_or_leave):
            self.status.note(f"the policy is computed by {computed_by}")
        if self.options.settings.task.sensors.startswith(EMULATOR):
            address = self.options.settings.task.sensors.removeprefix(EMULATOR)
            self._emulator = EmulatorSignals(address, DILATION_REPLY_S)
        arm_silence_s = self._silence_s()
        self._servo, self._in_motion = servo, True
        self.memory.set_request(Request.ARMED)
        self._typed()  # before anything could move
        servo.say(f"go {arm_silence_s}")
        policy.go()
        self._manager.ready("the arm is in motion or held")
        return policy

    @property
    def _behind_polymetis(self) -> bool:
        return self.options.settings.robot.kind == "polymetis"

    def _supervise(self, policy: PolicyWatch) -> None:
        while not self.interrupted and self._failure is None:
            self._look_around()
            for line in self._typed():
                policy.child.say(line)
            if policy.done:
                return
            if reason := policy.look():
                policy.restart(reason, self._pause)
        if self.interrupted:
            self.status.note("stopping: the arm brakes first")

    def _look_around(self) -> None:
        self._beat()
        self._entrance.pump()
        self._notice_own_stall()
        for companion in self._companions:
            companion.look()
        self._watch_servo()
        self._tell_manager()
        self._watch_dilation()
        time.sleep(BEAT_S)

    def _typed(self) -> list[str]:
        """Return what was typed since the last call, for the policy process."""
        return [] if self._keys is None else self._keys.lines()

    def _tell_manager(self) -> None:
        """Pass a sign of life on to the service manager, only after a tick that the servo has answered."""
        state = self.memory.read_state()
        if state is not None and int(state["tick"]) > self._answered_tick:
            self._answered_tick = int(state["tick"])
            self._manager.alive()

    def _pause(self, pause_s: float) -> None:
        until_s = time.monotonic() + pause_s
        while time.monotonic() < until_s and not self.interrupted and self._failure is None:
            self._look_around()

    def _notice_own_stall(self) -> None:
        now_ns, before_ns = monotonic_ns(), self._looked_ns
        self._looked_ns = now_ns
        dropped = int(self.memory.control()["ticks_dropped"])
        lost, self._ticks_dropped = dropped - self._ticks_dropped, dropped
        if before_ns == 0 or now_ns - before_ns < STALL_S * 1e9:
            return
        self._stood_still_s = (now_ns - before_ns) / 1e9
        self.status.note(f"this supervisor stood still for {self._stood_still_s:.1f} s")
        tick = int(self.memory.control()["tick"])
        self.folder.append_event(SupervisorStall(tick=tick, silent_s=round(self._stood_still_s, 3), ticks_dropped=lost))

    def _beat(self) -> None:
        """Tell the servo that somebody is there, put its ticks and stops on disk; never raises, `_failure` ends the run."""
        self.memory.beat()
        if self._failure is not None:
            return
        try:
            ticks = self.memory.drain_ticks()
            if len(ticks):
                self._recorder.add(ticks)
                self.status.add(ticks)
                self._log_holds(ticks)
            self._log_stops()
            self.status.show(self.memory)
        except OSError as error:
            self._fail(error)

    def _beat_or_leave(self) -> None:
        self._beat()
        if self.interrupted or self._failure is not None:
            raise _LeftEarly

    def _fail(self, error: OSError) -> None:
        self._failure = self._failure or PocoError(
            f"the run cannot be recorded in {self.folder.path} ({error.strerror}): free space there or choose another --out"
        )

    def _watch_servo(self) -> None:
        if self._servo is not None and not self._servo.running:
            raise self._abandoned() if self._servo.process.returncode == 0 else self._servo.error()
        state = self.memory.read_state()
        if state is None or int(state["fault"]) == 0:
            self._recoveries.well()
            self._reflex_errors = frozenset()
            return
        trouble = TROUBLES[int(state["fault"])]
        if not self._recoveries.noticed:
            self.folder.append_event(Fault(tick=int(state["tick"]), code=trouble.code, text=describe(trouble.code)))
        if self._recoveries.due(trouble, self._reflex_errors, time.monotonic()):
            self.memory.recover()
            self.folder.append_event(Recovery(tick=int(state["tick"]), automatic=True))

    def _abandoned(self) -> PocoError:
        hold_s = self.options.settings.servo.orphan_hold_s
        return PocoError(
            f"the supervisor stood still for {self._stood_still_s:.1f} s, the arm is held for servo.orphan_hold_s ({hold_s:g} s) "
            "without one: the servo has ended the motion at rest, start the run again"
        )

    def _silence_s(self) -> float:
        """Return how long the arm may be silent in a motion (s), 0 for an arm in lockstep, which waits for the policy."""
        patience = self.options.settings.servo
        if self._behind_polymetis and self._emulator is None:
            return self.options.settings.polymetis.silence_s
        match self._emulator and self._emulator.status().pacing:
            case "lockstep":
                return 0.0
            case "realtime":
                return patience.emulated_silence_s
        return patience.silence_s

    def _watch_dilation(self) -> None:
        """Once a second ask an emulated arm how far its time has fallen behind the wall clock."""
        if self._emulator is None or time.monotonic() < self._next_dilation_s:
            return
        self._next_dilation_s = time.monotonic() + DILATION_S
        try:
            status = self._emulator.status()
        except ArmError as error:
            self.status.note(f"dilation is no longer reported: {error}")
            self._emulator = None
            return
        self.folder.append_event(
            Dilation(tick=status.tick, total_s=status.dilation_ns / 1e9, longest_s=status.longest_dilation_ns / 1e9)
        )

    def _log_stops(self) -> None:
        for line in self._servo.lines() if self._servo else ():
            if line.startswith("stopped"):
                self.status.note(line)
                if errors := re.findall(r'"([a-z_]+)"', line):
                    self._reflex_errors = frozenset(errors)
                    self.folder.append_event(Reflex(tick=int(self.memory.control()["tick"]), errors=errors))

    def _log_holds(self, ticks: npt.NDArray[np.void]) -> None:
        events = ticks["command"]["event"]
        for row in np.flatnonzero(events):
            trouble = TROUBLES[int(events[row])]
            if trouble.grade == Grade.HOLDING and trouble != BY_NAME["chunk_ended"]:
                tick = int(ticks["state"]["tick"][row])
                self.folder.append_event(Hold(tick=tick, code=trouble.code, text=describe(trouble.code)))

    def _start(self, name: str, *arguments: str, module: str = "") -> Child:
        options = str(self.folder.path / "options.json")
        words = ["--options", options, *arguments]
        child = Child(name, f"poco.runtime.{module or name}", words, self.folder.path)
        self._children.append(child)
        return child

    def _start_camera(self, camera: CameraSettings) -> None:
        """Make room for the frames of `camera` and start its process; what dies is started again and finds the same room."""
        name = camera.name
        self._rings.append(FrameRing(ring_name(self.options.run_name, name), (camera.height, camera.width)))
        process = Companion(
            lambda: self._start(f"camera-{name}", "--camera", name, module="camera"),
            self.status.note,
            f"camera {name} shows nothing",
        )
        self._companions.append(process)
        process.child.wait_for("ready", START_LIMIT_S, self._beat_or_leave)

    def _start_gripper(self) -> None:
        """Start the gripper's process and let it home; one that is started again does not, so that it drops nothing."""
        words: list[str] = []

        def start() -> Child:
            child = self._start("gripper", *words)
            words[:] = ["--again"]
            return child

        self.status.note("the gripper gets ready")
        gripper = Companion(start, self.status.note, "the gripper is not moved")
        self._companions.append(gripper)
        gripper.child.wait_for("ready", START_LIMIT_S, self._beat_or_leave)

    def _start_emulator(self) -> None:
        """Start the emulated arm as a program of its own; nothing of it is imported."""
        emulator, host = self.options.settings.emulator, self.options.settings.robot.host
        arguments = ["--host", host, "--pacing", emulator.pacing, "--task", emulator.task]
        arguments += ["--clearance-mm", str(emulator.clearance_mm), "--seed", str(self.options.seed)]
        arguments += ["--recovery-delay-s", str(emulator.recovery_delay_s), "--exit-with-parent", str(os.getpid())]
        child = Child("emulator", "poco.hw.emulator", arguments, self.folder.path)
        self._children.append(child)
        child.wait_for("poco-emulator ready", START_LIMIT_S, self._beat_or_leave)

    def _stop_all(self) -> None:
        """Brake and end the motion, then end the processes, the servo before the arm it talks to."""
        self._manager.stopping()
        self.memory.set_request(Request.STOP)
        by_name = {child.name: child for child in self._children}
        deadline_s = time.monotonic() + (STOP_LIMIT_S if self._in_motion else 0.0)
        servo = by_name.get("servo")
        while servo is not None and servo.running and time.monotonic() < deadline_s:
            self._beat()
            time.sleep(BEAT_S)
        cameras = [name for name in by_name if name.startswith("camera-")]
        for name in ("policy", "gate", "compiler", "servo", "gripper", *cameras, "emulator"):
            if name in by_name:
                by_name[name].end()
        for ring in self._rings:
            ring.unlink()
        self._beat()
        if (link := by_name.get("link")) is not None:
            self._entrance.settle(SETTLE_S if link.running else 0.0)
            link.end(LINK_END_LIMIT_S)
        self._recorder.close()
        self.status.close(self.memory)

    def _journal(self, event: Event) -> None:
        state = self.memory.read_state()
        record = noted(event, 0 if state is None else int(state["generation"]))
        if record is not None:
            self._entrance.offer(record)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.interrupted = True
        self.memory.set_request(Request.STOP)


def _heeded(number: signals.Signals) -> bool:
    """Tell whether a signal ends the run; a hang-up that was set to be ignored (nohup) does not."""
    return number != signals.SIGHUP or signals.getsignal(number) != signals.SIG_IGN
