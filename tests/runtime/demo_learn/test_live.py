"""The live view shows what both sides have written so far, on a terminal and elsewhere."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from learning_run import EPISODES, OUTCOMES, make_demonstration
from poco.runtime.demo_learn import chart
from poco.runtime.demo_learn.live import View
from poco.runtime.demo_learn.records import LEARNER, ROBOT
from poco.runtime.demo_learn.watch import Watch
from poco.runtime.run_folder import EpisodeEnded, RunFolder

WIDTH = 110


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    make_demonstration(tmp_path)
    return Watch(tmp_path)


def printed(watch: Watch, width: int = WIDTH) -> str:
    """The view as text."""
    console = Console(file=StringIO(), width=width)
    console.print(View(watch, 400, 13.0, console).picture(75.0, width))
    text = console.file.getvalue() if isinstance(console.file, StringIO) else ""
    assert max(len(line) for line in text.splitlines()) <= width
    return text


def test_view_of_a_run(watch: Watch) -> None:
    """Success, generation, swaps, turnaround, journal and link stand in it with the figures of the records."""
    watch.look()
    text = printed(watch)
    first, last = (sum(one == "success" for one in part) / 40 for part in (OUTCOMES[:40], OUTCOMES[-40:]))
    for said in (
        f"{EPISODES} of at most 400, 1:15 of 13:00; first 40: {first:.0%}, last 40: {last:.0%}",
        "generation 13 (active), 11 swapped in, 1 refused",
        "turnaround p50 40 µs, p99 60 µs, longest 2.0 ms, 100 over 1 ms",
        "recording, 4100 entries durable, 1.0 MB",
        "streaming, 4000 entries with the learner, 100 waiting",
        "learning: 99 episodes, 1300 updates, 12 owed, guards 36%; 12 published, 1 withheld",
    ):
        assert said in text, said
    marks = next(line for line in text.splitlines() if "╰" in line and "▲" in line)
    assert marks.count("▲") == 11


def test_view_before_anything_is_there(tmp_path: Path) -> None:
    """Both sides are still starting: the view says so."""
    watch = Watch(tmp_path)
    watch.look()
    text = printed(watch, 80)
    for said in ("0 of at most 400", "the one it began with", "not in motion yet", "not open yet", "not there yet"):
        assert said in text, said


def test_watch_takes_each_record_once(watch: Watch, tmp_path: Path) -> None:
    """Looking again adds only what is new, and files that go away and come back are no trouble."""
    watch.look()
    watch.look()
    assert len(watch.outcomes) == EPISODES
    assert watch.over_1_ms == EPISODES
    RunFolder.open(tmp_path / ROBOT).append_event(
        EpisodeEnded(tick=99_999, episode=EPISODES, outcome="success", steps=1, ticks=1)
    )
    (tmp_path / LEARNER / "status.json").unlink()
    watch.look()
    assert len(watch.outcomes) == EPISODES + 1
    assert watch.learner is None


def test_lines_where_there_is_no_terminal(watch: Watch) -> None:
    """Elsewhere every swap is a line, and every tenth episode too; nothing is said twice."""
    console = Console(file=StringIO(), width=300)
    view = View(watch, 400, 13.0, console)
    watch.look()
    view.show(75.0)
    view.show(76.0)
    assert isinstance(console.file, StringIO)
    lines = console.file.getvalue().splitlines()
    assert sum("probation" in line for line in lines) == 12
    assert sum("rejected (success: 0 of 2 <episodes>)" in line for line in lines) == 1
    assert sum("of at most 400" in line for line in lines) == 1


def test_chart() -> None:
    """The highest value has dots in the first line only, the lowest in the last; places without a value have none."""
    high, low = chart.curve([1.0] * 5, 5, 10, 10, 3), chart.curve([0.0] * 5, 0, 10, 10, 3)
    blank = chr(chart.BRAILLE)
    assert high[0].startswith(blank * 5)
    assert blank not in high[0][5:]
    assert set(high[1] + high[2] + low[0] + low[1]) == {blank}
    assert blank not in low[2][:5]
    step = chart.curve([0.0, 1.0], 0, 2, 2, 3)
    assert all(any(letter != blank for letter in line) for line in step)
    assert chart.marks([0, 9], 10, 5, "^") == "^   ^"
