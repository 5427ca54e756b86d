"""A process that does not outlive the one that started it."""

from __future__ import annotations

import ctypes
import signal

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


def end_with_parent(number: signal.Signals) -> None:
    """Have the kernel send `number` to this process when the thread that started it ends.

    To be called by the new process, also before its program begins, as `preexec_fn`.
    """
    _LIBC.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
