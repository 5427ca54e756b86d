"""The log: order, commits, reading back, room, and a disk that fails."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lossy_disk import LossyDisk
from poco.errors import PocoError
from poco.journal.disk import FolderDisk, FolderFiles
from poco.journal.log import Log, LogReader
from poco.journal.segments import DAMAGED, Entry, encode, segment_name


def head() -> bytes:
    return b"head"


def filled(disk: FolderDisk | LossyDisk, count: int, segment_bytes: int = 200) -> Log:
    log = Log(disk, head, segment_bytes)
    for number in range(count):
        log.append(b"%03d" % number)
        if number % 3 == 2:
            log.commit()
    log.commit()
    return log


def numbers(log: LogReader, sequence: int = 1) -> list[int]:
    """Read everything from `sequence` on in small portions."""
    found: list[int] = []
    while entries := log.read(sequence, 100):
        found += [int(entry.payload) for entry in entries]
        sequence = entries[-1].following
    return found


def test_everything_comes_back(tmp_path: Path) -> None:
    """Entries over many segments come back in order, from any number on, by the writer, a reader and the next writer."""
    disk = FolderDisk(tmp_path)
    log = filled(disk, 50)
    assert len(log.starts) > 5
    assert numbers(log) == numbers(LogReader(disk)) == list(range(50))
    assert numbers(log, 31) == list(range(30, 50))
    disk.close()
    again = Log(FolderDisk(tmp_path), head, 200)
    assert numbers(again) == list(range(50))
    assert again.durable_sequence == 50
    assert again.append(b"050") == 51
    again.commit()
    assert numbers(again) == list(range(51))


def test_nothing_counts_before_commit() -> None:
    """What was only appended is neither read nor there after a power cut."""
    disk = LossyDisk(0)
    log = filled(disk, 10, 10_000)
    log.append(b"010")
    assert log.durable_sequence == 10
    assert numbers(log) == list(range(10))
    disk.power_cut()
    assert numbers(Log(disk, head)) == list(range(10))


def test_failed_sync_is_not_trusted() -> None:
    """After a failed sync the same entries go to a new segment, once, and a power cut finds them there."""
    disk = LossyDisk(1)
    log = filled(disk, 6, 10_000)
    log.append(b"006")
    disk.failing = 1.0
    for _ in range(3):
        with pytest.raises(OSError, match=r"(Input/output|No space)"):
            log.commit()
    assert log.durable_sequence == 6
    disk.failing = 0.0
    log.append(b"007")
    log.commit()
    assert log.starts == (1, 7)
    disk.power_cut()
    assert numbers(Log(disk, head)) == list(range(8))


def test_what_a_dead_writer_left_is_not_trusted() -> None:
    """What a writer that died left unsynced may be read, but counts only once it is durable."""
    disk = LossyDisk(2)
    log = filled(disk, 6, 10_000)
    log.append(b"006")
    disk.failing = 1.0
    with pytest.raises(OSError, match=r"(Input/output|No space)"):
        log.commit()
    disk.failing = 0.0
    disk.append(segment_name(1), encode(Entry(7, 1, b"006")))
    following = Log(disk, head)
    known = following.durable_sequence
    disk.power_cut()
    assert Log(disk, head).durable_sequence == known == 7


def test_damage_is_a_gap_and_told(tmp_path: Path) -> None:
    """A damaged entry in an old segment is one DAMAGED entry in its place, a missing segment one for all of it."""
    disk = FolderDisk(tmp_path)
    log = filled(disk, 30)
    first, second, third = log.starts[:3]
    content = bytearray(disk.read(segment_name(first)))
    content[content.index(b"001")] ^= 1
    (tmp_path / segment_name(first)).write_bytes(content)
    os.remove(tmp_path / segment_name(second))
    entries = list(LogReader(FolderFiles(tmp_path)).all())
    assert [entry for entry in entries if entry.payload == DAMAGED] == [
        Entry(2, 1, DAMAGED),
        Entry(second, third - second, DAMAGED),
    ]
    assert sum(entry.span for entry in entries) == 30


def test_room(tmp_path: Path) -> None:
    """Old segments go when nothing in them is needed, the newest never; what is gone reads as one gap."""
    log = filled(FolderDisk(tmp_path), 30)
    before = log.used_bytes
    while log.remove_oldest(log.durable_sequence + 1):
        pass
    assert len(log.starts) == 1
    assert log.used_bytes < before / 3
    assert log.used_bytes == sum(file.stat().st_size for file in tmp_path.glob("*.seg"))
    assert log.read(1, 100) == [Entry(1, log.first_sequence - 1, DAMAGED)]
    assert numbers(log, log.first_sequence) == list(range(log.first_sequence - 1, 30))


def test_handles_do_not_grow_with_the_segments(tmp_path: Path) -> None:
    """A log of many segments holds as many files open as one of few."""
    disk = FolderDisk(tmp_path)
    log = filled(disk, 9)
    few = len(os.listdir("/proc/self/fd"))
    for number in range(300):
        log.append(b"%03d" % number)
        log.commit()
    assert len(log.starts) > 50
    assert len(os.listdir("/proc/self/fd")) == few
    disk.close()


def test_one_writer(tmp_path: Path) -> None:
    """A folder has one writer at a time; the next may come when the first has closed it."""
    first = FolderDisk(tmp_path)
    with pytest.raises(PocoError, match="in use by another process"):
        FolderDisk(tmp_path)
    first.close()
    FolderDisk(tmp_path).close()
