"""Limits on memory that the servo shares with other processes.

The vendor's library has the kernel allocate in every tick (each look at its TCP connection makes and closes an epoll set). Those
pages are charged to the servo's control group: where the group is at its limit the kernel first looks for memory to reclaim, or
for a process to end, in the servo's thread and inside its tick.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path("/")
UNLIMITED_BYTES = 1 << 60
"""What no computer has: version 1 of control groups says "unlimited" with such a number."""

V1, V2 = ("memory.limit_in_bytes",), ("memory.max", "memory.high")


def memory_limit(root: Path = ROOT) -> tuple[Path, int] | None:
    """Return the tightest limit on the memory of this process' control groups: its file and bytes, None without one.

    Versions 1 and 2 of control groups, every ancestor that can be seen. Any process may call it.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    found: list[tuple[int, Path]] = []
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("memory" if controllers else "")
        group = top / name.lstrip("/")
        for folder in (group, *group.parents):
            if not folder.is_relative_to(top):
                break
            found += [
                (limit, folder / file) for file in (V1 if controllers else V2) if (limit := _limit(folder / file))
            ]
    limit, file = min(found, default=(UNLIMITED_BYTES, ROOT))
    return (file, limit) if limit < UNLIMITED_BYTES else None


def _limit(file: Path) -> int:
    """Return the bytes in a control group's file, 0 where it is missing or says "max"."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return 0
