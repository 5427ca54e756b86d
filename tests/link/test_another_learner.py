"""A learner that begins anew while a robot has long been at work: it learns from what the robot does from then on."""

from __future__ import annotations

from pathlib import Path

from link_run import LinkRun, finished, free_address, steps_of, until
from poco.learner.journal_files import JournalFiles
from poco.learner.link_server import LinkServer
from poco.records import Step
from synthetic_run import specification

DIGEST = specification().digest()
QUOTA_BYTES = 1 << 20
LENGTH = 20


def test_another_learner_in_the_middle_of_a_run(tmp_path: Path) -> None:
    """The robot has given up what the first learner had, its boot too; the second takes every episode that follows all the same."""
    address = free_address("127.0.18.39")
    server = LinkServer(tmp_path / "inbox", DIGEST, address, None)
    run = LinkRun(tmp_path, "arm1", address, None, None, **{"journal.quota_bytes": str(QUOTA_BYTES)})
    writer = run.writer

    def segments() -> list[str]:
        return sorted(file.name for file in run.journal.glob("*.seg"))

    try:
        writer.begin()
        writer.settle()
        oldest = segments()[0]
        while oldest in segments():
            writer.make(10 * LENGTH, LENGTH)
            writer.settle()
        finished(server, writer.episode)
        server.close()
        server = LinkServer(tmp_path / "another inbox", DIGEST, address, None)
        before = writer.episode
        writer.make(10 * LENGTH, LENGTH)
        writer.settle()
        wanted = steps_of(writer.offered)[before:]
        came: list[list[Step]] = []

        def all_came() -> bool:
            while (episode := server.next_finished()) is not None:
                came.append(list(episode.steps))
            return came[-1:] == wanted[-1:]

        until(all_came, f"for the second learner, the link says {server.status}")
        assert came[-len(wanted) :] == wanted
        run.stop()
        assert JournalFiles(run.journal).specification() == specification()
    finally:
        run.process.kill()
        server.close()
