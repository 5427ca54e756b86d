"""The newest frame of one camera in shared memory: whoever captures publishes, whoever looks takes the newest."""

from __future__ import annotations

import fcntl
import mmap
import os

import numpy as np
import numpy.typing as npt

from poco import _core
from poco.errors import PocoError
from poco.shm import DIRECTORY, PREFIX

FRAME = np.dtype([("tick", "i8"), ("captured_ns", "i8"), ("pixels", "u1", (224, 224, 3))], align=True)
"""camera -> policy, newest wins: RGB rows from the top, robot tick and CLOCK_MONOTONIC time of the exposure."""


class FrameMailbox:
    """One process' view of one camera; the file lives until `unlink()` or until `sweep()` finds nobody that holds it."""

    def __init__(self, name: str, *, create: bool) -> None:
        """Create or map the mailbox `name`; raises PocoError if it exists already, is missing or of another version."""
        self.path = DIRECTORY / f"{PREFIX}{name}"
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if create else 0), 0o600)
        except OSError as error:
            remedy = "choose another name" if create else "start the camera first"
            raise PocoError(f"frames {self.path}: {error.strerror}: {remedy}") from None
        fcntl.flock(self._file, fcntl.LOCK_SH)  # tells `sweep` that somebody is there
        if create:
            os.ftruncate(self._file, _core.FRAME_MAILBOX_BYTES)
        size = os.fstat(self._file).st_size
        if size != _core.FRAME_MAILBOX_BYTES:
            os.close(self._file)
            raise PocoError(
                f"frames {self.path} has {size} bytes, must have {_core.FRAME_MAILBOX_BYTES}: start all processes from one "
                "installation"
            )
        mapped = mmap.mmap(self._file, size)
        self._mailbox = np.frombuffer(mapped, np.dtype((np.void, size)))
        self._frame = np.zeros((), FRAME)
        self._number = 0

    def publish(self, frame: npt.NDArray[np.void]) -> None:
        """Publish one FRAME record; only the camera's process."""
        _core.publish_frame(self._mailbox, frame)

    def newest(self) -> npt.NDArray[np.void] | None:
        """Return the newest FRAME, None before the first; the record is overwritten by the next call. Any process."""
        self._number = _core.read_frame(self._mailbox, self._frame, self._number)
        return self._frame if self._number else None

    def unlink(self) -> None:
        """Remove the file; processes that have it mapped keep working. The camera's process only."""
        self.path.unlink(missing_ok=True)
