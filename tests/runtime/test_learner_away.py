"""A learner that is away while the arm works: a full journal keeps the next episode from beginning and disturbs no motion."""

from __future__ import annotations

from pathlib import Path

from link_run import LearnerProcess, LinkRun, finished, free_address, keys_for, steps_of
from poco.episodes import read_episode
from poco.journal.disk import FolderFiles
from poco.learner.journal_audit import Audit, compare_with_inbox
from poco.learner.journal_files import JournalFiles
from poco.learner.link_server import LinkServer
from poco.link.keys import KeyFolder
from poco.runtime.run_options import OPERATOR_SPECIFICATION
from poco.specification import read_specification
from programs import StartProgram
from runs import assert_undisturbed, ended, held

HOST = "127.0.18.35"
QUOTA = 1 << 20
ALMOST = 0.97
EPISODES = 3


def test_arm_beside_a_full_journal(start: StartProgram, tmp_path: Path) -> None:
    """The arm works until the journal is full, holds where the next episode begins, says why, and goes on with the learner.

    What earlier runs left, and every step of this one, is with the learner in the end, once and in order.
    """
    specification = read_specification(OPERATOR_SPECIFICATION)
    address, (learner_keys, keys) = free_address(HOST), keys_for(tmp_path, "fr3")
    earlier = LinkRun(tmp_path, "fr3", address, keys, specification, **{"journal.quota_bytes": str(QUOTA)})
    files = FolderFiles(earlier.journal)
    try:
        earlier.writer.begin()
        while sum(map(files.size, files.names())) < ALMOST * QUOTA:
            earlier.writer.make(80, 80)
            earlier.writer.settle()
        earlier.stop()
    finally:
        earlier.kill()
    out = tmp_path / "run"
    flags = ["--robot", "sim", "--robot.host", HOST, "--emulator.pacing", "lockstep", "--policy", "operator"]
    flags += ["--journal.quota_bytes", str(QUOTA), "--link", address, "--link.keys", str(keys)]
    program = start("poco-runtime", *flags, "--episodes", str(EPISODES), "--out", out)
    program.until(lambda: "no new episode begins, the journal is full" in program.out)
    program.until(lambda: held(out))
    before = len(ended(out))
    assert 0 < before < EPISODES
    digest = specification.digest()
    learner = LearnerProcess(tmp_path / "inbox", address, digest, learner_keys)
    try:
        assert (program.wait(), program.err) == (0, "")
    finally:
        learner.kill()
    assert [event.episode for event in ended(out)] == list(range(EPISODES))
    assert_undisturbed(out)
    recorded = [list(read_episode(file).steps) for file in sorted((out / "episodes").glob("*.safetensors"))]
    server = LinkServer(tmp_path / "inbox", digest, address, KeyFolder(learner_keys))
    try:
        arrived = [list(episode.steps) for episode in finished(server, earlier.writer.episode + EPISODES)]
    finally:
        server.close()
    assert arrived == [*steps_of(earlier.writer.offered), *recorded]
    journal = JournalFiles(tmp_path / "journal-fr3")
    assert Audit(journal).violations == []
    assert compare_with_inbox(journal, tmp_path / "inbox")[1] == []
