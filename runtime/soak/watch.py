"""What the processes of a run hold, read from /proc: memory, open handles, threads, shared memory."""

from __future__ import annotations

from pathlib import Path

import msgspec

PROC = Path("/proc")
SHARED = Path("/dev/shm")
SUPERVISOR = "supervisor"


class ProcessSample(msgspec.Struct, frozen=True, kw_only=True):
    """One process at one time; memory in KiB: resident, its share of resident, and what it allocated itself."""

    pid: int
    rss_kib: int
    pss_kib: int
    anonymous_kib: int
    handles: int
    threads: int


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """All processes of a run `elapsed_s` after its start, by name, and the files it has in shared memory."""

    elapsed_s: float
    processes: dict[str, ProcessSample]
    shared_files: int
    shared_kib: int


def look(supervisor: int, run_name: str, elapsed_s: float) -> Sample:
    """Return what the processes under `supervisor` (a process id) hold now; one that is just ending is left out."""
    samples = {name: _process(pid) for name, pid in {SUPERVISOR: supervisor, **children(supervisor)}.items()}
    sizes = [path.stat().st_size for path in SHARED.glob(f"poco-{run_name}*")]
    return Sample(
        elapsed_s=round(elapsed_s, 3),
        processes={name: sample for name, sample in samples.items() if sample},
        shared_files=len(sizes),
        shared_kib=sum(sizes) // 1024,
    )


def children(process: int) -> dict[str, int]:
    """Return the ids of the `python -m MODULE` processes that `process` has started, by the last word of the module."""
    found = {}
    try:
        numbers = (PROC / f"{process}/task/{process}/children").read_text().split()
        for number in numbers:
            words = (PROC / number / "cmdline").read_text().split("\0")
            if "-m" in words:
                found[words[words.index("-m") + 1].rpartition(".")[2]] = int(number)
    except (OSError, ProcessLookupError):
        return found
    return found


def _process(pid: int) -> ProcessSample | None:
    folder = PROC / str(pid)
    try:
        memory = _fields(folder / "smaps_rollup")
        return ProcessSample(
            pid=pid,
            rss_kib=memory["Rss"],
            pss_kib=memory["Pss"],
            anonymous_kib=memory["Anonymous"],
            handles=len(list((folder / "fd").iterdir())),
            threads=_fields(folder / "status")["Threads"],
        )
    except (OSError, ProcessLookupError, KeyError):
        return None


def _fields(path: Path) -> dict[str, int]:
    """Return the lines "Name: NUMBER ..." of a file of /proc."""
    rows = (line.partition(":") for line in path.read_text().splitlines())
    return {name: int(first) for name, _, rest in rows if (first := (rest.split() or [""])[0]).isdigit()}
