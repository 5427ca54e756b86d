"""Whole processes killed at any time, a disk that is full: nothing is lost or doubled."""

from __future__ import annotations

import os
import random
import resource
import time
from pathlib import Path

import pytest

from link_run import LearnerProcess, LinkRun, finished, free_address, steps_of, until
from poco.journal.records import Stepped
from poco.learner.journal_audit import Audit
from poco.learner.journal_files import JournalFiles
from poco.learner.link_server import LinkServer
from synthetic_run import specification

DIGEST = specification().digest()
KILLS = 40
LENGTH = 20


def assert_all_arrived(run: LinkRun, server: LinkServer) -> None:
    """Learner and journal have every step and every episode that was offered, once and in order."""
    episodes = finished(server, run.writer.episode)
    assert [list(episode.steps) for episode in episodes] == steps_of(run.writer.offered)
    audit = Audit(JournalFiles(run.journal))
    assert audit.violations == []
    assert not any(name.startswith("missing") for name in audit.counts)
    assert server.next_finished() is None


def kill_processes(folder: Path, host: str, count: int, seed: int) -> tuple[int, int]:
    """Kill link process or learner `count` times while steps are made; return how often each, after all has been checked."""
    draw, killed = random.Random(seed), [0, 0]
    address = free_address(host)
    run, learner = LinkRun(folder, "arm1", address), LearnerProcess(folder / "inbox", address, DIGEST)
    try:
        run.writer.begin()
        for _ in range(count):
            for _ in range(draw.randrange(1, 6)):
                run.writer.make(draw.randrange(1, 40), LENGTH)
                time.sleep(0.05 * draw.random())
            victim = draw.randrange(2)
            killed[victim] += 1
            (run, learner)[victim].kill()
            (run, learner)[victim].start()
        run.writer.make(LENGTH, LENGTH)
        run.writer.settle()
    finally:
        learner.kill()
    server = LinkServer(folder / "inbox", DIGEST, address, None)
    try:
        assert_all_arrived(run, server)
    finally:
        run.kill()
        server.close()
    return killed[0], killed[1]


def test_killed_processes(tmp_path: Path) -> None:
    """40 kills of link process or learner, at any time, without any care."""
    robot, learner = kill_processes(tmp_path, "127.0.18.31", KILLS, 0)
    assert robot + learner == KILLS
    assert min(robot, learner) > 10


@pytest.mark.proof
def test_five_hundred_killed_processes(tmp_path: Path) -> None:
    """POCO_COUNT (500) kills with POCO_SEED."""
    count, seed = int(os.environ.get("POCO_COUNT", "500")), int(os.environ.get("POCO_SEED", "1000"))
    robot, learner = kill_processes(tmp_path, "127.0.18.32", count, seed)
    print(f"\n{robot} kills of the link process, {learner} of the learner: 0 steps lost or doubled")


def test_full_disk(tmp_path: Path) -> None:
    """A disk that takes no more is told to the writer in a sentence, nothing is lost meanwhile, and it goes on with new room."""
    run = LinkRun(tmp_path, "arm1")
    writer = run.writer
    try:
        writer.begin()
        writer.make(3 * LENGTH, LENGTH)
        writer.settle()
        size = sum(file.stat().st_size for file in run.journal.glob("*.seg"))
        _, hard = resource.prlimit(run.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(run.process.pid, resource.RLIMIT_FSIZE, (size + 1000, hard))
        writer.make(10 * LENGTH, LENGTH)

        def told() -> bool:
            writer.entrance.pump()
            return bool(writer.entrance.spool.trouble)

        until(told, "for the trouble")
        assert "the journal cannot be written" in writer.entrance.spool.trouble
        assert writer.entrance.spool.waiting > 0
        resource.prlimit(run.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        writer.settle()
        assert "cannot be written" in run.stop()
        files = JournalFiles(run.journal)
        assert Audit(files).violations == []
        steps = [
            written.record for _, written in files.all() if written is not None and isinstance(written.record, Stepped)
        ]
        assert steps == [record for record in writer.offered if isinstance(record, Stepped)]
    finally:
        run.kill()
