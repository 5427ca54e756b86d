"""Steps made durable: the journal's checked segments against SQLite (WAL, synchronous FULL), group by group in turns."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from poco.journal.disk import FolderDisk
from poco.journal.records import Stepped, Written, encode
from poco.records import Step, StepKey
from poco.runtime.benchmarks.outcome import Floats, Measurement, Outcome
from poco.runtime.journal import Journal
from poco.surroundings import RealSurroundings

OBSERVATION_SIZE, ACTION_SIZE = 24, 7
QUOTA_BYTES = 1 << 40
WRITER = "bench"


def run(folder: Path, repeats: int, groups: int, group_steps: int) -> Outcome:
    """Make `groups` groups of `group_steps` steps durable a repeat, both stores in `folder`; a sample is one group (us)."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as made:
        journal, database = _journal(Path(made) / "journal"), _sqlite(Path(made) / "sqlite")
        stores = {"journal": journal, "sqlite": database}
        samples: dict[str, list[Floats]] = {name: [] for name in stores}
        cpu_s = dict.fromkeys(stores, 0.0)
        count = 0
        for _ in range(repeats):
            took = {name: np.empty(groups) for name in stores}
            for group in range(groups):
                steps = [_step(count + number) for number in range(group_steps)]
                for name in stores if group % 2 else reversed(stores):
                    began_ns, began_cpu_s = time.perf_counter_ns(), time.process_time()
                    stores[name](count, steps)
                    took[name][group] = (time.perf_counter_ns() - began_ns) / 1e3
                    cpu_s[name] += time.process_time() - began_cpu_s
                count += group_steps
            for name in stores:
                samples[name].append(took[name])
        notes = [
            f"{name}: {count / sum(float(s.sum()) for s in samples[name]) * 1e6:.0f} durable steps/s, "
            f"{cpu_s[name] / count * 1e6:.0f} us of CPU and {_bytes(Path(made) / name) / count:.0f} bytes a step"
            for name in stores
        ]
    what = f"{group_steps} steps of {OBSERVATION_SIZE} + 2 x {ACTION_SIZE} numbers until they would survive a power cut"
    measurements = [Measurement(name, arrays) for name, arrays in samples.items()]
    return Outcome("journal", what, measurements, [("journal", "sqlite")], notes)


def _journal(folder: Path) -> Callable[[int, list[Step]], None]:
    journal = Journal(FolderDisk(folder), "bench", RealSurroundings(), quota_bytes=QUOTA_BYTES)

    def keep(first: int, steps: list[Step]) -> None:
        for number, step in enumerate(steps, start=first + 1):
            journal.append(WRITER, number, Stepped(step=step))
        if not journal.commit():
            raise OSError(journal.status.trouble)

    return keep


def _sqlite(folder: Path) -> Callable[[int, list[Step]], None]:
    folder.mkdir()
    database = sqlite3.connect(folder / "steps.db", isolation_level=None)
    database.execute("pragma journal_mode=wal")
    database.execute("pragma synchronous=full")
    database.execute("create table entries (sequence integer primary key, payload blob)")

    def keep(first: int, steps: list[Step]) -> None:
        rows = [
            (number, encode(Written(WRITER, number, time.monotonic_ns(), time.time_ns(), Stepped(step=step))))
            for number, step in enumerate(steps, start=first + 1)
        ]
        database.execute("begin")
        database.executemany("insert into entries values (?, ?)", rows)
        database.execute("commit")

    return keep


def _step(number: int) -> Step:
    value = (number % 1000) / 1000
    return Step(
        key=StepKey("bench", 1, number // 100, number % 100),
        tick=50 * number,
        generation=1,
        chunk_id=number // 5,
        observation=[value] * OBSERVATION_SIZE,
        action_policy=[value] * ACTION_SIZE,
        action_executed=[value] * ACTION_SIZE,
        reward=0.0,
    )


def step_bytes() -> int:
    """Return how many bytes an entry of the journal with one such step has."""
    return len(encode(Written(WRITER, 1, time.monotonic_ns(), time.time_ns(), Stepped(step=_step(1)))))


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())
