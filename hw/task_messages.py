"""Messages of the task port: typed JSON behind a 4-byte little-endian length, spoken by task drivers and the emulator."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from poco.records import TaskSignal

from .fault_script import Entry

TASK_PORT = 1340
LENGTH_BYTES = 4
MESSAGE_BYTES_MAX = 65_536
"""A longer message is refused and its connection closed."""


CameraFault = Literal["frozen", "slow", "dropped", "swapped"]


class Sense(msgspec.Struct, frozen=True, tag=True):
    """Ask what the task's sensor sees now; answered by Sensed."""


class Place(msgspec.Struct, frozen=True, tag=True):
    """Ask to place the objects for the next episode as `seed` (>= 0) says; answered by Placed."""

    seed: int


class SetGate(msgspec.Struct, frozen=True, tag=True):
    """Ask a lockstep emulator to let robot time run up to `tick` and no further, -1 for no gate; answered by GateSet."""

    tick: int


class GetStatus(msgspec.Struct, frozen=True, tag=True):
    """Ask how the emulator fares; answered by EmulatorStatus."""


class Inject(msgspec.Struct, frozen=True, tag=True):
    """Ask to let the arm suffer `entries` from now on instead of what was left of earlier ones; answered by Injected."""

    entries: tuple[Entry, ...]
    seed: int = 0


class GetScene(msgspec.Struct, frozen=True, tag=True):
    """Ask what the simulated scene is made of; answered by Scene."""


class Film(msgspec.Struct, frozen=True, tag=True):
    """Ask where everything in the scene is now; answered by Filmed. The simulated `camera` asks it once an exposure."""

    camera: str


class Spoil(msgspec.Struct, frozen=True, tag=True):
    """Ask to let the simulated `camera` suffer from `kind` for `ticks` of robot time, 0 to end it; answered by Spoiled.

    frozen: frames come, always the same. slow: few come. dropped: none come, though it counts on. swapped: those of another camera.
    """

    camera: str
    kind: CameraFault
    ticks: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]


class Sensed(msgspec.Struct, frozen=True, tag=True):
    """The task's signal, stamped with the newest robot tick."""

    signal: TaskSignal


class Placed(msgspec.Struct, frozen=True, tag=True):
    """The objects are placed since robot tick `tick`."""

    tick: int


class GateSet(msgspec.Struct, frozen=True, tag=True):
    """The gate is set; robot time was at `tick`."""

    tick: int


class Injected(msgspec.Struct, frozen=True, tag=True):
    """The faults are scheduled; robot time was at `tick`."""

    tick: int


class Scene(msgspec.Struct, frozen=True, tag=True):
    """The scene as an MJCF document."""

    mjcf: str


class Filmed(msgspec.Struct, frozen=True, tag=True):
    """Joint positions of the whole scene and poses of its mocap bodies (3 numbers m, 4 of a quaternion each) at robot tick `tick`.

    `held`: a lockstep arm stands at this tick until its policy has decided. `fault` is what the camera that asks suffers from.
    """

    tick: int
    held: bool
    fault: CameraFault | None
    qpos: list[float]
    mocap: list[float]


class Spoiled(msgspec.Struct, frozen=True, tag=True):
    """The camera suffers since robot tick `tick`."""

    tick: int


class EmulatorStatus(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Counters since the emulator started.

    Dilation is by how much robot time fell behind the wall during motions (ns), in total and at most at once; 0 in lockstep.
    Commands are counted as taken, lost (none in time), late (answer to an older state) and invalid (not finite or not a
    command); `gate_timeouts` are gates kept shut too long, `mode` is the robot mode in words.
    """

    tick: int = 0
    pacing: str
    connected: bool = True
    dilation_ns: int = 0
    longest_dilation_ns: int = 0
    commands_taken: int = 0
    commands_lost: int = 0
    commands_late: int = 0
    commands_invalid: int = 0
    reflexes: int = 0
    gate_timeouts: int = 0
    mode: str = ""
    faults_injected: int = 0


class Refused(msgspec.Struct, frozen=True, tag=True):
    """The request was not carried out; `reason` is one sentence with the remedy."""

    reason: str


Request = Sense | Place | SetGate | GetStatus | Inject | GetScene | Film | Spoil
Reply = Sensed | Placed | GateSet | EmulatorStatus | Injected | Scene | Filmed | Spoiled | Refused
