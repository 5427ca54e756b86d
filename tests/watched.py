"""A run, in lockstep unless its flags say otherwise, whose policy is replaced by what a test offers; all processes are real."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from poco.runtime.incoming import leave_offer
from poco.runtime.run_folder import ChunkRecord, Fault, GenerationMoved, Reflex, RunFolder
from poco.succession import Floats
from programs import Program
from workshop import Workshop

MANY = 100_000


class Watched:
    """A run in lockstep whose policy is replaced by what a test offers."""

    def __init__(self, workshop: Workshop, host: str, *flags: str) -> None:
        self.workshop, folder = workshop, workshop.folder / "run"
        options = workshop.options.settings.swap
        where = ["--swap.trust", options.trust, "--swap.store", options.store, "--robot.host", host]
        flags = ("--emulator.pacing", "lockstep", *flags, "--episodes", str(MANY))
        policy = workshop.artifact.path
        self.program = Program("poco-runtime", "--policy", policy, "--out", folder, *where, *flags, folder=folder)
        self.path = folder
        self.until(lambda: (folder / "run.json").is_file() and bool(self.chunks()))
        self.first = workshop.artifact.manifest.generation

    def until(self, condition: Callable[[], bool]) -> None:
        self.program.until(condition)

    @property
    def folder(self) -> RunFolder:
        return RunFolder.open(self.path)

    def chunks(self) -> list[ChunkRecord]:
        return self.folder.chunks()

    def stops(self) -> list[Fault | Reflex]:
        """What latched a fault, and why the arm stopped itself."""
        return [event for event in self.folder.events() if isinstance(event, Fault | Reflex)]

    def moves(self, generation: int) -> list[str]:
        """The states that `generation` has come to."""
        return [one.after for one in self._moved() if one.generation == generation]

    def reason(self, generation: int) -> str:
        """Why `generation` was rejected."""
        return self._moved_of(generation)[-1].reason

    def _moved(self) -> list[GenerationMoved]:
        return [event for event in self.folder.events() if isinstance(event, GenerationMoved)]

    def _moved_of(self, generation: int) -> list[GenerationMoved]:
        return [one for one in self._moved() if one.generation == generation]

    def offer(self, generation: int, trained: dict[str, Floats] | None = None) -> None:
        """Leave a sound offer of `generation` for the gate."""
        ancestor = msgspec.structs.replace(self.workshop.artifact.manifest, generation=generation - 1)
        made = self.workshop.offer(generation, trained=trained, ancestor=ancestor)
        leave_offer(self.workshop.store.folder, made.pack())
