"""Offers waiting for the gate: one file each, written beside and renamed by the link process; the newest wins."""

from __future__ import annotations

import itertools
from pathlib import Path

from poco.clock import monotonic_ns

FOLDER = "incoming"
SUFFIX = ".offer"
PART = "offer.part"
"""One name for all, so that what a full disk or a killed process has left of an offer is overwritten by the next."""

_numbers = itertools.count()


def leave_offer(store: Path, packed: bytes) -> None:
    """Leave an offer for the gate; the link process calls it. It need not survive a loss of power: the publisher repeats it."""
    folder = store / FOLDER
    folder.mkdir(exist_ok=True)
    final = folder / f"{monotonic_ns():020d}-{next(_numbers):06d}{SUFFIX}"
    beside = folder / PART
    beside.write_bytes(packed)
    beside.rename(final)


def newest_offer(store: Path, bytes_max: int) -> bytes | None:
    """Take the newest offer away and return it, or its first `bytes_max` + 1 bytes; None without one. Older ones are dropped."""
    files = sorted((store / FOLDER).glob(f"*{SUFFIX}"))
    if not files:
        return None
    with files[-1].open("rb") as stream:
        packed = stream.read(bytes_max + 1)
    for file in files:
        file.unlink()
    return packed
