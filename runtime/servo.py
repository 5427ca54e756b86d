"""The servo process: read, step, write, once a millisecond, in a process that does nothing else.

Started by the supervisor as `python -m poco.runtime.servo`. Single-threaded, garbage collection frozen, SIGINT ignored: the
stop comes through shared memory. Prints one line "ready CARRIED|MISSING" (what the arm carries, what of the real-time set-up
failed) and begins the motion when it reads "go SECONDS": how long the arm may be silent, 0 for any time.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from pathlib import Path

import msgspec

from poco._core import Servo, realtime_setup
from poco.clock import monotonic_ns
from poco.control import guiding_law, servo_law
from poco.errors import ArmError, PocoError, RealtimeError, exit_with
from poco.hw.arm_facts import summary
from poco.hw.franka import FrankaArm, mode_number, tick_of
from poco.runtime.memory_group import memory_limit
from poco.runtime.process_arguments import process_arguments
from poco.shm import RunMemory
from poco.trouble import BY_NAME, Request

SUPERVISOR_TIMEOUT_S = 2.0
OOM_SCORE, NEVER = Path("/proc/self/oom_score_adj"), "-1000"


def follow(arm: FrankaArm, servo: Servo) -> None:
    """Run the 1 kHz loop until the servo has finished; whatever the library raises ends it."""
    read, step, sent, write = arm.read, servo.tick, servo.sent, arm.write
    by_torque, dynamics, torque = arm.driven_by_torque, arm.dynamics, servo.torque
    while not servo.finished:
        state = read()
        command = step(
            tick_of(state),
            state.q,
            state.dq,
            state.tau_J,
            state.tau_ext_hat_filtered,
            state.q_d,
            state.dq_d,
            state.ddq_d,
            state.O_T_EE,
            mode_number(state),
            int(bool(state.current_errors)),
        )
        if by_torque:
            command = torque(state.tau_J_d, *dynamics(state))
        write(command, servo.finished)
        sent()


def wait_for_recovery(memory: RunMemory, seen: int) -> bool:
    """Wait without motion until an operator recovers again after `seen` times (True) or the run is stopped or abandoned (False)."""
    control = memory.control()
    while monotonic_ns() - int(control["supervisor_ns"]) < SUPERVISOR_TIMEOUT_S * 1e9:
        if int(control["recoveries"]) != seen:
            return True
        if int(control["request"]) == Request.STOP:
            return False
        time.sleep(0.01)
        control = memory.control()
    return False


def run(arm: FrankaArm, servo: Servo, memory: RunMemory) -> None:
    """Follow; after the arm has stopped by itself latch, wait for the operator, recover and follow again."""
    while True:
        arm.start()
        try:
            follow(arm, servo)
            return
        except Exception as error:  # the library's classes share no base
            trouble = arm.diagnose(error)
            recoveries = int(memory.control()["recoveries"])  # before anybody can know of the trouble
            servo.arm_failed(trouble.code)
            print(f"stopped {' '.join(str(error).split())}", flush=True)
        arm.release()
        if not wait_for_recovery(memory, recoveries):
            return
        if trouble == BY_NAME["arm_silent"]:
            prepare(arm, recover=True)  # the library's connection does not outlive a time-out
        else:
            arm.recover()
        servo.reanchor()


def prepare(arm: FrankaArm, *, recover: bool) -> list[str]:
    """Connect, check, configure and try the arm, then ask for real-time rights; returns what could not be had."""
    robot = arm.settings
    arm.connect()
    arm.check_ready(recover)
    arm.configure()
    warnings = arm.hold_on_trial() if robot.kind == "franka" else []
    setup = realtime_setup(robot.realtime.priority, robot.realtime.cpu)
    missing = [f"{what}: {reason}" for what, ok, reason in setup if not ok]
    if missing and robot.realtime.required:
        raise RealtimeError(f"real-time rights are required and missing ({'; '.join(missing)})")
    return warnings + missing


def spare_from_oom_killer() -> list[str]:
    """Ask the kernel to end other processes when memory runs out; returns why it cannot be had."""
    try:
        OOM_SCORE.write_text(NEVER)
    except OSError as error:
        return [f"spared when memory runs out: {error.strerror}; poco-runtime doctor says more"]
    return []


def look_for_memory_limit() -> list[str]:
    """Return which limit on memory the servo shares with others, if any."""
    limit = memory_limit()
    return (
        [] if limit is None else [f"memory of its own: {limit[0]} says {limit[1]} bytes; poco-runtime doctor says more"]
    )


def main() -> None:
    """Entry point of the servo process; arguments come from the supervisor."""
    _, options = process_arguments(argparse.ArgumentParser(description=__doc__))
    settings = options.settings
    arm = FrankaArm(settings.robot, guided=options.guided)
    try:
        memory = RunMemory.attach(options.run_name)
        law = servo_law(settings.robot.control, settings.robot.impedance)
        guiding = guiding_law(settings.robot, options.specification()) if options.guided else None
        orphan_hold_s = settings.servo.orphan_hold_s
        servo = Servo(memory.native, options.step_limits(), SUPERVISOR_TIMEOUT_S, orphan_hold_s, law, guiding)
        missing = prepare(arm, recover=options.recover) + spare_from_oom_killer() + look_for_memory_limit()
        facts = arm.facts()
        (Path(options.folder) / "arm.json").write_bytes(msgspec.json.format(msgspec.json.encode(facts)))
        print(f"ready {summary(facts)}|{'; '.join(missing)}", flush=True)
        word, _, silence_s = sys.stdin.readline().partition(" ")
        if word != "go":
            return
        if float(silence_s) > 0.0:
            servo.watch(float(silence_s))
        gc.collect()
        gc.freeze()
        gc.disable()
        run(arm, servo, memory)
    except PocoError as error:
        exit_with(error)
    except BrokenPipeError as error:
        exit_with(ArmError(f"the supervisor is gone ({error})"))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
