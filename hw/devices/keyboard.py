"""The keys of a terminal as a device: one press moves a little, a key that is held moves on.

A terminal tells of presses and repeats, never of releases. So a press counts for one look, and a key that repeats counts until its
repeats stay away for longer than REPEAT_S. No package is needed, and no display.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from poco.clock import monotonic_ns

from .device import Device, Reading, at_rest, bounded

REPEAT_S = 0.15
"""Longest pause between two repeats of a key that is held: a terminal repeats 10 to 30 times a second."""

MOTIONS = {
    "w": (0, 1.0),
    "s": (0, -1.0),
    "a": (1, 1.0),
    "d": (1, -1.0),
    "r": (2, 1.0),
    "f": (2, -1.0),
    "z": (3, 1.0),
    "c": (3, -1.0),
}
"""Key to axis and direction: away and back, left and right, up and down, turn left and right."""

SPEEDS = {"1": 0.1, "2": 0.35, "3": 1.0}
"""Key to deflection: fine, middle, fast."""


class Keyboard(Device):
    """`keys` gives the keys that the console has read since it was asked last; policy process only."""

    def __init__(self, keys: Callable[[], Iterable[str]], clock: Callable[[], int] = monotonic_ns) -> None:
        self._keys, self._clock = keys, clock
        self._pressed_ns: dict[str, int] = {}
        self._held: set[str] = set()
        self._speed = SPEEDS["2"]

    def read(self) -> Reading:
        """Return what the keys ask for that were pressed since the last look or are held; a key that means nothing is ignored."""
        now_ns, fresh = self._clock(), set()
        for key in self._keys():
            if key in SPEEDS:
                self._speed = SPEEDS[key]
            elif key in MOTIONS:
                fresh.add(key)
        recent = {key for key, pressed_ns in self._pressed_ns.items() if now_ns - pressed_ns <= REPEAT_S * 1e9}
        self._held = (self._held | fresh) & recent
        self._pressed_ns |= dict.fromkeys(fresh, now_ns)
        deflection = at_rest()
        for key in fresh | self._held:
            axis, direction = MOTIONS[key]
            deflection[axis] += direction
        return Reading(bounded(self._speed * deflection))
