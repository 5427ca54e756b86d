"""The link of real processes: what a policy offers arrives in the learner once, whoever dies on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from link_run import PATIENCE_S, LinkRun, finished, free_address, keys_for, steps_of, until
from poco.learner.journal_audit import Audit
from poco.learner.journal_files import JournalFiles
from poco.learner.link_server import LinkServer
from poco.link.keys import LEARNER, KeyFolder
from synthetic_run import specification

DIGEST = specification().digest()


@pytest.mark.parametrize("secured", [False, True])
def test_from_policy_to_learner(secured: bool, tmp_path: Path) -> None:
    """Five episodes offered by a policy come out of the learner's link in order, step by step, and a snapshot goes back."""
    learner_keys, robot_keys = keys_for(tmp_path, "arm1") if secured else (None, None)
    keys = KeyFolder(learner_keys) if learner_keys else None
    server = LinkServer(tmp_path / "inbox", DIGEST, "tcp://127.0.18.1:0", keys)
    run = LinkRun(tmp_path, "arm1", server.address, robot_keys)
    try:
        run.writer.begin()
        run.writer.make(100)
        run.writer.settle()
        episodes = finished(server, 5)
        assert [list(episode.steps) for episode in episodes] == steps_of(run.writer.offered)
        assert server.status.robots == ["arm1"]
        until(lambda: server.status.counts == {"steps": 100, "episodes": 5}, "for the counts")
        server.publish(7, b"signed policy" * 100_000)
        until(lambda: any((tmp_path / "store-arm1" / "incoming").glob("*.offer")), "for the snapshot")
        (offer,) = (tmp_path / "store-arm1" / "incoming").glob("*.offer")
        assert offer.read_bytes() == b"signed policy" * 100_000
        until(lambda: run.report.link is not None and run.report.link.state == "streaming", "for a good report")
        assert run.stop() == ""
        assert run.report.journal.state == "recording"
        assert run.report.link is not None
        assert run.report.link.state == "streaming"
    finally:
        run.process.kill()
        server.close()


def test_a_journal_goes_on_without_the_key_of_its_learner(tmp_path: Path) -> None:
    """A learner that goes, and whose key is revoked on the robot, is complained of; with the key everything arrives."""
    keys, robot_keys = keys_for(tmp_path, "arm1")
    address = free_address("127.0.18.3")
    server = LinkServer(tmp_path / "inbox", DIGEST, address, KeyFolder(keys))
    run = LinkRun(tmp_path, "arm1", address, robot_keys)
    try:
        run.writer.begin()
        run.writer.make(20)
        run.writer.settle()
        finished(server, 1)
        (theirs,) = KeyFolder(robot_keys).revoke(LEARNER)
        server.close()

        def told() -> bool:
            return run.report.link is not None and "has no key of learner: poco-keys add" in run.report.link.trouble

        until(told, "for the complaint")
        run.writer.make(20)
        run.writer.settle()
        KeyFolder(robot_keys).add(LEARNER, theirs.public)
        server = LinkServer(tmp_path / "inbox", DIGEST, address, KeyFolder(keys))
        episodes = finished(server, 2)
        assert [list(episode.steps) for episode in episodes] == steps_of(run.writer.offered)
        said = run.stop()
        assert said.index("has no key of learner") < said.index("journal and link are well again")
    finally:
        run.process.kill()
        server.close()


def test_nobody_listens_any_more(tmp_path: Path) -> None:
    """A link process whose supervisor is gone writes the journal to its end, whatever it would have to say."""
    run = LinkRun(tmp_path, "arm1", "", None, None, **{"journal.quota_bytes": str(1 << 20)})
    try:
        assert run.process.stdin is not None
        assert run.process.stdout is not None
        run.writer.begin()
        run.writer.make(20)
        run.process.stdout.close()
        run.process.stdin.close()
        while not run.writer.entrance.spool.trouble:
            run.writer.make(400)
            run.writer.settle()
        until(lambda: run.report.journal.state == "full", "for something to say")
        run.writer.make(20)
        run.writer.settle()
        run.writer.entrance._disconnect()
        assert run.process.wait(PATIENCE_S) == 0, run.log.read_text()
        assert run.log.read_text() == ""
    finally:
        run.process.kill()
    audit = Audit(JournalFiles(run.journal))
    assert (audit.violations, audit.counts["episodes"]) == ([], run.writer.episode)
