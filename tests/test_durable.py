"""Files on a disk that takes no more: the error says which, what was there stays, and no half of a file keeps the room."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from poco.durable import append_durably, write_durably
from poco.errors import guard

FULL = Path("/dev/full")


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    """Replacing fails with the name of the file, whose content is the one before; nothing of the new one is left."""
    file, part = tmp_path / "kept", tmp_path / "kept.part"
    write_durably(file, b"before")
    part.symlink_to(FULL)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_durably(file, b"after")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(file))
    assert file.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [file]
    write_durably(file, b"after")
    assert file.read_bytes() == b"after"


def test_a_line_that_finds_no_room_is_told_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A program that cannot append to one of its files says which."""
    log = tmp_path / "metrics.jsonl"
    log.symlink_to(FULL)
    with pytest.raises(SystemExit):
        guard(lambda: append_durably(log, b"line\n"))
    assert capsys.readouterr().err == (
        f"error: {log} cannot be read or written (No space left on device): check its path, rights and free space\n"
    )
