"""A disk in memory that loses what was not synced when the power goes, tears what was being written, and fails on request."""

from __future__ import annotations

import errno
import os
import random


class PowerCut(Exception):
    """The machine is off; whatever ran on it is gone."""


class LossyDisk:
    """Implements poco.journal.disk.Disk; `cut_in` operations from now the power goes in the middle of one."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.cut_in: int | None = None
        self.failing = 0.0
        self.operations = 0
        self._written: dict[str, bytes] = {}
        self._durable: dict[str, bytes] = {}
        self._forgotten: set[str] = set()

    def names(self) -> list[str]:
        """Return the names of all files in order."""
        return sorted(self._written)

    def read(self, name: str) -> bytes:
        """Return what was written to a file."""
        return self._written[name]

    def size(self, name: str) -> int:
        """Return its length."""
        return len(self._written[name])

    def append(self, name: str, content: bytes) -> None:
        """Write to the end; a failure or a power cut in the middle leaves a part."""
        if self._cut() or self._fails():
            self._written[name] += content[: self.random.randrange(len(content) + 1)]
            self._stop()
        self._written[name] += content

    def sync(self, name: str) -> None:
        """Make what was written durable; once that has failed it says so and does not, as Linux."""
        if self._cut():
            raise PowerCut
        if self._fails():
            self._forgotten.add(name)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if name not in self._forgotten:
            self._durable[name] = self._written[name]

    def truncate(self, name: str, size: int) -> None:
        """Cut down, durably."""
        if self._cut() or self._fails():
            self._stop()
        self._written[name] = self._written[name][:size]
        self._durable[name] = self._durable[name][:size]

    def replace(self, name: str, content: bytes) -> None:
        """Put in place durably; a power cut leaves the old or the new."""
        if self._cut():
            if self.random.random() < 0.5:
                self._written[name] = self._durable[name] = content
            raise PowerCut
        if self._fails():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._forgotten.discard(name)
        self._written[name] = self._durable[name] = content

    def remove(self, name: str) -> None:
        """Remove, durably; a failure or a power cut leaves it or not."""
        cut = self._cut()
        fails = not cut and self._fails()
        if not (cut or fails) or self.random.random() < 0.5:
            self._written.pop(name, None)
            self._durable.pop(name, None)
        if cut:
            raise PowerCut
        if fails:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def close(self) -> None:
        """Nothing to give back."""

    def power_cut(self) -> None:
        """Lose what was not synced but for a torn part of it."""
        for name, content in list(self._written.items()):
            durable = self._durable.get(name, b"")
            if not content.startswith(durable):
                content = durable
            rest = bytearray(content[len(durable) :][: self.random.randrange(len(content) - len(durable) + 1)])
            if rest and self.random.random() < 0.3:
                rest[self.random.randrange(len(rest))] ^= 1 << self.random.randrange(8)
            self._written[name] = self._durable[name] = durable + bytes(rest)
        self.cut_in = None

    def _cut(self) -> bool:
        self.operations += 1
        if self.cut_in is None:
            return False
        self.cut_in -= 1
        return self.cut_in < 0

    def _fails(self) -> bool:
        return self.failing > 0.0 and self.random.random() < self.failing

    def _stop(self) -> None:
        if self.cut_in is not None and self.cut_in < 0:
            raise PowerCut
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
