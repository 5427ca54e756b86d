"""Command lines made by tyro, with a wrong word told in one sentence like every other error of poco."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import re
from collections.abc import Callable, Mapping
from typing import Any

import tyro

from poco.errors import UsageError

Command = Callable[..., Any]


def run_command(command: Command | Mapping[str, Command], prog: str, description: str | None = None) -> Any:
    """Parse the words of this process for `command`, or for one of several by name, and return what it returns.

    `--help` prints and leaves with code 0. Raises UsageError with the wrong word and what was meant.
    """
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            chosen = _parse(command, prog, description)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UsageError(_sentence(printed.getvalue(), prog)) from None
    return chosen()


def _parse(command: Command | Mapping[str, Command], prog: str, description: str | None) -> Callable[[], Any]:
    parsed: Callable[[], Any]
    if callable(command):
        parsed = tyro.cli(_later(command), prog=prog, description=description)
    else:
        later = {name: _later(function) for name, function in command.items()}
        parsed = tyro.extras.subcommand_cli_from_dict(later, prog=prog, description=description)
    return parsed


def _later(command: Command) -> Callable[..., Callable[[], Any]]:
    """Return `command` with the same parameters but nothing done yet, so that parsing and running stay apart."""

    @functools.wraps(command)
    def bind(*values: Any, **named: Any) -> Callable[[], Any]:
        return functools.partial(command, *values, **named)

    return bind


def _sentence(box: str, prog: str) -> str:
    """Return the first paragraph of tyro's message, framed or plain, what it thinks was meant, and where help is."""
    indented = [row for line in box.splitlines() if (row := line.strip("│").rstrip()) and row.strip()[0] not in "╭╰"]
    rows = [row.strip() for row in indented]
    help_ = re.search(rf"{re.escape(prog)}[\w -]* --help", " ".join(rows))
    see = f"; see {help_[0] if help_ else f'{prog} --help'}"
    for number, row in enumerate(indented):
        if missing := re.match(r"( +)Missing from (.+):$", row):
            section = itertools.takewhile(lambda row: not re.match(" *(───|---)", row), indented[number + 1 :])
            flags = [row.strip() for row in section if re.match(missing[1] + r" {4}\S", row)]
            return f"{missing[2]} needs {', '.join(flags)}{see}"
    rules = [number for number, row in enumerate(rows) if set(row) <= {"─", "-"}]
    if "│" not in box and rules:  # plain: a title and a rule come first
        rows, rules = rows[rules[0] + 1 :], [number - rules[0] - 1 for number in rules[1:]]
    text = " ".join(rows[: rules[0]] if rules else rows).rstrip(".")
    rest = " ".join(rows)
    if meant := re.search(r"Perhaps you meant:\s+(--[\w.-]+)", rest):
        text += f" (did you mean {meant[1]}?)"
    elif known := re.search(r"Available subcommands: ([\w-]+(?:, [\w-]+)*)", rest):
        text += f"; known are {known[1]}"
    return f"{text or 'the command line is wrong'}{see}"
