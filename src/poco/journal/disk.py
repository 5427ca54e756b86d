"""The few things a log asks of a disk, as a Protocol, so that a simulation can lose what was not yet durable; and the real one."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Protocol

from poco.durable import sync_folder, write_durably
from poco.errors import ArtifactError, PocoError, UsageError

LOCK = "lock"
_PART = ".part"


class Files(Protocol):
    """One flat folder of files to read. Every call may raise OSError."""

    def names(self) -> list[str]:
        """Return the names of all files in order."""
        ...

    def read(self, name: str) -> bytes:
        """Return the whole content of a file."""
        ...

    def size(self, name: str) -> int:
        """Return the length of a file in bytes."""
        ...


class Disk(Files, Protocol):
    """One flat folder of files; nothing appended is durable before `sync` has returned. Every call may raise OSError."""

    def append(self, name: str, content: bytes) -> None:
        """Write `content` to the end of a file that is there; may leave a part of it on an error."""
        ...

    def sync(self, name: str) -> None:
        """Return when everything appended to the file would survive a power cut."""
        ...

    def truncate(self, name: str, size: int) -> None:
        """Cut a file down to `size` bytes, durably."""
        ...

    def replace(self, name: str, content: bytes) -> None:
        """Make a file of `content`, durably and all at once: a power cut leaves what was there before or all of it."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file, durably; after an error it may be gone or not, and may be removed again."""
        ...

    def close(self) -> None:
        """Give the folder back."""
        ...


class FolderFiles:
    """A folder of a real filesystem that another process may be writing."""

    def __init__(self, folder: Path) -> None:
        """Look at `folder`; raises ArtifactError if it is not there."""
        if not folder.is_dir():
            raise ArtifactError(f"no journal at {folder}: name a folder that a run or a learner made")
        self.folder = folder

    def names(self) -> list[str]:
        """Return the names of all files in order; the lock and half-written replacements are none."""
        return sorted(e.name for e in os.scandir(self.folder) if e.name != LOCK and not e.name.endswith(_PART))

    def read(self, name: str) -> bytes:
        """Return the whole content of a file."""
        return (self.folder / name).read_bytes()

    def size(self, name: str) -> int:
        """Return the length of a file in bytes."""
        return (self.folder / name).stat().st_size


class FolderDisk(FolderFiles):
    """A folder of a real filesystem, locked for this process until `close`."""

    def __init__(self, folder: Path) -> None:
        """Make and lock `folder`; raises UsageError if it cannot be made, PocoError if another process has it."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UsageError(
                f"journal folder {folder} cannot be made ({error.strerror}): choose a folder you may write to"
            ) from error
        super().__init__(folder)
        self._open: tuple[str, int] | None = None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise PocoError(
                f"journal folder {folder} is in use by another process: end that, or give this one a name of its own "
                "(poco-runtime --robot.name, poco-learner serve --out)"
            ) from None

    def append(self, name: str, content: bytes) -> None:
        """Write `content` to the end of a file that is there; raises OSError if not all of it could be written.

        It stays open until another one is written to.
        """
        file, rest = self._file(name), memoryview(content)
        while rest:
            rest = rest[os.write(file, rest) :]

    def sync(self, name: str) -> None:
        """Return when everything appended to the file would survive a power cut."""
        os.fdatasync(self._file(name))

    def truncate(self, name: str, size: int) -> None:
        """Cut a file down to `size` bytes, durably."""
        self._close()
        file = os.open(self.folder / name, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.ftruncate(file, size)
            os.fsync(file)
        finally:
            os.close(file)

    def replace(self, name: str, content: bytes) -> None:
        """Make a file of `content`, durably and all at once."""
        self._close()
        write_durably(self.folder / name, content)

    def remove(self, name: str) -> None:
        """Remove a file, durably: of several removed one after the other no later one is gone while an earlier one is back."""
        self._close()
        (self.folder / name).unlink(missing_ok=True)
        sync_folder(self.folder)

    def close(self) -> None:
        """Close every file and give the folder back."""
        self._close()
        os.close(self._lock)

    def _file(self, name: str) -> int:
        if self._open is None or self._open[0] != name:
            self._close()
            self._open = name, os.open(self.folder / name, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        return self._open[1]

    def _close(self) -> None:
        if self._open is not None:
            os.close(self._open[1])
            self._open = None
