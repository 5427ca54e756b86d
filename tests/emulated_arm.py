"""An emulated arm as a program of its own, with its task port."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from poco.hw.task_signals import EmulatorSignals
from programs import Program


@contextmanager
def emulated_arm(host: str, folder: Path, *flags: str) -> Iterator[EmulatorSignals]:
    """Start `poco-emulator` at `host` with `flags`, its output in `folder`; it ends with the block."""
    program = Program("poco-emulator", "--host", host, *flags, folder=folder)
    try:
        program.until(lambda: "ready" in program.out)
        with EmulatorSignals(host) as signals:
            yield signals
    finally:
        program.end()
