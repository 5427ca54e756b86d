"""Offers waiting for the gate: one file each, written beside and renamed by the link process; the newest wins."""

from __future__ import annotations

from pathlib import Path

FOLDER = "incoming"
SUFFIX = ".offer"
PART = "offer.part"
"""One name for all, so that what a full disk or a killed process has left of an offer is overwritten by the next."""


def leave_offer(store: Path, packed: bytes) -> None:
    """Leave an offer for the gate; the link process calls it. It need not survive a loss of power: the publisher repeats it.

    Its number follows the highest that waits, whichever process, before whichever start of this computer, has left that.
    """
    folder = store / FOLDER
    folder.mkdir(exist_ok=True)
    number = max(map(_number, _waiting(folder)), default=0) + 1
    beside = folder / PART
    beside.write_bytes(packed)
    beside.rename(folder / f"{number:020d}{SUFFIX}")


def newest_offer(store: Path, bytes_max: int) -> bytes | None:
    """Take the newest offer away and return it, or its first `bytes_max` + 1 bytes; None without one. Older ones are dropped."""
    files = sorted(_waiting(store / FOLDER), key=_number)
    if not files:
        return None
    with files[-1].open("rb") as stream:
        packed = stream.read(bytes_max + 1)
    for file in files:
        file.unlink()
    return packed


def _waiting(folder: Path) -> list[Path]:
    return list(folder.glob(f"*{SUFFIX}"))


def _number(file: Path) -> int:
    """Return the number of an offer, -1 where the name is none of ours."""
    number = file.name.removesuffix(SUFFIX)
    return int(number) if number.isdecimal() else -1
