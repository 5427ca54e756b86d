"""The terminal as a console: single keys, read without waiting, passed on to the policy process as the lines that it hears."""

from __future__ import annotations

import os
import re
import select
import sys
import termios
import tty
from contextlib import suppress

from poco.errors import UsageError
from poco.hw.devices.device import Command
from poco.runtime.run_options import DeviceName

COMMAND_KEYS: dict[str, Command] = {
    " ": "start",
    "y": "success",
    "n": "failure",
    "x": "discard",
    "t": "relabel",
    "q": "quit",
}
HELP = "space start, y success, n failure, x discard, t relabel the last, q quit"
MOTION_HELP = "w s a d move, r f up and down, z c turn, 1 2 3 speed"
GUIDING_HELP = "space again to take the arm, g gripper"
MORE_HELP: dict[DeviceName, str] = {"keyboard": MOTION_HELP, "guiding": GUIDING_HELP}
"""Devices that need the other keys of the terminal, and what these do."""

ARROWS = {"\x1b[A": "w", "\x1b[B": "s", "\x1b[D": "a", "\x1b[C": "d"}
READ_BYTES = 1024

_ESCAPES = re.compile("\x1b[\\[O][0-9;]*[A-Za-z~]")


class TerminalKeys:
    """Reads single keys of the terminal `descriptor` from `begin` to `close`, without showing them; supervisor only."""

    def __init__(self, descriptor: int, more: str) -> None:
        """`more` says what the keys do that are no commands; none of them is passed on if it is empty."""
        self.help = HELP + (f"; {more}" if more else "")
        self._more = more
        self._descriptor = descriptor
        self._before = termios.tcgetattr(descriptor)

    def begin(self) -> None:
        """Take keys as they are pressed."""
        tty.setcbreak(self._descriptor, termios.TCSANOW)

    def lines(self) -> list[str]:
        """Return what the keys pressed since the last call mean, as lines for `person.Person`; none if it is gone."""
        if not select.select([self._descriptor], [], [], 0.0)[0]:
            return []
        try:
            typed = os.read(self._descriptor, READ_BYTES)
        except OSError:
            return []
        lines = meaning(typed.decode(errors="ignore"))
        return [line for line in lines if self._more or line.startswith("command")]

    def close(self) -> None:
        """Give the terminal back as it was, without keys that nobody has read."""
        with suppress(termios.error):
            termios.tcsetattr(self._descriptor, termios.TCSAFLUSH, self._before)


def terminal_keys(device: DeviceName | None) -> TerminalKeys | None:
    """Return the keys of the terminal this program was started in, None without one; raises UsageError if `device` needs one."""
    more = "" if device is None else MORE_HELP.get(device, "")
    if sys.stdin is not None and sys.stdin.isatty():
        return TerminalKeys(sys.stdin.fileno(), more)
    if more:
        raise UsageError(
            f"--hands {device} reads the keys of a terminal, and standard input is none: start it in a terminal"
        )
    return None


def meaning(typed: str) -> list[str]:
    """Return the lines that the keys `typed` stand for: arrows are keys that move, other special keys are nothing."""
    plain = _ESCAPES.sub(lambda found: ARROWS.get(found[0], ""), typed)
    return [
        f"command {COMMAND_KEYS[key]}" if key in COMMAND_KEYS else f"key {key}"
        for key in plain.lower()
        if key in COMMAND_KEYS or key.isalnum()
    ]
