"""The supervisor: starts the servo first and stops it last, restarts the policy, records ticks, stops the arm on Ctrl-C."""

from __future__ import annotations

import os
import re
import signal as signals
import time
from dataclasses import replace
from types import FrameType

import numpy as np
import numpy.typing as npt

from poco.errors import ArmError, FaultError, PocoError
from poco.hw.task_driver import EMULATOR
from poco.hw.task_signals import EmulatorSignals
from poco.runtime.child import Child
from poco.runtime.companion import Companion
from poco.runtime.entrance import Entrance
from poco.runtime.events import noted
from poco.runtime.recorder import TickRecorder
from poco.runtime.run_folder import Dilation, Event, Fault, Hold, Recovery, Reflex, RunFolder
from poco.runtime.run_options import RunOptions
from poco.runtime.status import Status
from poco.shm import RunMemory
from poco.trouble import BY_NAME, TROUBLES, Grade, Request, describe

BEAT_S = 0.02
START_LIMIT_S = 120.0
STOP_LIMIT_S = 15.0
SETTLE_S = 1.0
LINK_END_LIMIT_S = 5.0
RECOVERY_DELAY_S = 0.5
RECOVERY_RETRY_S = 5.0
MAX_RECOVERIES = 5
DILATION_S = 1.0
DILATION_REPLY_S = 0.5
MAX_RESTARTS = 3
INTERRUPTED_EXIT = 130
STOP_SIGNALS = (signals.SIGINT, signals.SIGTERM, signals.SIGHUP)


class _LeftEarly(Exception):
    """The run is to end before its motion has begun."""


class Supervisor:
    """One run from start to stop; lives in the process that the user started."""

    def __init__(self, options: RunOptions, folder: RunFolder, memory: RunMemory, status: Status) -> None:
        self.options, self.memory, self.status = options, memory, status
        self._entrance = Entrance(options.run_name, f"supervisor-{options.boot_epoch}")
        self.folder = replace(folder, events_to=self._journal)
        self.interrupted = False
        self._recorder = TickRecorder(folder, options.keep_minutes)
        self._children: list[Child] = []
        self._servo: Child | None = None
        self._in_motion = False
        self._failure: PocoError | None = None
        self._restarts = 0
        self._fault_seen_s, self._recover_at_s, self._recoveries = 0.0, 0.0, 0
        self._next_dilation_s = 0.0
        self._emulator: EmulatorSignals | None = None
        self._companions: list[Companion] = []

    def run(self) -> int:
        """Run all episodes and return the exit code; raises PocoError if a process cannot start or a fault stays."""
        previous = {number: signals.signal(number, self._interrupt) for number in STOP_SIGNALS if _heeded(number)}
        try:
            policy = self._bring_up()
            self._supervise(policy)
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

    def _bring_up(self) -> Child:
        """Start every process, let the motion begin and return the policy process."""
        if self.options.settings.robot.kind == "sim":
            self._start_emulator()
        link = Companion(lambda: self._start("link"), self.status.note, "the journal waits in memory")
        self._companions.append(link)
        link.child.wait_for("ready", START_LIMIT_S, self._beat_or_leave)
        if self.options.swaps:
            gate = Companion(lambda: self._start("gate"), self.status.note, "no new policy is taken")
            self._companions.append(gate)
        self.status.note("starting servo and policy; the very first start compiles for about 20 s")
        servo, policy = self._start("servo"), self._start("policy")
        self.status.realtime(servo.wait_for("ready", START_LIMIT_S, self._beat_or_leave))
        policy.wait_for("ready", START_LIMIT_S, self._beat_or_leave)
        if self.options.settings.task.sensors.startswith(EMULATOR):
            address = self.options.settings.task.sensors.removeprefix(EMULATOR)
            self._emulator = EmulatorSignals(address, DILATION_REPLY_S)
        silence_s = self._silence_s()
        self._servo, self._in_motion = servo, True
        self.memory.set_request(Request.ARMED)
        servo.say(f"go {silence_s}")
        policy.say("go")
        return policy

    def _supervise(self, policy: Child) -> None:
        while not self.interrupted and self._failure is None:
            self._look_around()
            if not policy.running:
                if policy.process.returncode == 0:
                    return
                policy = self._restart(policy)
        if self.interrupted:
            self.status.note("stopping: the arm brakes first")

    def _look_around(self) -> None:
        self._beat()
        self._entrance.pump()
        for companion in self._companions:
            companion.look()
        self._watch_servo()
        self._watch_dilation()
        time.sleep(BEAT_S)

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
            raise self._servo.error()
        state = self.memory.read_state()
        if state is None or int(state["fault"]) == 0:
            self._fault_seen_s, self._recoveries = 0.0, 0
            return
        now_s = time.monotonic()
        if self._fault_seen_s == 0.0:
            self._fault_seen_s, self._recover_at_s = now_s, now_s + RECOVERY_DELAY_S
            trouble = int(state["fault"])
            self.folder.append_event(Fault(tick=int(state["tick"]), code=trouble, text=describe(trouble)))
            if not self.options.settings.robot.automatic_recovery or trouble == BY_NAME["user_stopped"].code:
                raise FaultError(f"the run ends with a latched fault: {describe(trouble)}")
        elif now_s > self._recover_at_s:
            if self._recoveries >= MAX_RECOVERIES:
                raise FaultError(f"{MAX_RECOVERIES} recoveries did not help: {describe(int(state['fault']))}")
            self._recoveries += 1
            self._recover_at_s = now_s + RECOVERY_RETRY_S
            self.memory.recover()
            self.folder.append_event(Recovery(tick=int(state["tick"]), automatic=True))

    def _silence_s(self) -> float:
        """Return how long the arm may be silent in a motion (s), 0 for an arm in lockstep, which waits for the policy."""
        patience = self.options.settings.servo
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
                    self.folder.append_event(Reflex(tick=int(self.memory.control()["tick"]), errors=errors))

    def _log_holds(self, ticks: npt.NDArray[np.void]) -> None:
        events = ticks["command"]["event"]
        for row in np.flatnonzero(events):
            trouble = TROUBLES[int(events[row])]
            if trouble.grade == Grade.HOLDING and trouble != BY_NAME["chunk_ended"]:
                tick = int(ticks["state"]["tick"][row])
                self.folder.append_event(Hold(tick=tick, code=trouble.code, text=describe(trouble.code)))

    def _restart(self, policy: Child) -> Child:
        """Start a policy that died again, later each time; it repeats the episode it died in.

        Raises its error where it said itself why it cannot go on, and after MAX_RESTARTS.
        """
        self._restarts += 1
        if self._restarts > MAX_RESTARTS or policy.process.returncode > PocoError.exit_code:
            raise policy.error()
        self.status.note(f"policy process ended ({policy.error()}), start {self._restarts + 1}")
        pause_until_s = time.monotonic() + 0.5 * 2.0**self._restarts
        while time.monotonic() < pause_until_s and not self.interrupted and self._failure is None:
            self._look_around()
        finished = len(list(self.folder.episodes.glob("*.safetensors")))
        again = self._start("policy", "--first-episode", str(finished))
        again.say("go")
        return again

    def _start(self, name: str, *arguments: str) -> Child:
        options = str(self.folder.path / "options.json")
        child = Child(name, f"poco.runtime.{name}", ["--options", options, *arguments], self.folder.path)
        self._children.append(child)
        return child

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
        self.memory.set_request(Request.STOP)
        by_name = {child.name: child for child in self._children}
        deadline_s = time.monotonic() + (STOP_LIMIT_S if self._in_motion else 0.0)
        servo = by_name.get("servo")
        while servo is not None and servo.running and time.monotonic() < deadline_s:
            self._beat()
            time.sleep(BEAT_S)
        for name in ("policy", "gate", "servo", "emulator"):
            if name in by_name:
                by_name[name].end()
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
