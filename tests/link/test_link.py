"""The link of real processes: what a policy offers arrives in the learner once, whoever dies on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from link_run import LinkRun, finished, keys_for, steps_of, until
from poco.learner.link_server import LinkServer
from poco.link.keys import KeyFolder
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
