"""A program whose reader goes away, as `head` does, ends without a word."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from poco.errors import READER_GONE_EXIT


def test_who_reads_may_go() -> None:
    """The pipe of standard output is closed before the help, which is longer than its buffer, is printed."""
    program = Path(sys.executable).with_name("poco-emulator")
    with subprocess.Popen([program, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as started:
        assert started.stdout is not None
        assert started.stderr is not None
        started.stdout.close()
        assert started.stderr.read() == b""
        assert started.wait() == READER_GONE_EXIT
