"""One progress bar with rate and time left for everything that takes long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text


class Advance(Protocol):
    """Moves a bar on by `count` and shows `remark` beside it."""

    def __call__(self, remark: str, count: float = 1.0) -> None:
        """Do so."""
        ...


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f} {task.fields['unit']}/s")


@contextmanager
def track(name: str, total: int, unit: str) -> Iterator[Advance]:
    """Show a bar of `total` `unit` on standard error; call what it yields after each one, or several, with a remark to show."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),  # in a narrow terminal the bar alone gives way
        _Rate(table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[remark]}, left"),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(name, total=total, unit=unit, remark="")
        yield lambda remark, count=1.0: progress.update(task, advance=count, remark=remark)
