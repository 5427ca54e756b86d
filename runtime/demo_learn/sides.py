"""The programs of both sides, each in a session of its own so that Ctrl-C reaches them in order, and the keys between them."""

from __future__ import annotations

import signal as signals
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from poco.errors import PocoError
from poco.link.keys import LEARNER as LEARNER_NAME
from poco.link.keys import KeyFolder
from poco.parent import end_with_parent
from poco.runtime.child import SENTENCE, ChildError

ROBOT_NAME = "fr3"
INTERRUPTED_EXIT = 130


class Side:
    """One program of poco with its standard output and error in a file."""

    def __init__(self, name: str, words: Sequence[str], log: Path) -> None:
        """Start it; it is asked to end, as by Ctrl-C, when this process dies without having ended it."""
        self.name, self._log = name, log
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                [program(name), *words],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
                preexec_fn=partial(end_with_parent, signals.SIGTERM),
            )

    @property
    def running(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    def stop(self) -> None:
        """Ask it to end, as by Ctrl-C, if it still runs, and wait for its end, as long as that takes."""
        if self.running:
            self.process.send_signal(signals.SIGTERM)
        self.process.wait()

    def error(self) -> ChildError:
        """Return in one sentence, with its exit code, why it has ended by itself."""
        words = self._log.read_text(errors="replace").strip().splitlines()
        last = words[-1] if words else "it said nothing"
        if last.startswith(SENTENCE):
            last = last.removeprefix(SENTENCE)
        else:
            last = f"{self.name} ended with exit code {self.process.returncode} ({last}): see {self._log}"
        return ChildError(last, max(self.process.returncode, 1))


def make_keys(folder: Path) -> None:
    """Make the keys of link and publisher in `folder`: keys/learner, keys/fr3 and trust; raises PocoError."""
    learner = KeyFolder.create(folder / "keys" / LEARNER_NAME, LEARNER_NAME)
    robot = KeyFolder.create(folder / "keys" / ROBOT_NAME, ROBOT_NAME)
    learner.add(ROBOT_NAME, robot.own().public)
    robot.add(LEARNER_NAME, learner.own().public)
    words = [program("poco-trust"), "init", "--folder", str(folder / "trust")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PocoError(f"the key of the publisher was not made: {done.stderr.strip()}")


def audit(journal: Path, inbox: Path) -> tuple[bool, list[str]]:
    """Have `poco-journal` audit `journal` against a learner's `inbox`; return whether it is clean, and what was said."""
    words = [program("poco-journal"), "audit", str(journal), "--inbox", str(inbox)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.returncode == 0, [line.rstrip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]


def program(name: str) -> str:
    """Return the path of the program `name` of this installation."""
    return str(Path(sys.executable).with_name(name))
