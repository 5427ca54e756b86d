"""How much time and memory a policy is allowed before its first chunk: it is read, opened and run, so both grow with its size.

A SmolVLA of 1.6 GB on one thread of a busy computer took 13 s to read, 19 s to open and 28 s a chunk, of which a session makes
seven before motion (five golden cases, two to warm up): 140 s a GB, with 4.5 GB of memory at most (`bench/RESULTS.md`). About
twice of both is allowed. What is offered to a robot is bounded by `swap.offer_bytes_max`, and so is what it may take.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

SECONDS_PER_GB = 300.0
MEMORY_PER_BYTE = 6


def allowed_s(least_s: float, policy_bytes: int) -> float:
    """Return the time (s) that opening a policy of `policy_bytes` may take where one without any weights may take `least_s`."""
    return least_s + SECONDS_PER_GB * policy_bytes / 1e9


def allowed_bytes(least_bytes: int, policy_bytes: int) -> int:
    """Return the memory that opening a policy of `policy_bytes` may take where one without any weights may take `least_bytes`."""
    return least_bytes + MEMORY_PER_BYTE * policy_bytes


def bytes_of(folders: Iterable[Path]) -> int:
    """Return the size of all files of the artifacts in `folders`; raises OSError for a folder that is not there."""
    return sum(file.stat().st_size for folder in folders for file in folder.iterdir())
