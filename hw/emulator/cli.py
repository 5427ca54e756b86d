"""`poco-emulator`: an FR3 without the robot, behind the interface of the real one."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, NoReturn, Protocol

import tyro

from poco.clock import TICKS_PER_SECOND, monotonic_ns
from poco.command_line import run_command
from poco.errors import UsageError, guard

from ..fault_script import read_fault_script
from .arm import SimulatedArm
from .model import fr3_mjcf
from .pacing import Pacing
from .protocol import PROTOCOL_VERSION
from .server import EmulatorServer
from .side_by_side import addresses, run_beside
from .task_port import Task
from .tasks.cube import CubePlacing
from .tasks.peg_in_hole import EASY, PegInHole

RECOVERY_DELAY_MAX_S = 60.0
_PARENT_CHECK_TICKS = 1000

DESCRIPTION = """Emulate a Franka FR3: its network interface (protocol 10) on a loopback address, MuJoCo physics behind it.

Examples:
  poco-emulator                                       # the easy peg-in-hole task on 127.0.0.1
  poco-emulator --host 127.0.0.2 --task none          # a bare arm beside it
  poco-emulator --arms 3                              # three arms with a task each on 127.0.0.1, 127.0.0.2, 127.0.0.3
  poco-emulator --task cube                           # a cube to pick and place, with a gripper
  poco-emulator --pacing lockstep --clearance-mm 1.2  # as fast as the client answers, the same every time
  poco-emulator --pacing strict --recovery-delay-s 2  # as unforgiving as the arm

Exit codes: 0 done, 1 something else with a sentence of its own, 2 usage, 3 fault script, 6 address,
130 stopped by Ctrl-C or SIGTERM.
"""


@dataclass(frozen=True, slots=True)
class Options:
    """Command line of `poco-emulator`."""

    host: str = "127.0.0.1"
    """Address to listen on: ports 1337 (arm), 1338 (gripper) and 1340 (task). Several emulators want several
    addresses, as --arms gives them."""
    arms: int = 1
    """How many arms stand side by side, each a process of its own: their addresses count up from --host, their seeds from
    --seed."""
    pacing: Literal["realtime", "lockstep", "strict"] = "realtime"
    """realtime: 1 kHz, waits up to 0.1 s for a late answer and accounts it. lockstep: the next tick follows the answer to the
    last. strict: 1 kHz, late answers are lost as on the arm."""
    task: Literal["peg-in-hole", "cube", "none"] = "peg-in-hole"
    """What stands on the table; cube: one to pick and place, with a gripper on port 1338."""
    clearance_mm: float = EASY.clearance_m * 1000
    """Gap between peg and hole on each side."""
    interface: Literal["franka", "polymetis"] = "franka"
    """franka: the arm's own network interface. polymetis: the controller server on port 50051 and, with
    --task cube, the gripper server on port 50052; needs poco-robot[polymetis]."""
    seed: int = 0
    """Where the hole is until the first `place`."""
    recovery_delay_s: float = 0.5
    """How long automatic error recovery takes in robot time (0.4 to 3 s on the arm)."""
    protocol: int = PROTOCOL_VERSION
    """What the arm says it speaks. With any other number than 10 it refuses every client, as a Panda (5) or an FR3 of an
    older system (6 to 9) does."""
    faults: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Script of faults that the arm suffers from its first motion on (docs/faults.md)."""
    exit_with_parent: Annotated[int | None, tyro.conf.arg(metavar="PID")] = None
    """Exit when this process is gone and no client is connected."""


def _scene(options: Options) -> tuple[SimulatedArm, Task | None]:
    if options.task == "none":
        return SimulatedArm.from_mjcf(fr3_mjcf()), None
    if options.task == "cube":
        cube = CubePlacing(options.seed)
        return cube.arm, cube
    peg = PegInHole(replace(EASY, clearance_m=options.clearance_mm / 1000), options.seed)
    return peg.arm, peg


class Server(Protocol):
    """An emulator of either interface."""

    @property
    def connected(self) -> bool:
        """Whether a client is connected."""

    def run(self, keep_running: Callable[[], bool]) -> None:
        """Serve until `keep_running`, asked once a tick, says no."""


def _server(options: Options, arm: SimulatedArm, task: Task | None) -> Server:
    """Return the emulator of the interface that was asked for; torch and gRPC are imported for that one only."""
    faults = read_fault_script(options.faults) if options.faults else None
    recovery_delay_ticks = round(options.recovery_delay_s * TICKS_PER_SECOND)
    if options.interface == "franka":
        pacing = Pacing(options.pacing)
        return EmulatorServer(options.host, arm, pacing, task, recovery_delay_ticks, faults, options.protocol)
    if options.pacing == "strict":
        raise UsageError(
            "--pacing strict is for --interface franka: a Polymetis server never waits for its client anyway"
        )
    try:
        from .polymetis.server import PolymetisEmulator
    except ImportError as error:
        raise UsageError(f"--interface polymetis needs {error.name}: pip install 'poco-robot[polymetis]'") from error
    return PolymetisEmulator(options.host, arm, Pacing(options.pacing), task, recovery_delay_ticks, faults)


def _parent_watch(server: Server, parent: int | None) -> Callable[[], bool]:
    """Return what says, once a tick, whether to go on; it looks after the parent about once a second."""
    ticks = 0

    def keep_running() -> bool:
        nonlocal ticks
        ticks += 1
        return parent is None or ticks % _PARENT_CHECK_TICKS != 0 or server.connected or _lives(parent)

    return keep_running


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def serve(options: Options) -> None:
    """Run emulated arms until they are interrupted; raises UsageError for a wrong value and AddressError for a taken address."""
    if not 0 <= options.recovery_delay_s <= RECOVERY_DELAY_MAX_S:
        raise UsageError(
            f"--recovery-delay-s is {options.recovery_delay_s} s, must lie in 0 to {RECOVERY_DELAY_MAX_S:g} s: "
            "the arm takes 0.4 to 3 s"
        )
    if not 1 <= options.protocol <= 65_535:
        raise UsageError(f"--protocol is {options.protocol}, must lie in 1 to 65535: 10 is what pylibfranka speaks")
    if options.seed < 0:
        raise UsageError(f"--seed is {options.seed}, must be 0 or more")
    hosts = addresses(options.host, options.arms)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    if len(hosts) == 1:
        _serve_one(options)
    else:
        _serve_beside(options, hosts)


def _serve_beside(options: Options, hosts: list[str]) -> NoReturn:
    """Serve an arm at each of `hosts`; all of them end with this process."""
    parent = options.exit_with_parent or os.getpid()
    each = [
        replace(options, host=host, arms=1, seed=options.seed + index, exit_with_parent=parent)
        for index, host in enumerate(hosts)
    ]
    raise SystemExit(run_beside([partial(_guarded, one) for one in each]))


def _guarded(options: Options) -> None:
    guard(partial(serve, options))


def _serve_one(options: Options) -> None:
    started_ns = monotonic_ns()
    arm, task = _scene(options)
    server = _server(options, arm, task)
    print(
        f"poco-emulator ready on {options.host} ({options.task}, {options.pacing}), "
        f"{(monotonic_ns() - started_ns) / 1e6:.0f} ms; Ctrl-C ends it",
        flush=True,
    )
    server.run(_parent_watch(server, options.exit_with_parent))
    print("poco-emulator: the process it was started for is gone", file=sys.stderr)


def main() -> None:
    """Entry point of `poco-emulator`; exit codes are those of `poco.errors`, 130 after Ctrl-C or SIGTERM."""
    guard(lambda: serve(run_command(Options, "poco-emulator", DESCRIPTION)))
