"""The programs of poco as a user starts them: processes of their own, judged by what they print, leave behind and return."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent
ARTIFACT = ROOT / "artifacts" / "peg_in_hole"
PATIENCE_S = 280.0


class Program:
    """One running program of poco whose standard output and error go to files in `folder`."""

    def __init__(self, name: str, *arguments: str | Path, folder: Path, stdin: int = subprocess.DEVNULL) -> None:
        """Start `name`, such as poco-runtime, with `arguments`, reading from the file descriptor `stdin`."""
        folder.mkdir(parents=True, exist_ok=True)
        self._out, self._err = folder / f"{name}.out", folder / f"{name}.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            command = [Path(sys.executable).with_name(name), *arguments]
            self.process = subprocess.Popen(command, stdin=stdin, stdout=out, stderr=err)

    @property
    def out(self) -> str:
        """What it has printed so far."""
        return self._out.read_text()

    @property
    def err(self) -> str:
        """What it has printed on standard error so far."""
        return self._err.read_text()

    def wait(self) -> int:
        """Wait for its end, as long as the test may last, and return the exit code."""
        return self.process.wait()

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds; fails when the program ends before or takes too long."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.err}{self.out}"
            assert time.monotonic() < deadline_s, f"waited in vain: {self.err}{self.out}"
            time.sleep(0.02)

    def end(self) -> None:
        """Interrupt it if it still runs, kill it if it does not mind."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(30.0)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def children(self) -> dict[str, int]:
        """Return the process ids of the processes it has started, by the last word of their module."""
        return {
            words[words.index("-m") + 1].rpartition(".")[2]: child for child, words in self.started() if "-m" in words
        }

    def started(self) -> list[tuple[int, list[str]]]:
        """Return process id and words of every process it has started."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                words = (entry / "cmdline").read_text().split("\0")
            except (OSError, ProcessLookupError):
                continue
            if parent == self.process.pid:
                found.append((int(entry.name), words))
        return found


StartProgram = Callable[..., Program]


def gone(process: int) -> bool:
    """Tell whether the process has ended (or is only waited for by its parent)."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (OSError, ProcessLookupError):
        return True


def wait_gone(processes: list[int]) -> None:
    """Wait until all `processes` have ended; fails naming those that have not."""
    deadline_s = time.monotonic() + PATIENCE_S
    while left := [process for process in processes if not gone(process)]:
        assert time.monotonic() < deadline_s, f"still running: {left}"
        time.sleep(0.02)


def shared_memory() -> set[str]:
    """Return the names of the runs whose shared memory lies on this computer."""
    return {path.name.removeprefix("poco-") for path in Path("/dev/shm").glob("poco-*")}


def is_sentence(text: str) -> bool:
    """Tell whether standard error holds one sentence of ours and nothing else."""
    return text.startswith("error: ") and text.count("\n") == 1 and "Traceback" not in text


def kill(process: int) -> None:
    """End one process the way the kernel does when memory is short."""
    os.kill(process, signal.SIGKILL)
