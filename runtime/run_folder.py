"""The folder one run leaves behind: what is written while the arm moves and what the report is made from.

```
run.json        RunFacts, written before motion
ticks.bin       TICK records back to back, one per robot tick that was recorded
ticks.old.bin   those before them; earlier ones are not kept (`poco.runtime.recorder`)
minutes.jsonl   one Minute per minute of motion, of the whole run
chunks.jsonl    one ChunkRecord per planned chunk
events.jsonl    one Event per line
episodes/       one episode file each (`poco.episodes`)
discarded/      those that a person has thrown away
```
Writers append whole records, so a run that was cut short leaves at most one incomplete record at the end of a file.
"""

from __future__ import annotations

import errno
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO, TypeAlias, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from poco.durable import write_durably
from poco.errors import ArtifactError, UsageError
from poco.records import SCHEMA_VERSION, TICK
from poco.runtime.run_events import (
    CameraCounted,
    CameraFresh,
    CameraOpened,
    CameraStale,
    GripperDone,
    GripperFresh,
    GripperReady,
    GripperStale,
    GripperTold,
    InferenceOpened,
    RunEvent,
    WeightsCompared,
    WeightsMoved,
)
from poco.specification import Specification
from poco.statistics import Percentiles

FACTS = "run.json"
TICKS = "ticks.bin"
OLD_TICKS = "ticks.old.bin"
MINUTES = "minutes.jsonl"
CHUNKS = "chunks.jsonl"
EVENTS = "events.jsonl"
EPISODES = "episodes"

_REPORTED_PACKAGES = ("poco-robot", "numpy", "numba", "onnxruntime", "pylibfranka", "mujoco")

_Line = TypeVar("_Line")


class HostFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the run was made on: processor, number of cores, kernel, Python and package versions."""

    cpu: str
    cores: int
    kernel: str
    python: str
    versions: dict[str, str]


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What was known before motion; `pacing` is how the arm keeps time: realtime, lockstep, strict or hardware."""

    robot: str
    host: str
    artifact: str
    generation: int
    specification: Specification
    specification_hash: str
    speed: float
    pacing: str
    started_utc: str
    computer: HostFacts
    version: int = SCHEMA_VERSION


class ChunkRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One chunk as the policy process made it; durations in ns, `late` if its attach tick had passed when it was published.

    Of a policy that sees, `image_age_ns` is how old the oldest of its images was, `image_ns` how long taking, cutting and encoding
    them took, a part of `inference_ns`.
    """

    chunk_id: int
    episode: int
    generation: int
    observation_tick: int
    attach_tick: int
    sense_ns: int
    inference_ns: int
    planning_ns: int
    total_ns: int
    stretched: bool
    stopped_first: bool
    late: bool
    image_age_ns: int = 0
    image_ns: int = 0


class Minute(msgspec.Struct, frozen=True, kw_only=True):
    """Timing of the `ticks` recorded ticks up to `tick`: state received to command sent, and between states (us)."""

    tick: int
    ticks: int
    turnaround_us: Percentiles | None
    turnaround_over_1_ms: int
    period_us: Percentiles | None


class EpisodeStarted(RunEvent, frozen=True, kw_only=True, tag="episode_start"):
    """The objects of `episode` were placed with `seed` and the policy took over."""

    episode: int
    seed: int


class EpisodeEnded(RunEvent, frozen=True, kw_only=True, tag="episode_end"):
    """`episode` ended with `outcome` after `steps` control periods and `ticks` ms."""

    episode: int
    outcome: str
    steps: int
    ticks: int


class EpisodeLabelled(RunEvent, frozen=True, kw_only=True, tag="episode_label"):
    """A person said afterwards that `episode` was a "success", a "failure" or is to be "discarded"."""

    episode: int
    outcome: str


class HandsLost(RunEvent, frozen=True, kw_only=True, tag="hands_lost"):
    """The device that a person's hands hold is gone for `reason`; it counts as at rest."""

    reason: str


class Fault(RunEvent, frozen=True, kw_only=True, tag="fault"):
    """The servo latched the fault `code` of the trouble table; `text` says what it means."""

    code: int
    text: str


class Hold(RunEvent, frozen=True, kw_only=True, tag="hold"):
    """The servo braked and holds because of `code` of the trouble table; the next valid chunk resumes."""

    code: int
    text: str


class Reflex(RunEvent, frozen=True, kw_only=True, tag="reflex"):
    """The arm stopped itself; `errors` are the names of the flags it raised."""

    errors: list[str]


class Recovery(RunEvent, frozen=True, kw_only=True, tag="recovery"):
    """The arm was recovered from a reflex, by the `automatic` rule of a simulated arm or by an operator."""

    automatic: bool


class Dilation(RunEvent, frozen=True, kw_only=True, tag="dilation"):
    """How long the simulated arm waited for a late client since the run began: in total and at the longest (s)."""

    total_s: float
    longest_s: float


class GenerationMoved(RunEvent, frozen=True, kw_only=True, tag="generation"):
    """A generation of the policy went from state `before` to `after` of the swap table, see docs/swap.md."""

    generation: int
    before: str
    after: str
    reason: str


class PolicyStall(RunEvent, frozen=True, kw_only=True, tag="policy_stall"):
    """The policy process gave no sign of life for `silent_s` (s), stopped or starved, and went on by itself."""

    silent_s: float


class PolicyRestart(RunEvent, frozen=True, kw_only=True, tag="policy_restart"):
    """The policy process was lost for `reason` and is started for the `start`th time; the episode begins again."""

    start: int
    reason: str


class SupervisorStall(RunEvent, frozen=True, kw_only=True, tag="supervisor_stall"):
    """The supervisor itself stood still for `silent_s` (s); `ticks_dropped` ticks found no room in the meantime."""

    silent_s: float
    ticks_dropped: int


Event: TypeAlias = (
    EpisodeStarted
    | EpisodeEnded
    | EpisodeLabelled
    | HandsLost
    | Fault
    | Hold
    | Reflex
    | Recovery
    | Dilation
    | GenerationMoved
    | PolicyStall
    | PolicyRestart
    | SupervisorStall
    | CameraOpened
    | CameraCounted
    | CameraStale
    | CameraFresh
    | GripperReady
    | GripperTold
    | GripperDone
    | GripperStale
    | GripperFresh
    | InferenceOpened
    | WeightsCompared
    | WeightsMoved
)


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Reads and appends the files of one run; any process may append, each record is one write to a file opened for append.

    Events go to `events_to` too, if there is such a listener.
    """

    path: Path
    events_to: Callable[[Event], None] | None = None

    @classmethod
    def create(cls, path: Path, facts: RunFacts) -> RunFolder:
        """Make the folder `path` and write `facts`; raises UsageError if it already holds a run or cannot be written."""
        if (path / FACTS).exists():
            raise UsageError(f"run folder {path} already holds a run: choose another folder")
        try:
            (path / EPISODES).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"run folder {path} cannot be made ({error.strerror}): choose a folder you may write to"
            ) from error
        write_durably(path / FACTS, msgspec.json.format(msgspec.json.encode(facts)) + b"\n")
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Return the run at `path`; raises UsageError if there is none."""
        if not (path / FACTS).is_file():
            raise UsageError(f"{path} holds no run ({FACTS} is missing): name a folder that poco-runtime made")
        return cls(path)

    @property
    def episodes(self) -> Path:
        """Folder of the episode files."""
        return self.path / EPISODES

    def open_ticks(self) -> BinaryIO:
        """Return an unbuffered stream that appends to the ticks; write whole TICK arrays as bytes (recorder only)."""
        return (self.path / TICKS).open("ab", buffering=0)

    def append_minute(self, minute: Minute) -> None:
        """Append one minute (recorder only)."""
        _append(self.path / MINUTES, minute)

    def append_chunk(self, chunk: ChunkRecord) -> None:
        """Append one chunk (policy process)."""
        _append(self.path / CHUNKS, chunk)

    def append_event(self, event: Event) -> None:
        """Append one event (any process)."""
        _append(self.path / EVENTS, event)
        if self.events_to is not None:
            self.events_to(event)

    def facts(self) -> RunFacts:
        """Read what was known before motion; raises ArtifactError if the file is not readable."""
        try:
            facts = msgspec.json.decode((self.path / FACTS).read_bytes(), type=RunFacts)
        except (msgspec.MsgspecError, UnicodeDecodeError, OSError) as error:
            raise ArtifactError(f"{self.path / FACTS} is not readable ({error}): record the run again") from error
        if facts.version != SCHEMA_VERSION:
            raise ArtifactError(f"run {self.path} has version {facts.version}, this poco reads {SCHEMA_VERSION}")
        return facts

    def ticks(self) -> npt.NDArray[np.void]:
        """Read all whole TICK records [n] that are kept; an incomplete one at the end is left out."""
        kept = [path for name in (OLD_TICKS, TICKS) if (path := self.path / name).is_file()]
        parts = [np.fromfile(path, TICK, count=path.stat().st_size // TICK.itemsize) for path in kept]
        return np.concatenate(parts) if parts else np.zeros(0, TICK)

    def chunks(self) -> list[ChunkRecord]:
        """Read all chunks in order of writing; raises ArtifactError naming a line that is not one."""
        return _read(self.path / CHUNKS, msgspec.json.Decoder(ChunkRecord))

    def events(self) -> list[Event]:
        """Read all events in order of writing; raises ArtifactError naming a line that is not one."""
        decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)
        return _read(self.path / EVENTS, decoder)

    def minutes(self) -> list[Minute]:
        """Read all minutes in order of writing; raises ArtifactError naming a line that is not one."""
        return _read(self.path / MINUTES, msgspec.json.Decoder(Minute))


class EventReader:
    """Reads the events of a run as they are appended, each once; for one reader."""

    def __init__(self, folder: RunFolder) -> None:
        self._path = folder.path / EVENTS
        self._decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)
        self._offset = 0

    def new(self) -> list[Event]:
        """Return the whole events since the last call; raises ArtifactError naming a line that is not one."""
        events, length = _decode(self._path, self._decoder, self._offset)
        self._offset += length
        return events


def host_facts() -> HostFacts:
    """Describe this computer for a run or a benchmark; packages that are not installed are left out."""
    return HostFacts(
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)),
        kernel=platform.release(),
        python=platform.python_version(),
        versions=_versions(),
    )


def write_whole(stream: BinaryIO, payload: bytes) -> None:
    """Write `payload` to an unbuffered stream at once; raises OSError too where a full disk took only a part of it."""
    if stream.write(payload) < len(payload):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _append(path: Path, record: msgspec.Struct) -> None:
    with path.open("ab", buffering=0) as stream:
        write_whole(stream, msgspec.json.encode(record) + b"\n")


def _read(path: Path, decoder: msgspec.json.Decoder[_Line]) -> list[_Line]:
    return _decode(path, decoder, 0)[0]


def _decode(path: Path, decoder: msgspec.json.Decoder[_Line], offset: int) -> tuple[list[_Line], int]:
    """Return the records on the whole lines of `path` from byte `offset` on, and the length of those lines in bytes."""
    if not path.is_file():
        return [], 0
    with path.open("rb") as stream:
        stream.seek(offset)
        *lines, incomplete = (payload := stream.read()).split(b"\n")
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(decoder.decode(line))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            place = f"line {number}" + (f" after byte {offset}" if offset else "")
            raise ArtifactError(f"{place} of {path} is not readable ({error}): remove that line") from error
    return records, len(payload) - len(incomplete)


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for package in _REPORTED_PACKAGES:
        try:
            found[package] = version(package)
        except ModuleNotFoundError:
            continue
    return found
