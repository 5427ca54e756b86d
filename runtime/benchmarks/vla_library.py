"""LeRobot's own call of a policy, asked of bench/vla_eager.py or bench/lerobot_async.py in an environment that has LeRobot."""

from __future__ import annotations

import shlex
from pathlib import Path

import msgspec

from poco.runtime.benchmarks.program import Program


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """First line of the program: its versions, how far its golden chunks are from the artifact's (-1 ... 1), how it is called."""

    versions: dict[str, str]
    difference: float
    how: str = "eager"


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """One call: time (ns) from frames to actions and that of `sample_actions` in it, and the program's peak memory (bytes)."""

    call_ns: int
    sample_actions_ns: int
    peak_memory_bytes: int


class EagerLibrary:
    """The library's policy of the checkpoint that an artifact was exported from."""

    def __init__(self, command: str, policy: Path, task: str, frame: tuple[int, int], threads: int) -> None:
        """Start `command` for the artifact `policy`, frames (height, width) and `threads`; raises UsageError or PocoError."""
        height, width = frame
        told = [
            "--artifact",
            str(policy),
            "--task",
            task,
            "--frame",
            str(width),
            str(height),
            "--threads",
            str(threads),
        ]
        self._program = Program([*shlex.split(command), *told])
        self.ready = msgspec.json.decode(self._program.greeting, type=Ready)

    def call(self) -> Spent:
        """Let it make one chunk of new frames; raises PocoError if the program ends."""
        return msgspec.json.decode(self._program.ask("call"), type=Spent)

    def end(self) -> None:
        """Let the program end."""
        self._program.end()
