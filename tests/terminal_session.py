"""A person at the terminal in which `poco-runtime record` runs."""

from __future__ import annotations

import os
import pty
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from poco.runtime.run_folder import Event, RunFolder
from programs import Program


@dataclass
class Session:
    """A running program whose keys are typed at `terminal`, and its run folder."""

    program: Program
    terminal: int
    folder: Path

    def type_until(self, keys: str, condition: Callable[[list[Event]], bool]) -> None:
        """Type `keys` again and again, as a hand that holds them, until the events of the run meet `condition`."""

        def met() -> bool:
            self.press(keys)
            time.sleep(0.05)
            return (self.folder / "run.json").is_file() and condition(RunFolder.open(self.folder).events())

        self.program.until(met)

    def press(self, keys: str) -> None:
        """Type `keys` once, if anybody reads: nobody does while the run is brought up."""
        with suppress(BlockingIOError):
            os.write(self.terminal, keys.encode())

    def events(self, kind: type[Event]) -> list[Event]:
        """The events of one kind so far."""
        return [event for event in RunFolder.open(self.folder).events() if isinstance(event, kind)]


def seen(kind: type, count: int) -> Callable[[list[Event]], bool]:
    """A condition: so many events of one kind are there."""
    return lambda events: sum(isinstance(event, kind) for event in events) >= count


@contextmanager
def sitting(folder: Path) -> Iterator[Callable[..., Session]]:
    """Give what starts `poco-runtime` in a terminal, with arguments and the run folder `folder`/run; it ends with the block."""
    types, reads = pty.openpty()
    os.set_blocking(types, False)
    running: list[Program] = []

    def start(*arguments: str) -> Session:
        flags = [*arguments, "--out", str(folder / "run")]
        running.append(Program("poco-runtime", *flags, folder=folder, stdin=reads))
        return Session(running[-1], types, folder / "run")

    try:
        yield start
    finally:
        for program in running:
            program.end()
        os.close(types)
        os.close(reads)
