"""How many bytes may be under way on a line that nobody knows: as many as pass it within about a second."""

from __future__ import annotations

QUICK_NS = 700_000_000
SLOW_NS = 1_400_000_000


class Pace:
    """Doubles while what was sent gets through quickly, halves where it does not, and waits for what each change comes to."""

    def __init__(self, least: int, most: int) -> None:
        """Begin with `least` bytes under way, end with `most`."""
        self.bytes = least
        self._least, self._most = least, most
        self._judged_from_ns = 0

    def start_over(self) -> None:
        """What was sent is lost, or the line may be another one."""
        self.bytes = self._least

    def passed(self, sent_ns: int, now_ns: int) -> None:
        """What was sent at `sent_ns`, with as much under way as may be, has got through."""
        took_ns = now_ns - sent_ns
        if sent_ns < self._judged_from_ns:
            return
        if took_ns > SLOW_NS:
            self.bytes = max(self.bytes // 2, self._least)
        elif took_ns < QUICK_NS:
            self.bytes = min(2 * self.bytes, self._most)
        else:
            return
        self._judged_from_ns = now_ns + took_ns
