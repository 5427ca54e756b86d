"""Files that outlive a power cut: what is written is on the disk when these return, whole or not at all. Any process.

All of them raise OSError, which names the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def write_durably(path: Path, payload: bytes) -> None:
    """Write `payload` beside `path`, fsync it, rename it over `path` and fsync the folder; an error leaves what was there."""
    beside = path.with_name(path.name + ".part")
    try:
        with _named(path), beside.open("wb") as stream:
            stream.write(payload)
            stream.flush()
            os.fsync(stream.fileno())
        beside.rename(path)
    except OSError:
        with suppress(OSError):
            beside.unlink()
        raise
    sync_folder(path.parent)


def append_durably(path: Path, payload: bytes) -> None:
    """Write `payload` to the end of `path`, which is made if it is not there, and fsync it; an error may leave a part of it."""
    with _named(path), path.open("ab") as stream:
        stream.write(payload)
        stream.flush()
        os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Return when what was made, renamed and removed in `folder` would survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Let an error of a write, which knows of no file, say that it was `path`."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
