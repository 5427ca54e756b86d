"""What a person says during a run, by a key at the console or a button of the device: heard, never waited for.

Lines from the supervisor: `command NAME` for one of `Command`, `key NAME` for any other key that was pressed at the console.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Literal, get_args

import msgspec

from poco.hw.devices.device import Command
from poco.records import TaskSignal

COMMANDS: tuple[str, ...] = get_args(Command)
Verdict = Command | Literal[""]
DISCARDS = ("discard", "quit")
ENDS_EPISODE = ("success", "failure", *DISCARDS)


class Person:
    """Collects what was said: the first verdict on the running episode, and between episodes everything in order.

    `lines` gives the lines that have come. Policy process only.
    """

    def __init__(self, lines: Callable[[], Iterable[str]]) -> None:
        self._lines = lines
        self._keys: list[str] = []
        self._said: deque[Command] = deque()
        self._in_episode = False
        self.listens = True
        self.verdict: Verdict = ""
        self.quits = False

    def begin_episode(self) -> None:
        """An episode begins: forget what was said before it."""
        self._said.clear()
        self._in_episode, self.verdict = True, ""

    def end_episode(self) -> None:
        """The episode is over: what is said from now on is said between episodes."""
        self._in_episode = False

    def hear(self) -> None:
        """Take the lines that have come, unless it does not listen yet."""
        for line in self._lines() if self.listens else ():
            kind, _, name = line.partition(" ")
            if kind == "key":
                self._keys.append(name)
            elif kind == "command":
                self.say([command for command in get_args(Command) if command == name])

    def say(self, commands: Iterable[Command]) -> None:
        """Take `commands`, wherever they were given."""
        for command in commands:
            self.quits = self.quits or command == "quit"
            if not self._in_episode:
                self._said.append(command)
            elif not self.verdict and command in ENDS_EPISODE:
                self.verdict = command

    @property
    def labels(self) -> dict[str, str]:
        """What the end of the episode says of the person."""
        return {"judge": "person"} if self.verdict else {}

    def keys(self) -> list[str]:
        """Return the keys pressed since the last call that are no command."""
        self.hear()
        keys, self._keys = self._keys, []
        return keys

    def said(self) -> list[Command]:
        """Return what was said between episodes since the last call."""
        self.hear()
        said = list(self._said)
        self._said.clear()
        return said

    def judge(self, signal: TaskSignal) -> TaskSignal:
        """Return `signal` with the outcome as the person sees it, where the person has said one."""
        self.hear()
        if not self.verdict:
            return signal
        return msgspec.structs.replace(signal, outcome="success" if self.verdict == "success" else "failure")
