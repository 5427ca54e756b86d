"""A learner that is away: the journal keeps within its quota, says what that costs, and everything kept arrives when it is back."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import away
import pytest

from link_run import LearnerProcess, LinkRun, finished, free_address, keys_for, steps_of, until
from poco.journal.disk import FolderFiles
from poco.journal.records import Missing, Noted, Record, Stepped
from poco.learner.episode_assembly import Finished
from poco.learner.journal_audit import Audit, compare_with_inbox
from poco.learner.journal_files import JournalFiles
from poco.learner.link_server import LinkServer
from poco.link.keys import KeyFolder
from poco.records import Step
from poco.runtime.journal import DROP_SHARE
from programs import ARTIFACT
from synthetic_run import specification

DIGEST = specification().digest()
LENGTH = 100
QUOTA = 1 << 20
SEGMENT = QUOTA // 8
EPISODES = 36


def used_bytes(run: LinkRun) -> int:
    """Bytes of the journal on the disk."""
    files = FolderFiles(run.journal)
    return sum(files.size(name) for name in files.names())


def fill(run: LinkRun) -> None:
    """Begin episodes as long as there is room, as a policy does."""
    while not run.writer.entrance.spool.trouble:
        assert len(run.writer.offered) < QUOTA // 100
        run.writer.make(LENGTH, LENGTH)
        run.writer.settle()
        if 0.85 * QUOTA < used_bytes(run) < QUOTA:
            until(lambda: run.report.journal.state == "nearly full", "for the warning")


def drained(folder: Path, run: LinkRun, address: str, keys: tuple[Path, Path], count: int) -> list[Finished]:
    """Start the learner, wait until it has everything and there is room again, end it; return the `count` episodes it has."""
    learner = LearnerProcess(folder / "inbox", address, DIGEST, keys[0])

    def arrived() -> bool:
        run.writer.entrance.pump()
        report = run.report
        has_all = report.link is not None and report.link.state == "streaming" and report.link.waiting == 0
        return has_all and not run.writer.entrance.spool.trouble

    try:
        until(arrived, f"for the learner: {run.report}")
    finally:
        learner.kill()
    server = LinkServer(folder / "inbox", DIGEST, address, KeyFolder(keys[0]))
    try:
        episodes = finished(server, count)
        assert server.next_finished() is None
    finally:
        server.close()
    return episodes


def records_of(run: LinkRun) -> list[Record]:
    """All records of the journal, in order."""
    return [written.record for _, written in JournalFiles(run.journal).all() if written is not None]


def kept(records: list[Record]) -> list[Step]:
    """The steps that a journal still has."""
    return [record.step for record in records if isinstance(record, Stepped)]


def drops(records: list[Record]) -> list[int | None]:
    """The episodes of which a journal says that they were dropped for room, in order."""
    return [record.episode for record in records if isinstance(record, Noted) and record.event == "drop"]


def test_wait(tmp_path: Path) -> None:
    """At 100 % no new episode may begin, the one that runs is kept whole, and with a learner nothing is missing there."""
    address, keys = free_address("127.0.18.33"), keys_for(tmp_path, "arm1")
    run = LinkRun(tmp_path, "arm1", address, keys[1], None, **{"journal.quota_bytes": str(QUOTA)})
    writer = run.writer
    try:
        writer.begin()
        fill(run)
        assert "no new episode begins, the journal is full" in writer.entrance.spool.trouble
        assert "start the learner or raise journal.quota_bytes" in writer.entrance.spool.trouble
        writer.make(2 * LENGTH, LENGTH)
        writer.settle()
        assert writer.entrance.spool.lost == 0
        assert used_bytes(run) >= QUOTA
        audit = Audit(JournalFiles(run.journal))
        assert (audit.violations, audit.counts["steps"]) == ([], writer.episode * LENGTH)
        until(lambda: run.report.journal.state == "full", "for the report")
        episodes = drained(tmp_path, run, address, keys, writer.episode)
        assert [list(episode.steps) for episode in episodes] == steps_of(writer.offered)
        until(lambda: used_bytes(run) < QUOTA // 2, "for room")
        said = run.stop()
        assert "the journal is nearly full" in said
        assert "no new episode begins, the journal is full" in said
        assert "journal and link are well again" in said
        assert len(said.splitlines()) <= 5
    finally:
        run.kill()


def test_drop_autonomous(tmp_path: Path) -> None:
    """With drop_autonomous work goes on beyond the quota: what is dropped is whole, autonomous and recorded."""
    address, keys = free_address("127.0.18.34"), keys_for(tmp_path, "arm1")
    overrides = {"journal.quota_bytes": str(QUOTA), "journal.when_full": "drop_autonomous"}
    run = LinkRun(tmp_path, "arm1", address, keys[1], None, **overrides)
    writer, most = run.writer, 0

    def may_start() -> bool:
        writer.entrance.pump()
        return not writer.entrance.spool.trouble

    try:
        writer.begin()
        while writer.episode < EPISODES:
            writer.human = writer.episode % 10 == 3
            writer.make(LENGTH, LENGTH)
            writer.settle()
            most = max(most, used_bytes(run))
            until(lambda: used_bytes(run) < DROP_SHARE * QUOTA, "for room")
        assert DROP_SHARE * QUOTA <= most <= QUOTA + SEGMENT
        until(lambda: run.report.journal.state == "nearly full", "for the report")
        until(may_start, "for leave")
        assert writer.entrance.spool.lost == 0
        records = records_of(run)
        audit = Audit(JournalFiles(run.journal))
        assert audit.violations == []
        offered = steps_of(writer.offered)
        there = Counter(step.key.episode for step in kept(records))
        dropped = [number for number in range(writer.episode) if number not in there]
        assert len(dropped) > 10
        assert set(there.values()) == {LENGTH}
        assert not any(offered[number][0].intervened for number in dropped)
        assert {record.episode for record in records if isinstance(record, Missing)} == set(dropped)
        until(lambda: drops(records_of(run)) == dropped, "for the last note of a drop")
        episodes = drained(tmp_path, run, address, keys, len(there))
        assert [list(episode.steps) for episode in episodes] == [offered[number] for number in sorted(there)]
        run.stop()
        counts, violations = compare_with_inbox(JournalFiles(run.journal), tmp_path / "inbox")
        assert violations == []
        assert counts["entries under way"] == 0
    finally:
        run.kill()


@pytest.mark.proof
def test_an_hour_drains_five_times_as_fast_as_it_was_made(tmp_path: Path) -> None:
    """What a robot kept for an hour is with a whole learner, which learns, in less than a fifth of it; nothing is wrong."""
    report = away.measure(tmp_path, 36_000_000, ARTIFACT, "127.0.18.36", 0.9, with_keys=True)
    print(f"\n{report.kept_steps} steps drained at {report.times_real_time:.0f} x real time")
    assert report.kept_for_s >= 3600.0
    assert report.wrong == 0
    assert report.times_real_time >= 5.0
    assert report.kept_for_s / report.in_replay_after_s >= 5.0
