"""The keys of a real terminal: taken singly, told apart, and the terminal is given back as it was."""

from __future__ import annotations

import os
import pty
import termios
from collections.abc import Iterator

import pytest

from poco.errors import UsageError
from poco.hw.devices.keyboard import MOTIONS, SPEEDS
from poco.runtime.console import COMMAND_KEYS, TerminalKeys, meaning, terminal_keys
from poco.runtime.person import COMMANDS


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Both ends of a pseudo terminal: the one that types, and the one that reads."""
    types, reads = pty.openpty()
    yield types, reads
    os.close(types)
    os.close(reads)


def test_keys_do_not_collide() -> None:
    """Every command has a key, and no key is both a command and a motion."""
    assert set(COMMAND_KEYS.values()) == set(COMMANDS)
    assert not set(COMMAND_KEYS) & (set(MOTIONS) | set(SPEEDS))


def test_meaning() -> None:
    """Arrows move, capital letters are letters, other special keys are nothing, commands are named."""
    assert meaning(" Ww\x1b[A\x1b[D\x1b[3~\x1bOPq") == [
        "command start",
        "key w",
        "key w",
        "key w",
        "key a",
        "command quit",
    ]
    assert meaning("\x1b[200;5H\t\x00") == []


def test_single_keys_of_a_terminal(terminal: tuple[int, int]) -> None:
    """A key is there without Enter and is not echoed; after close the terminal is what it was before."""
    types, reads = terminal
    before = termios.tcgetattr(reads)
    keys = TerminalKeys(reads, more="")
    assert termios.tcgetattr(reads) == before
    keys.begin()
    assert keys.lines() == []
    os.write(types, b"wy ")
    lines: list[str] = []
    while len(lines) < 2:
        lines += keys.lines()
    assert lines == ["command success", "command start"]
    assert not termios.tcgetattr(reads)[3] & termios.ECHO
    os.write(types, b"rm ")
    keys.close()
    assert keys.lines() == []
    assert termios.tcgetattr(reads) == before


def test_a_keyboard_needs_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal the keyboard is refused in one sentence; other devices go without keys."""
    with open(os.devnull) as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        assert terminal_keys("spacemouse") is None
        with pytest.raises(UsageError, match="start it in a terminal"):
            terminal_keys("keyboard")
