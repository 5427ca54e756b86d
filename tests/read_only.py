"""A folder in which nothing can be made, renamed or removed, not even by root."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_VERSION_3 = 0x20080522
_DAC_OVERRIDE = 1 << 1


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let this thread change nothing in `folder` until the block ends; trying to raises OSError (Permission denied)."""
    mode = folder.stat().st_mode
    folder.chmod(0o500)
    held = _capabilities()
    _set_capabilities([held[0] & ~_DAC_OVERRIDE, *held[1:]])
    try:
        yield
    finally:
        _set_capabilities(held)
        folder.chmod(mode)


def _capabilities() -> list[int]:
    """Return the words of effective, permitted and inheritable capabilities of this thread, twice 32 bits of each."""
    words = (ctypes.c_uint32 * 6)()
    _call("capget", words)
    return list(words)


def _set_capabilities(words: list[int]) -> None:
    _call("capset", (ctypes.c_uint32 * 6)(*words))


def _call(name: str, words: ctypes.Array[ctypes.c_uint32]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)((ctypes.c_uint32 * 2)(_VERSION_3, 0), words) != 0:
        raise OSError(ctypes.get_errno(), name)
