"""The server's memory of states: the newest ones, numbered from its start; one thread writes, many read."""

from __future__ import annotations

import threading
from collections import deque
from itertools import islice

STATES_MAX = 300_000


class StateRing:
    """States as they go over the wire; the newest `states_max` are kept, `count` is how many there have ever been."""

    def __init__(self, states_max: int = STATES_MAX) -> None:
        self.count = 0
        self._states: deque[bytes] = deque(maxlen=states_max)
        self._lock = threading.Lock()

    def append(self, state: bytes) -> None:
        """Keep `state`; its number is the count before."""
        with self._lock:
            self._states.append(state)
            self.count += 1

    def newest(self) -> bytes:
        """Return the newest state, an empty one before the first."""
        with self._lock:
            return self._states[-1] if self._states else b""

    def since(self, number: int) -> tuple[list[bytes], int]:
        """Return the states from `number` on, as far as they are still kept, and the number of the next."""
        with self._lock:
            kept = len(self._states)
            return list(islice(self._states, max(0, kept - (self.count - number)), None)), self.count
