"""The journal's disk fills up, is read-only or fails while the arm moves: the arm is safe, the user is told, nothing is lost."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from link_run import LinkRun
from poco.episodes import read_episode
from poco.errors import PocoError
from poco.journal.records import Missing, Stepped
from poco.learner.journal_audit import Audit
from poco.learner.journal_files import JournalFiles
from poco.runtime.run_folder import RunFolder
from programs import StartProgram, is_sentence
from runs import assert_undisturbed, chunks_made, ended, held

HOST = "127.0.18.37"
DISK_BYTES = 8 << 20
EPISODES = 4
LOCKSTEP = ["--robot", "sim", "--emulator.pacing", "lockstep", "--policy", "operator"]

Heal = Callable[[], None]
Break = Callable[[], Heal]


@pytest.fixture
def shim(tmp_path: Path) -> Path:
    """The library that lets calls of the journal fail."""
    library = tmp_path / "fail_with.so"
    compiler, source = os.environ.get("CXX", "g++"), Path(__file__).with_name("fail_with.c")
    subprocess.run([compiler, "-x", "c", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path | None]:
    """A file system of its own where one may be mounted, None elsewhere."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.system(f"mount -t tmpfs -o size={DISK_BYTES} none {disk} 2>/dev/null") != 0:
        yield None
        return
    yield disk
    os.system(f"umount {disk}")


def failing(control: Path, number: int) -> Break:
    """The kernel is said to answer the journal's writes with error `number`."""

    def fail() -> Heal:
        part = control.with_suffix(".part")
        part.write_text(str(number))
        part.rename(control)
        return control.unlink

    return fail


def filled(disk: Path) -> Break:
    """The disk is really full."""

    def fill() -> Heal:
        with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
            while filler.write(bytes(1 << 16)):
                pass
            while filler.write(b"0"):
                pass
        return (disk / "filler").unlink

    return fill


def test_disk_trouble_beside_a_moving_arm(
    start: StartProgram, shim: Path, small_disk: Path | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three kinds of trouble, each in the middle of an episode: that one ends as it would, the next waits, all are in the journal.

    The full disk is real where a file system may be mounted; the other two are errors that a preloaded library gives.
    """
    control, out, folder = tmp_path / "error", tmp_path / "run", (small_disk or tmp_path) / "journal"
    full = filled(small_disk) if small_disk else failing(control, errno.ENOSPC)
    troubles = {errno.ENOSPC: full, errno.EROFS: failing(control, errno.EROFS), errno.EIO: failing(control, errno.EIO)}
    monkeypatch.setenv("LD_PRELOAD", str(shim))
    monkeypatch.setenv("POCO_TEST_ERROR", str(control))
    flags = ["--robot.host", HOST, "--journal.folder", str(folder), "--episodes", str(EPISODES)]
    program = start("poco-runtime", *LOCKSTEP, *flags, "--out", out)
    monkeypatch.undo()
    sentences = []
    made = 0
    for number, trouble in troubles.items():
        program.until(chunks_made(out, made + 2))
        heal = trouble()
        reason = f"the journal cannot be written ({os.strerror(number)}): free space or repair the disk"
        sentences.append(f"no new episode begins, {reason}")
        program.until(lambda: sentences[-1] in words(program.out))
        program.until(lambda: held(out))
        assert len(ended(out)) < EPISODES
        made = len(RunFolder.open(out).chunks())
        heal()
    assert (program.wait(), program.err) == (0, "")
    assert [words(program.out).count(sentence) for sentence in sentences] == [1, 1, 1]
    assert (out / "link.log").read_text() == ""
    assert [event.episode for event in ended(out)] == list(range(EPISODES))
    assert_undisturbed(out)
    recorded = [step for file in sorted((out / "episodes").iterdir()) for step in read_episode(file).steps]
    journal = JournalFiles(folder)
    records = [written.record for _, written in journal.all() if written is not None]
    assert [record.step for record in records if isinstance(record, Stepped)] == recorded
    assert not any(isinstance(record, Missing) for record in records)
    assert Audit(journal).violations == []


def words(text: str) -> str:
    """`text` without the line breaks of a terminal."""
    return " ".join(text.split())


def test_a_journal_that_cannot_be_opened(shim: Path, tmp_path: Path) -> None:
    """The newest segment is written anew when a journal is opened; a disk that does not take it is told in one sentence."""
    robot, control = LinkRun(tmp_path, "arm1"), tmp_path / "error"
    robot.writer.begin()
    robot.writer.settle()
    robot.stop()
    failing(control, errno.EROFS)()
    environment = {**os.environ, "LD_PRELOAD": str(shim), "POCO_TEST_ERROR": str(control)}
    arguments = [sys.executable, "-m", "poco.runtime.link", "--options", str(robot.options_file)]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == PocoError.exit_code
    assert is_sentence(done.stderr)
    assert f"the journal in {robot.journal} cannot be opened (Read-only file system): free space" in done.stderr
