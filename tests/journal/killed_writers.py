"""Forks writers of a journal and of an inbox and ends each at a random system call; checks what is left after every one.

Run with kill_at.so preloaded: killed_writers.py FOLDER COUNT SEED. Prints a line with what happened; fails with the trial's number.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import random
import shutil
import signal
import struct
import sys
from collections import Counter
from pathlib import Path

from poco.journal.disk import FolderDisk
from poco.journal.records import Ended, Missing, Stepped, Written, decode, encode
from poco.journal.segments import Entry
from poco.learner.inbox import LogInbox
from poco.records import EpisodeEnd, Step, StepKey
from poco.runtime.journal import Journal
from poco.surroundings import RealSurroundings

SEGMENT_BYTES = 1500
QUOTA_BYTES = 6000
EPISODE = 7
CALLS = 90
FRESH = 25
NUMBERS = struct.Struct("<qq")


def record(number: int) -> Stepped | Ended:
    """Record `number` of the one writer there is: six steps and an end, again and again; every third episode a person's."""
    episode, place = divmod(number - 1, EPISODE)
    if place == EPISODE - 1:
        return Ended(
            end=EpisodeEnd(
                robot="arm",
                boot_epoch=1,
                episode=episode,
                tick=0,
                final_observation=[],
                outcome="failure",
                terminated=True,
                truncated=False,
            )
        )
    return Stepped(
        step=Step(
            key=StepKey("arm", 1, episode, place),
            tick=number,
            generation=0,
            chunk_id=0,
            observation=[],
            action_policy=[],
            action_executed=[],
            reward=0.0,
            intervened=episode % 3 == 0,
        )
    )


def journal_on(folder: Path) -> Journal:
    """Open the journal; it drops what it may to stay within its quota."""
    return Journal(
        FolderDisk(folder),
        "arm",
        RealSurroundings(),
        quota_bytes=QUOTA_BYTES,
        drop_autonomous=True,
        segment_bytes=SEGMENT_BYTES,
    )


def write_journal(folder: Path, told: mmap.mmap, draw: random.Random) -> None:
    """Write until the end comes; tell what was acknowledged to us and by the learner."""
    journal = journal_on(folder)
    number = journal.receipts.get("policy", 0)
    acknowledged = NUMBERS.unpack(told)[1]
    journal.acknowledge(acknowledged)
    while True:
        for _ in range(draw.randrange(1, 6)):
            number += 1
            journal.append("policy", number, record(number))
        assert journal.commit()
        if draw.random() < 0.2:
            acknowledged = max(acknowledged, journal.durable_sequence - draw.randrange(20))
        told[:] = NUMBERS.pack(journal.receipts["policy"], acknowledged)
        journal.acknowledge(acknowledged)
        journal.make_room()


def check_journal(folder: Path, told: mmap.mmap, found: Counter[str]) -> None:
    """What was acknowledged is there, in order, once, as it was, or its drop is recorded."""
    durable, acknowledged = NUMBERS.unpack(told)
    journal = journal_on(folder)
    assert journal.first_sequence <= acknowledged + 1
    sequence, newest = journal.first_sequence, 0
    while sequence <= journal.durable_sequence:
        for entry in journal.read(sequence, 1 << 20):
            assert entry.sequence == sequence
            sequence = entry.following
            written = decode(entry.payload)
            assert isinstance(written, Written)
            if isinstance(written.record, Missing):
                assert written.record.reason == "dropped"
                assert written.record.episode is not None
                assert written.record.episode % 3 != 0
                found["dropped"] += entry.span
            elif written.writer == "policy":
                assert written.record == record(written.number)
                assert written.number > newest
                newest = written.number
    assert journal.receipts.get("policy", 0) >= durable
    journal.close()


def write_inbox(folder: Path, told: mmap.mmap, draw: random.Random) -> None:
    """Take and trim until the end comes; tell what was acknowledged."""
    inbox = LogInbox(FolderDisk(folder), "hash", SEGMENT_BYTES)
    while True:
        first = inbox.taken("arm", "journal") + 1
        count = draw.randrange(1, 6)
        entries = [
            Entry(number, 1, encode(Written("policy", number, 0, 0, record(number))))
            for number in range(first, first + count)
        ]
        inbox.take("arm", "journal", entries)
        inbox.meet("arm", first)
        inbox.commit()
        told[:] = NUMBERS.pack(inbox.durable("arm", "journal"), 0)
        if draw.random() < 0.2:
            inbox.trim(inbox.position - draw.randrange(10))


def check_inbox(folder: Path, told: mmap.mmap, found: Counter[str]) -> None:
    """The watermark names what is there, and what was acknowledged is."""
    disk = FolderDisk(folder)
    inbox = LogInbox(disk, "hash", SEGMENT_BYTES)
    assert inbox.durable("arm", "journal") >= NUMBERS.unpack(told)[0]
    assert inbox.gathering.counts["damaged in the inbox"] == 0
    found["inbox entries"] = max(found["inbox entries"], inbox.position)
    disk.close()


def main() -> None:
    """Fork, end, look, COUNT times."""
    folder, count, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    shim = ctypes.CDLL(None)
    told = mmap.mmap(-1, NUMBERS.size)
    found: Counter[str] = Counter()
    for trial in range(seed, seed + count):
        draw = random.Random(trial)
        write, check = (write_journal, check_journal) if trial // FRESH % 2 == 0 else (write_inbox, check_inbox)
        if trial % FRESH == 0 or trial == seed:
            shutil.rmtree(folder, ignore_errors=True)
            told[:] = NUMBERS.pack(0, 0)
        child = os.fork()
        if child == 0:
            shim.kill_at(ctypes.c_long(draw.randrange(1, CALLS)), draw.randrange(2))
            try:
                write(folder, told, draw)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), f"trial {trial}: the writer ended with {status}"
        assert os.WTERMSIG(status) == signal.SIGKILL
        try:
            check(folder, told, found)
        except BaseException as error:
            error.add_note(f"trial {trial}")
            raise
        found["kills"] += 1
    print(dict(found))


if __name__ == "__main__":
    main()
