"""A hand that leads the emulated arm: a force at its end effector, and keys at the terminal of `record --hands guiding`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from poco.hw.fault_script import Entry, Fault, Push
from poco.hw.task_signals import EmulatorSignals
from poco.kinematics import forward
from poco.runtime.run_folder import EpisodeStarted
from poco.runtime.run_options import OPERATOR_SPECIFICATION
from poco.shm import RunMemory
from poco.specification import read_specification
from poco.trouble import Mode
from runs import run_name
from terminal_session import Session

Floats = npt.NDArray[np.float64]

TIP = read_specification(OPERATOR_SPECIFICATION).tip
HAND_N_M, HAND_MAX_N, HAND_TICKS = 300.0, 15.0, 100
ARRIVED_M = 0.01
WAY_M = ((0.05, 0.0, 0.0), (0.05, -0.06, 0.03), (0.0, -0.06, 0.05))


def tip_m(memory: RunMemory) -> Floats:
    """Where the tip is measured [3] (m)."""
    state = memory.read_state()
    assert state is not None
    position: Floats = forward(np.array(state["q"]), TIP)[0]
    return position


def pull(signals: EmulatorSignals, memory: RunMemory, goal_m: Floats) -> bool:
    """Let a hand pull the arm towards `goal_m` for a moment; True once the tip has arrived and is left alone."""
    to_go = goal_m - tip_m(memory)
    arrived = bool(np.linalg.norm(to_go) < ARRIVED_M)
    force = np.zeros(3) if arrived else np.clip(HAND_N_M * to_go, -HAND_MAX_N, HAND_MAX_N)
    x, y, z = force.tolist()
    inject(signals, Push(force_n=(x, y, z), ticks=HAND_TICKS))
    return arrived


def lead(signals: EmulatorSignals, memory: RunMemory, until: Callable[[Callable[[], bool]], None]) -> None:
    """Let a hand lead the arm along WAY_M; `until` waits for a condition."""
    begin_m = tip_m(memory)
    for way_m in WAY_M:
        goal_m = begin_m + np.array(way_m)
        until(lambda goal_m=goal_m: pull(signals, memory, goal_m))  # type: ignore[misc]


def inject(signals: EmulatorSignals, fault: Fault) -> None:
    """Let `fault` happen in the next tick."""
    signals.inject([Entry(fault=fault, at=0)])


def take_the_arm(session: Session) -> RunMemory:
    """Press start until the arm is in the hand, at the start pose; return the memory of the run."""

    def led() -> bool:
        if not (session.folder / "run.json").is_file():
            return False
        try:
            state = RunMemory.attach(run_name(session.folder)).read_state()
        except Exception:  # not there yet
            return False
        return state is not None and int(state["mode"]) == Mode.LED

    session.type_until(" ", lambda events: led())
    return RunMemory.attach(run_name(session.folder))


def still(memory: RunMemory) -> bool:
    """Tell whether the arm rests."""
    state = memory.read_state()
    return state is not None and bool(np.abs(state["dq"]).max() < 1e-4)


def tick_of(memory: RunMemory) -> int:
    """The arm's tick."""
    return int(memory.control()["tick"])


def mode_of(memory: RunMemory) -> int:
    """The servo's mode."""
    state = memory.read_state()
    assert state is not None
    return int(state["mode"])


def started(session: Session, count: int) -> bool:
    """Tell whether so many episodes have begun."""
    return len(session.events(EpisodeStarted)) >= count
