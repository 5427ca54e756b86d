"""Ctrl-C, or another signal, during long work: the first one asks for a good end, the second one ends it at once."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_politely(note: str, *others: signal.Signals) -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether Ctrl-C was pressed or one of the signals `others` came.

    The first prints `note`, the second interrupts as usual. To be used in the main thread.
    """
    pressed = False

    def press(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        for one in before:
            signal.signal(one, signal.default_int_handler)
        print(note, file=sys.stderr)

    before = {one: signal.signal(one, press) for one in (signal.SIGINT, *others)}
    try:
        yield lambda: pressed
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
