"""Command lines made by tyro, with a wrong word told in one sentence like every other error of poco."""

from __future__ import annotations

import contextlib
import functools
import io
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
        raise UsageError(f"{_sentence(printed.getvalue())}; see {prog} --help") from None
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


def _sentence(box: str) -> str:
    """Return the first paragraph of tyro's message, framed or plain, and the flag it thinks was meant."""
    rows = [row for line in box.splitlines() if (row := line.strip(" │")) and row[0] not in "╭╰"]
    rules = [number for number, row in enumerate(rows) if set(row) <= {"─", "-"}]
    if "│" not in box and rules:  # plain: a title and a rule come first
        rows, rules = rows[rules[0] + 1 :], [number - rules[0] - 1 for number in rules[1:]]
    text = " ".join(rows[: rules[0]] if rules else rows).rstrip(".")
    meant = re.search(r"Perhaps you meant:\s+(--[\w.-]+)", " ".join(rows))
    return f"{text or 'the command line is wrong'}{f'; did you mean {meant[1]}?' if meant else ''}"
