"""The report of a run: report.json, pictures and a summary for the terminal. `python -m poco.runtime.report RUN`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import tyro
from rich.console import Console
from rich.table import Table

from poco.command_line import run_command
from poco.durable import write_durably
from poco.errors import guard
from poco.runtime.measures import Recording, Report, headline, measure
from poco.runtime.run_folder import RunFolder
from poco.statistics import Percentiles

REPORT = "report.json"


def write_report(folder: RunFolder) -> tuple[Report, list[Path]]:
    """Measure the run in `folder`, write report.json and the pictures beside it; return the report and all paths.

    Partial runs are fine. Raises ArtifactError where a file of the run is not readable. Called after motion has ended,
    which is when the plotting library is loaded.
    """
    from poco.runtime.plots import draw_all

    recording = Recording.read(folder)
    report = measure(recording)
    write_durably(folder.path / REPORT, msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    return report, [*draw_all(recording, report, folder.path), folder.path / REPORT]


def print_summary(report: Report, paths: list[Path], console: Console) -> None:
    """Print what a person wants to know at once, and where the rest is."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    for name, text in _rows(report):
        table.add_row(name, text)
    console.print(f"\n[bold]{headline(report)}[/bold]")
    console.print(table)
    for path in paths:
        console.print(f"  {path}", highlight=False, soft_wrap=True)


def _rows(report: Report) -> list[tuple[str, str]]:
    rows = [
        ("turnaround", f"{_spread(report.turnaround_us, 'µs')}, {report.turnaround_over_1_ms} over 1 ms"),
        ("chunk latency", f"{_spread(report.latency_ms['total'], 'ms')}, deadline {report.deadline_ms:g} ms"),
        ("chunks", f"{report.chunks} planned, {report.chunks_stretched} stretched, {report.chunks_late} late"),
        ("limits used", ", ".join(f"{kind} {use.largest:.0%}" for kind, use in report.limits.items() if use) or "none"),
        ("troubles", ", ".join(f"{name} {count}" for name, count in report.troubles.items()) or "none"),
        ("reflexes", f"{len(report.reflexes)}, recoveries {report.recoveries}"),
    ]
    for name, camera in report.cameras.items():
        text = f"{camera.frames} frames, {camera.lost} lost, {camera.repeated} repeated, {len(camera.stale)} times not fresh"
        rows.append((f"camera {name}", text))
    if report.image_age_ms is not None:
        rows.append(("image age", _spread(report.image_age_ms, "ms")))
    if report.dilation_total_s > 0.0:
        waited = f"{report.dilation_total_s:.3f} s in total, {report.dilation_longest_s * 1e3:.0f} ms at the longest"
        rows.append(("arm waited", waited))
    if report.ticks_let_go:
        rows.append(
            ("kept", f"the last {report.ticks} ticks, timing and limits are of them; {report.ticks_let_go} let go")
        )
    for name, stalls_s in (("policy", report.policy_stalls_s), ("supervisor", report.supervisor_stalls_s)):
        if stalls_s:
            rows.append((f"{name} stood still", f"{len(stalls_s)} times, {max(stalls_s):.1f} s at the longest"))
    if report.tick_gaps:
        rows.append(("not recorded", f"{report.ticks_missing} ticks of the arm in {report.tick_gaps} gaps"))
    rows += [("policy restarted", reason) for reason in report.policy_restarts]
    rows += [("fault", text) for text in report.faults]
    return rows


def _spread(spread: Percentiles | None, unit: str) -> str:
    if spread is None:
        return "not measured"
    p50, p99, p99_9, maximum = map(_three_digits, (spread.p50, spread.p99, spread.p99_9, spread.maximum))
    return f"p50 {p50}, p99 {p99}, p99.9 {p99_9}, max {maximum} {unit}"


def _three_digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000.0 else f"{value:.3g}"


def report(run: Annotated[Path, tyro.conf.Positional]) -> None:
    """Make report.json and the pictures of a run again.

    Args:
        run: Folder that poco-runtime made, for example runs/20260101-120000.
    """
    made, paths = write_report(RunFolder.open(run))
    print_summary(made, paths, Console())


if __name__ == "__main__":
    guard(lambda: run_command(report, "python -m poco.runtime.report"))
