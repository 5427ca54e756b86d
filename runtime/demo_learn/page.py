"""The page of one demonstration: one HTML file with the picture in it, every figure as text, and links to what lies beside."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from poco.runtime.demo_learn.figures import DemoReport, Gain, Rate, account, headline, subtitle
from poco.runtime.demo_learn.records import ROBOT
from poco.runtime.demo_learn.story import GenerationStory
from poco.statistics import Percentiles

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #333; max-width: 1120px; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.5em; line-height: 1.25 } h2 { font-size: 1.1em; margin-top: 2em }
img { width: 100%; border: 1px solid #e6e6e6 } .quiet { color: #777 } .yes { color: #2a9d6f } .no { color: #d9622b }
table { border-collapse: collapse } td, th { padding: .2em .9em .2em 0; text-align: left; vertical-align: top }
tr + tr { border-top: 1px solid #eee } td.number, th.number { text-align: right } pre { background: #f6f6f6; padding: .8em }
"""
PICTURES = ("report.png", "turnaround.png", "latency.png", "joints.png", "limits.png", "strip.png")
"""Pictures of the arm's own report that the page leads to."""


def write_page(report: DemoReport, picture: Path, path: Path) -> None:
    """Write the page of `report` with the PNG `picture` inside to `path`; raises OSError."""
    image = base64.b64encode(picture.read_bytes()).decode()
    parts = [
        f"<h1>{escape(headline(report))}</h1>",
        f'<p class="quiet">{escape(subtitle(report))}</p>',
        f'<img alt="success, generations, latency and verdict" src="data:image/png;base64,{image}">',
        "<h2>Verdict</h2>",
        _table((), [(_word(goal.reached), escape(goal.said)) for goal in report.goals]),
        "<h2>Success</h2>",
        _success(report.gain),
        "<h2>What became of it</h2>",
        "".join(f"<p>{escape(line)}</p>" for line in account(report)),
        _timing(report),
        "<h2>Generations</h2>",
        _generations(report.generations),
        "<h2>Audit of the journal against the learner's inbox</h2>",
        f"<pre>{escape(chr(10).join(report.audit.said))}</pre>" if report.audit else "<p>not made</p>",
        "<h2>The arm's own report</h2>",
        _links(path.parent),
        f'<p class="quiet">{escape(" ".join(report.facts.command))}</p>',
    ]
    body = "\n".join(parts)
    path.write_text(
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{escape(headline(report))}</title>\n'
        f"<style>{STYLE}</style>\n<body>\n{body}\n</body></html>\n"
    )


def _success(gain: Gain | None) -> str:
    if gain is None:
        return "<p>too few episodes to compare</p>"
    rows = [(name, *_rate(rate)) for name, rate in (("first", gain.first), ("last", gain.last))]
    gained = f"{gain.points * 100:+.0f} points", f"{gain.low * 100:+.0f} to {gain.high * 100:+.0f}"
    return _table(("", "episodes", "succeeded", "rate", "95 % interval"), [*rows, ("gain", "", "", *gained)])


def _rate(rate: Rate) -> tuple[str, ...]:
    return str(rate.episodes), str(rate.successes), f"{rate.rate:.0%}", f"{rate.low:.0%} to {rate.high:.0%}"


def _timing(report: DemoReport) -> str:
    rows = [
        ("servo: state received to command sent", *_spread(report.turnaround_us, "µs")),
        ("chunk: woken to published", *_spread(report.chunk_ms, "ms")),
        ("generation: published to its first chunk", *_spread(report.first_chunk_ms, "ms")),
    ]
    return _table(("", "count", "p50", "p99", "p99.9", "largest"), rows)


def _spread(spread: Percentiles | None, unit: str) -> tuple[str, ...]:
    if spread is None:
        return "0", "", "", "", ""
    values = (spread.p50, spread.p99, spread.p99_9, spread.maximum)
    return str(spread.count), *(f"{value:.0f} {unit}" if value >= 1000.0 else f"{value:.3g} {unit}" for value in values)


def _generations(stories: Sequence[GenerationStory]) -> str:
    heads = (
        "generation",
        "parent",
        "cause",
        "learned from",
        "state",
        "drove after",
        "active after",
        "first chunk",
        "succeeded",
    )
    rows = [
        (
            str(one.generation),
            _or(one.parent),
            one.cause,
            _or(one.learned_from),
            escape(f"{one.state}: {one.reason}" if one.reason else one.state),
            _or(one.driven_after),
            _or(one.active_after),
            "" if one.first_chunk_ms is None else f"{one.first_chunk_ms:.0f} ms",
            f"{one.successes} of {one.episodes}" if one.episodes else "",
        )
        for one in stories
    ]
    return _table(heads, rows)


def _links(folder: Path) -> str:
    there = [name for name in PICTURES if (folder / ROBOT / name).is_file()]
    return "<p>" + (", ".join(f'<a href="{ROBOT}/{name}">{name}</a>' for name in there) or "not there") + "</p>"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; the cells are HTML already."""
    head = f"<tr>{''.join(f'<th>{word}</th>' for word in heads)}</tr>" if heads else ""
    lines = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>\n" for row in rows)
    return f"<table>{head}\n{lines}</table>"


def _word(reached: bool) -> str:
    return '<b class="yes">reached</b>' if reached else '<b class="no">missed</b>'


def _or(number: int | None) -> str:
    return "" if number is None else str(number)
