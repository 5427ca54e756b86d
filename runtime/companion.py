"""Looks after a process that a run does better with and goes on without: it is started again where it has died."""

from __future__ import annotations

import time
from collections.abc import Callable

from poco.runtime.child import Child

PAUSE_S, PAUSE_MAX_S = 0.5, 10.0
NEXT_TO_GO = 250
"""When memory runs out these follow the policy process, before servo and supervisor, whatever those inherit."""


class Companion:
    """The supervisor's view of such a process; `missing` says what the run lacks while it is not there."""

    def __init__(self, start: Callable[[], Child], note: Callable[[str], None], missing: str) -> None:
        self._start, self._note, self._missing = start, note, missing
        self._begin()
        self._pause_s, self._again_s = PAUSE_S, 0.0

    def look(self) -> None:
        """Pass on what it says, start it again, later each time; the supervisor calls it in every round."""
        for line in self.child.lines():
            if line.startswith("note "):
                self._note(line.removeprefix("note "))
        if self.child.running:
            return
        now_s = time.monotonic()
        if self._again_s == 0.0:
            self._note(f"{self._missing}: {self.child.error()}")
            self._again_s = now_s + self._pause_s
        elif now_s >= self._again_s:
            self._pause_s, self._again_s = min(2.0 * self._pause_s, PAUSE_MAX_S), 0.0
            self._begin()

    def _begin(self) -> None:
        self.child = self._start()
        self.child.goes_before(NEXT_TO_GO)
