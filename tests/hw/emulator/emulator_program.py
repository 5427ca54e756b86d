"""`poco-emulator` as a program of its own, for tests of its words and ends."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = [sys.executable, "-c", "from poco.hw.emulator.cli import main; main()"]


def run(*flags: str) -> subprocess.CompletedProcess[str]:
    """Run it with `flags` to its end."""
    return subprocess.run([*PROGRAM, *flags], capture_output=True, text=True, timeout=60, check=False)
