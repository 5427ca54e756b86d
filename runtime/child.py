"""A process that another one, mostly the supervisor, starts, reads lines from and ends."""

from __future__ import annotations

import os
import signal as signals
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from poco.errors import PocoError

SENTENCE = "error: "


class ChildError(PocoError):
    """A child said in one sentence why it could not go on; carries the child's exit code."""

    def __init__(self, sentence: str, exit_code: int) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


class Child:
    """`python -m module arguments` in a session of its own, its standard error kept in a file. For its parent only."""

    def __init__(self, name: str, module: str, arguments: Sequence[str], folder: Path) -> None:
        self.name = name
        self._errors = folder / f"{name}.log"
        with self._errors.open("ab") as errors:
            self._errors_start = errors.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        self._pending = b""

    def goes_before(self, score: int) -> None:
        """When memory runs out let the kernel end this process before those of a lower `score` (oom_score_adj; it never falls)."""
        with suppress(OSError):
            Path(f"/proc/{self.process.pid}/oom_score_adj").write_text(str(score))

    @property
    def running(self) -> bool:
        """Whether the process still runs."""
        return self.process.poll() is None

    def lines(self) -> list[str]:
        """Return the whole lines printed since the last call, without waiting."""
        assert self.process.stdout is not None
        self._pending += self.process.stdout.read() or b""
        *whole, self._pending = self._pending.split(b"\n")
        return [line.decode(errors="replace") for line in whole]

    def say(self, line: str) -> None:
        """Write one line to its standard input; a process that has ended does not mind."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return

    def wait_for(self, word: str, timeout_s: float, beat: Callable[[], None]) -> str:
        """Wait for a line that starts with `word`, calling `beat`; return its rest. Raises ChildError if it ends or is silent."""
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            beat()
            for line in self.lines():
                if line.startswith(word):
                    return line.removeprefix(word).strip()
            if not self.running:
                raise self.error()
            time.sleep(0.01)
        self.end()
        raise ChildError(f"{self.name} did not start within {timeout_s:.0f} s: see {self._errors}", 1)

    def error(self) -> ChildError:
        """Return in one sentence, with its exit code, why the ended process ended."""
        code = max(self.process.returncode, 1)
        if self._last_words().startswith(SENTENCE):
            return ChildError(self.ending(), code)
        return ChildError(f"{self.ending()}: {self._errors} may say more, start the run again", code)

    def ending(self) -> str:
        """Return in a few words why the ended process ended."""
        last_words, code = self._last_words(), self.process.returncode
        if last_words.startswith(SENTENCE):
            return last_words.removeprefix(SENTENCE)
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return f"{self.name} {how}" + (f" ({last_words})" if last_words else "")

    def _last_words(self) -> str:
        text = self._errors.read_bytes()[self._errors_start :].decode(errors="replace").strip()
        return text.splitlines()[-1] if text else ""

    def wait(self, timeout_s: float) -> bool:
        """Wait until it has ended; False after `timeout_s`."""
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self, timeout_s: float = 3.0) -> None:
        """Ask it to end, then insist."""
        if self.running:
            self.process.send_signal(signals.SIGTERM)
            if not self.wait(timeout_s):
                self.process.kill()
                self.process.wait()
