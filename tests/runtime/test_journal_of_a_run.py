"""A run leaves a journal of everything, with and without a learner, whatever becomes of the process that writes it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from link_run import finished
from poco.episodes import Episode, read_episode
from poco.journal.disk import FolderFiles
from poco.journal.log import LogReader
from poco.journal.records import Boot, Ended, Missing, Record, Stepped, decode
from poco.learner.link_server import LinkServer
from poco.runtime.run_folder import RunFolder
from poco.runtime.run_options import OPERATOR_SPECIFICATION
from poco.specification import read_specification
from programs import Program, is_sentence


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[list[Program]]:
    """Programs that are ended after the test."""
    running: list[Program] = []
    yield running
    for program in running:
        program.end()


def operate(tmp_path: Path, host: str, *arguments: str | Path) -> Program:
    """Start a run of the scripted operator in lockstep, its folder tmp_path/run."""
    flags: list[str | Path] = ["--robot", "sim", "--robot.host", host, "--emulator.pacing", "lockstep"]
    flags += ["--policy", "operator", "--out", tmp_path / "run", *arguments]
    return Program("poco-runtime", *flags, folder=tmp_path / "program")


def records_of(folder: Path) -> list[Record]:
    """All records of the journal in `folder`, in order."""
    found = [decode(entry.payload) for entry in LogReader(FolderFiles(folder)).all()]
    return [written.record for written in found if written is not None]


def files_of(folder: Path) -> list[Episode]:
    """The episodes of the run folder."""
    return [read_episode(file) for file in sorted((folder / "episodes").glob("*.safetensors"))]


def test_killed_link_process(programs: list[Program], tmp_path: Path) -> None:
    """The link process dies during an episode: the arm drives on, journal and learner have every step once, ends and boot."""
    digest = read_specification(OPERATOR_SPECIFICATION).digest()
    server = LinkServer(tmp_path / "inbox", digest, "tcp://127.0.18.11:0", None)
    try:
        program = operate(tmp_path, "127.0.18.11", "--episodes", "2", "--link", server.address)
        programs.append(program)
        folder = tmp_path / "run"
        program.until(lambda: (folder / "run.json").is_file() and len(RunFolder.open(folder).chunks()) >= 3)
        os.kill(program.children()["link"], signal.SIGKILL)
        assert program.wait() == 0, program.err
        assert "the journal waits in memory" in program.out
        arrived = finished(server, 2)
    finally:
        server.close()
    records = records_of(tmp_path / "journal-fr3")
    episodes = files_of(folder)
    keys = [[step.key for step in episode.steps] for episode in episodes]
    assert len(keys) == 2
    assert [record.step.key for record in records if isinstance(record, Stepped)] == [*keys[0], *keys[1]]
    assert [record.end for record in records if isinstance(record, Ended)] == [episode.end for episode in episodes]
    assert sum(isinstance(record, Boot) for record in records) == 1
    assert not any(isinstance(record, Missing) for record in records)
    assert [[step.key for step in episode.steps] for episode in arrived] == keys


def test_routable_learner_without_keys(programs: list[Program], tmp_path: Path) -> None:
    """A learner on another computer takes keys: the run says so in one sentence before the arm moves."""
    program = operate(tmp_path, "127.0.18.13", "--link", "tcp://192.0.2.1:7766")
    programs.append(program)
    assert program.wait() == 6
    assert is_sentence(program.err)
    assert "poco-keys" in program.err
