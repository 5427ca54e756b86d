"""Fetches the newest snapshot a learner offers, part by part; a newer offer takes the place of one that is under way."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from poco.link.messages import FETCH_BYTES, FETCH_BYTES_MIN, Fetch, Offered, Part
from poco.link.pace import Pace

Take = Callable[[int, bytes], None]
"""Called with generation and content of every snapshot that arrived whole; the content is to be checked by whoever takes it."""

RETRY_NS = 3_000_000_000
"""Longer than a question and the first part of its answer take on a slow line that is full both ways."""


class Download:
    """Robot side of the way back; holds at most one snapshot of at most `max_bytes`."""

    def __init__(self, generation: int, take: Take, max_bytes: int) -> None:
        self.generation = generation
        self.refused = 0
        self._take, self._max_bytes = take, max_bytes
        self._offered: Offered | None = None
        self._content = bytearray()
        self._asked_ns: int | None = None
        self._heard_ns = 0
        self._asked_until = 0
        self._moved = False
        self._pace = Pace(FETCH_BYTES_MIN, FETCH_BYTES)

    def offer(self, offered: Offered) -> None:
        """Take note of a snapshot; one that is had already, or under way, or too large changes nothing.

        The newest word counts: a learner that lost its folder may offer less than was under way, which nobody has any more.
        """
        if offered.generation <= self.generation or offered == self._offered:
            return
        if offered.size > self._max_bytes:
            self.refused += 1
            self.generation = offered.generation
            return
        self._offered, self._content, self._asked_ns = offered, bytearray(), None

    def poll(self, now_ns: int) -> Fetch | None:
        """Return what to ask for now, if anything."""
        if self._offered is None:
            return None
        if self._asked_ns is not None:
            if len(self._content) >= self._asked_until:
                self._pace.passed(self._asked_ns, now_ns)
            else:
                if self._moved:
                    self._heard_ns, self._moved = now_ns, False
                if now_ns - self._heard_ns < RETRY_NS:
                    return None
                self._pace.start_over()
        size = self._pace.bytes
        self._asked_ns = self._heard_ns = now_ns
        self._asked_until, self._moved = len(self._content) + size, False
        return Fetch(digest=self._offered.digest, offset=len(self._content), size=size)

    def arrived(self, part: Part, content: bytes) -> None:
        """Add a part; one that was not asked for, or is longer than it may be, changes nothing."""
        offered = self._offered
        if offered is None or part.digest != offered.digest or part.offset != len(self._content):
            return
        if not 0 < len(content) <= min(self._asked_until, offered.size) - part.offset:
            return
        self._content += content
        self._moved = True
        if len(self._content) < offered.size:
            return
        self.generation, self._offered = offered.generation, None
        whole, self._content = bytes(self._content), bytearray()
        if hashlib.sha256(whole).hexdigest() == offered.digest:
            self._take(offered.generation, whole)
        else:
            self.refused += 1
