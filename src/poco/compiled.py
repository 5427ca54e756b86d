"""The decorator of compiled kernels, with an on-disk cache that belongs to one state of all their sources.

numba files a compiled function by the time stamp of its own source file only, although callees of other files are
inlined into it; without the digest below an edit of a callee would go unnoticed.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numba

_HERE = Path(__file__).parent
_SOURCES = ("bounds", "clock", "enclosure", "images", "kinematics", "profile", "spline", "targets", "verification")


def _digest() -> str:
    total = hashlib.sha256()
    for name in _SOURCES:
        total.update((_HERE / f"{name}.py").read_bytes())
    return total.hexdigest()[:16]


_BASE = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
numba.config.CACHE_DIR = str(Path(_BASE) / "poco" / _digest())

kernel = numba.njit(cache=True, error_model="numpy")
"""Compile a function without the interpreter, never raising on division by zero, and keep the code for the next process."""
