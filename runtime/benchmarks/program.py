"""A competitor that needs what no robot process imports: a program in a process of its own that answers line for line."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from poco.errors import PocoError, UsageError


class Program:
    """Runs `words`, which print a first line when they are ready and then a line for every line on standard input."""

    def __init__(self, words: Sequence[str]) -> None:
        """Start the program and wait for its first line, `greeting`; raises UsageError or PocoError if there is none."""
        try:
            self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        except OSError as error:
            raise UsageError(
                f"the program {words[0]} cannot be started ({error.strerror}): give the path of one that is there"
            ) from error
        self._name = " ".join(words)
        self.greeting = self._answer()

    def ask(self, line: str) -> str:
        """Return the program's answer to `line`; raises PocoError if it ends instead."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # its exit code tells more
        return self._answer()

    def end(self) -> None:
        """Let the program end."""
        self._process.communicate()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise PocoError(f"{self._name} ended with exit code {self._process.wait()}: see its message above")
        return line
