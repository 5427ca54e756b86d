"""The report of a demonstration: demo_learn.json, .png and .html. `python -m poco.runtime.demo_learn.report RUN` makes it again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import tyro
from rich.console import Console
from rich.text import Text

from poco.command_line import run_command
from poco.durable import write_durably
from poco.errors import guard
from poco.runtime.demo_learn.figures import DemoReport, headline, measure
from poco.runtime.demo_learn.records import Records

NUMBERS, PICTURE, PAGE = "demo_learn.json", "demo_learn.png", "demo_learn.html"


def write_report(path: Path) -> DemoReport:
    """Measure the demonstration in `path` and write numbers, picture and page there; raises ArtifactError or UsageError.

    Called when both sides have ended, which is when the plotting library is loaded.
    """
    from poco.runtime.demo_learn.page import write_page
    from poco.runtime.demo_learn.picture import draw

    records = Records.read(path)
    report = measure(records)
    write_durably(path / NUMBERS, msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    draw(records, report, path / PICTURE)
    write_page(report, path / PICTURE, path / PAGE)
    return report


def print_summary(report: DemoReport, path: Path, console: Console) -> None:
    """Print what a person wants to know at once, and where the rest is."""
    console.print(f"\n[bold]{headline(report)}[/bold]")
    for goal in report.goals:
        word = ("reached  ", "green") if goal.reached else ("missed   ", "yellow")
        console.print(Text.assemble(word, goal.said), soft_wrap=True)
    for name in (PICTURE, PAGE, NUMBERS):
        console.print(f"  {path / name}", highlight=False, soft_wrap=True)


def report(run: Annotated[Path, tyro.conf.Positional]) -> None:
    """Make numbers, picture and page of a demonstration again.

    Args:
        run: Folder that make demo-learn made, for example runs/demo-learn-20260101-120000.
    """
    print_summary(write_report(run), run, Console())


if __name__ == "__main__":
    guard(lambda: run_command(report, "python -m poco.runtime.demo_learn.report"))
