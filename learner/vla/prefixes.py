"""Prefixes that were computed, kept within a number of bytes: the oldest are given up, and made again when they are asked for."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

from poco.learner.vla.flow import Prefix


class Prefixes:
    """Prefixes of one policy by what they were made of; all copies of the policy and all threads share them.

    As many as `limit_bytes` allow are kept, at least one. `made` counts how many were computed.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._kept: OrderedDict[Hashable, Prefix] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self.made = 0

    @property
    def count(self) -> int:
        """Number of prefixes that are kept."""
        return len(self._kept)

    def of(self, keys: Sequence[Hashable], make: Callable[[list[int]], Prefix]) -> list[Prefix]:
        """Return one prefix for each of `keys`; `make` is told the places of those that are not kept, each key once."""
        with self._lock:
            places = {key: place for place, key in reversed(list(enumerate(keys))) if key not in self._kept}
            fresh: dict[Hashable, Prefix] = {}
            if places:
                made = make(list(places.values()))
                fresh = {key: made.one(row) for row, key in enumerate(places)}
                self.made += len(fresh)
            found = [fresh[key] if key in fresh else self._kept[key] for key in keys]
            for key, one in zip(keys, found, strict=True):
                self._keep(key, one)
            return found

    def _keep(self, key: Hashable, one: Prefix) -> None:
        if key not in self._kept:
            self._bytes += one.bytes_each
        self._kept[key] = one
        self._kept.move_to_end(key)
        while self._bytes > self.limit_bytes and len(self._kept) > 1:
            _, given_up = self._kept.popitem(last=False)
            self._bytes -= given_up.bytes_each
