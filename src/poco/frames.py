"""The newest frames of one camera in shared memory: whoever captures publishes, whoever looks takes the newest."""

from __future__ import annotations

import fcntl
import mmap
import os
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from poco import _core
from poco.errors import PocoError
from poco.records import FRAME_HEAD
from poco.shm import DIRECTORY, PREFIX

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as it was published: its FRAME_HEAD record and its pixels [H, W, 3], red green blue, rows from the top."""

    head: npt.NDArray[np.void]
    pixels: Pixels


def ring_name(run_name: str, camera: str) -> str:
    """Return the name under which the frames of `camera` lie during the run `run_name`."""
    return f"{run_name}.{camera}"


class FrameRing:
    """One process' view of one camera; the file lives until `unlink()` or until `sweep()` finds nobody that holds it."""

    def __init__(self, name: str, size: tuple[int, int] | None = None) -> None:
        """Create the ring `name` of frames of `size` (height, width), or map the one that is there.

        Raises PocoError if it exists already, is missing or of another version.
        """
        self.path = DIRECTORY / f"{PREFIX}{name}"
        create = size is not None
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if create else 0), 0o600)
        except OSError as error:
            remedy = "choose another name" if create else "start the run that has this camera first"
            raise PocoError(f"frames {self.path}: {error.strerror}: {remedy}") from None
        fcntl.flock(self._file, fcntl.LOCK_SH)  # tells `sweep` that somebody is there
        try:
            if size is not None:
                os.posix_fallocate(self._file, 0, _core.frame_ring_bytes(*size))
            mapped = mmap.mmap(self._file, os.fstat(self._file).st_size)
            self._memory = np.frombuffer(mapped, np.uint8)
            if size is not None:
                _core.begin_frames(self._memory, *size)
            self.size = _core.frame_size(self._memory)
        except (OSError, ValueError) as error:
            os.close(self._file)
            raise PocoError(
                f"frames {self.path} cannot be used ({error}): free space in {DIRECTORY}, start all processes from one installation"
            ) from None
        self._frames = tuple(Frame(np.zeros((), FRAME_HEAD), np.zeros((*self.size, 3), np.uint8)) for _ in range(2))
        self._number, self._whole = 0, 0

    def publish(self, frame: Frame) -> None:
        """Publish `frame`; raises TypeError if it is of another size. Only the camera's process."""
        _core.publish_frame(self._memory, frame.head, np.ascontiguousarray(frame.pixels))

    def newest(self) -> Frame | None:
        """Return the newest frame, None before the first; it is overwritten by the call after the next. Any process."""
        spare = self._frames[1 - self._whole]
        number = _core.read_frame(self._memory, spare.head, spare.pixels, self._number)
        if number != self._number:
            self._number, self._whole = number, 1 - self._whole
        return self._frames[self._whole] if self._number else None

    def unlink(self) -> None:
        """Remove the file; processes that have it mapped keep working. Whoever created it."""
        self.path.unlink(missing_ok=True)
