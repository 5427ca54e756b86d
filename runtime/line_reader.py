"""Lines from a pipe, waited for or taken as they have come; nothing that was read for one line is lost for the next."""

from __future__ import annotations

import os
import select

READ_BYTES = 4096


class LineReader:
    """Reads the lines of one file descriptor; used by one thread."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._pending = b""

    def line(self) -> str:
        """Wait for the next line and return it without its end; empty when the other side is gone."""
        while b"\n" not in self._pending:
            if not (part := os.read(self._descriptor, READ_BYTES)):
                return ""
            self._pending += part
        line, _, self._pending = self._pending.partition(b"\n")
        return line.decode(errors="replace")

    def lines(self) -> list[str]:
        """Return the whole lines that have come since the last call, without waiting."""
        while select.select([self._descriptor], [], [], 0.0)[0]:
            if not (part := os.read(self._descriptor, READ_BYTES)):
                break
            self._pending += part
        *whole, self._pending = self._pending.split(b"\n")
        return [line.decode(errors="replace") for line in whole]
