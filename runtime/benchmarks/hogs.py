"""Processes that keep the cores busy while something is measured, and end with whoever measures."""

from __future__ import annotations

import signal as signals
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from poco.parent import end_with_parent

HOG = "while True: pass"


@contextmanager
def hogs(count: int) -> Iterator[list[int]]:
    """Let `count` processes of ordinary priority keep a core busy each, and give their ids; for the main thread."""
    last = partial(end_with_parent, signals.SIGKILL)
    running = [subprocess.Popen([sys.executable, "-c", HOG], preexec_fn=last) for _ in range(count)]
    try:
        yield [hog.pid for hog in running]
    finally:
        for hog in running:
            hog.kill()
            hog.wait()
