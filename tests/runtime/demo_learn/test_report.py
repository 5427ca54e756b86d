"""The page of a demonstration says exactly what both sides have recorded, and copes with one that was cut short."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from learning_run import (
    CHUNK_NS,
    EPISODE_TICKS,
    EPISODES,
    FROZEN,
    MISSED,
    OUTCOMES,
    PROBATION,
    PUBLISHED_BEFORE_MS,
    SWAP_EVERY,
    THROWN_OUT,
    TURNAROUND_NS,
    generation_of,
    make_demonstration,
)
from poco.errors import ArtifactError, UsageError
from poco.runtime.demo_learn.figures import AVERAGED, COMPARED, DemoReport, Gain, goals, measure, moving_average
from poco.runtime.demo_learn.learner_files import read_publications
from poco.runtime.demo_learn.records import AUDIT, LEARNER, ROBOT, Audit, Records
from poco.runtime.demo_learn.report import NUMBERS, PAGE, PICTURE, write_report
from poco.runtime.run_folder import CHUNKS, EVENTS, TICKS
from poco.statistics import wilson_interval

SUCCESSES = [outcome == "success" for outcome in OUTCOMES]
LAST_GENERATION = generation_of(EPISODES - 1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demonstration")
    make_demonstration(path)
    write_report(path)
    return path


@pytest.fixture(scope="module")
def report(made: Path) -> DemoReport:
    return measure(Records.read(made))


def test_success(report: DemoReport) -> None:
    """First and last episodes, their intervals and every point of the curve are those of the events."""
    assert report.outcomes == OUTCOMES
    assert report.gain is not None
    first, last = report.gain.first, report.gain.last
    assert (first.successes, last.successes) == (sum(SUCCESSES[:COMPARED]), sum(SUCCESSES[-COMPARED:]))
    assert (last.low, last.high) == wilson_interval(last.successes, COMPARED)
    assert report.gain.points == pytest.approx((last.successes - first.successes) / COMPARED)
    assert report.gain.low < report.gain.points < report.gain.high
    assert report.curve == [float(np.mean(SUCCESSES[end - AVERAGED : end])) for end in range(AVERAGED, EPISODES + 1)]


def test_few_episodes_are_halved() -> None:
    """A run with fewer than twice as many episodes compares its halves, one episode nothing."""
    assert Gain.of(["success"]) is None
    gain = Gain.of(["success", "truncated", "success", "success", "success"])
    assert gain is not None
    assert [(rate.successes, rate.episodes) for rate in (gain.first, gain.last)] == [(1, 2), (2, 2)]
    assert goals(gain, 0, None)[0].said.endswith(": +50 points (2 against 2)")


def test_generations(report: DemoReport) -> None:
    """Every generation's way is told: published from so many episodes, driven and active after so many, or thrown out."""
    stories = {one.generation: one for one in report.generations}
    assert sorted(stories) == list(range(1, LAST_GENERATION + 1))
    assert report.swapped_in == LAST_GENERATION - 2
    assert (report.refused, stories[THROWN_OUT].reason) == (1, "success: 0 of 2 <episodes>")
    for number in range(2, LAST_GENERATION + 1):
        begun = (number - 1) * SWAP_EVERY
        assert stories[number].driven_after == begun
        assert stories[number].active_after == (None if number == THROWN_OUT else begun + PROBATION)
        assert stories[number].learned_from == begun - 4
        assert stories[number].parent == number - 1
        assert stories[number].first_chunk_ms == pytest.approx(PUBLISHED_BEFORE_MS + CHUNK_NS / 1e6)
        drove = [episode for episode in range(EPISODES) if generation_of(episode) == number]
        assert (stories[number].episodes, stories[number].successes) == (
            len(drove),
            sum(SUCCESSES[episode] for episode in drove),
        )
    assert (stories[1].cause, stories[1].parent, stories[1].first_chunk_ms) == ("began with", None, None)


def test_timing_and_bookkeeping(report: DemoReport) -> None:
    """Turnaround is of every tick, and an episode that the learner lacks is named."""
    assert report.ticks == EPISODES * EPISODE_TICKS
    assert report.turnaround_us is not None
    assert report.turnaround_us.p50 == pytest.approx(TURNAROUND_NS / 1e3)
    assert report.turnaround_over_1_ms == EPISODES
    assert report.missed == [MISSED]
    assert report.before_learning == FROZEN
    assert report.dilation_s == 0.5
    assert [goal.reached for goal in report.goals] == [True, True, True]


def test_page_says_the_numbers(made: Path, report: DemoReport) -> None:
    """Numbers, page and picture are there; the page holds the report's figures as text, and nothing of a record as markup."""
    assert msgspec.json.decode((made / NUMBERS).read_bytes(), type=DemoReport) == report
    with Image.open(made / PICTURE) as picture:
        assert picture.width > 900
        assert len(picture.convert("P").getcolors() or []) > 20
    page = re.sub('base64,[^"]*', "", (made / PAGE).read_text())
    assert report.gain is not None
    for said in (
        f"<td>{report.gain.first.rate:.0%}</td>",
        f"{report.gain.last.low:.0%} to {report.gain.last.high:.0%}",
        f"<td>{report.ticks}</td>",
        f"{report.swapped_in} generations swapped in, 1 refused, 0 superseded",
        "1300 updates",
        f"stood still for {FROZEN} episodes",
        f"episode {MISSED}",
        "audit clean",
        "success: 0 of 2 &lt;episodes&gt;",
        "--out &lt;here&gt;",
    ):
        assert said in page, said
    assert "<episodes>" not in page
    rows = re.findall(
        r"<tr><td>(\d+)</td><td>\d*</td><td>(?:began with|learned)</td>.*?<td>(\d+ of \d+)?</td></tr>", page
    )
    assert rows == [
        (str(one.generation), f"{one.successes} of {one.episodes}" if one.episodes else "")
        for one in report.generations
    ]


def test_what_is_missed_is_said(tmp_path: Path) -> None:
    """An audit with violations and a success that does not rise are goals missed, in the page too."""
    make_demonstration(tmp_path)
    said = ["step 3 of episode 4 is there twice"]
    (tmp_path / AUDIT).write_bytes(msgspec.json.encode(Audit(clean=False, said=said)))
    events = (tmp_path / ROBOT / EVENTS).read_text().replace('"success"', '"truncated"')
    (tmp_path / ROBOT / EVENTS).write_text(events)
    report = write_report(tmp_path)
    assert [goal.reached for goal in report.goals] == [False, True, False]
    assert said[0] in (tmp_path / PAGE).read_text()


@pytest.mark.parametrize("missing", [(TICKS,), (EVENTS, CHUNKS), (LEARNER,), (AUDIT,)])
def test_parts_may_be_missing(tmp_path: Path, missing: tuple[str, ...]) -> None:
    """A demonstration that was cut short still gives a whole report; goals that cannot be judged are not reached."""
    make_demonstration(tmp_path)
    for name in missing:
        for path in (tmp_path / name, tmp_path / ROBOT / name):
            if path.is_dir():
                shutil.rmtree(path)
            elif path.is_file():
                path.unlink()
    report = write_report(tmp_path)
    assert (tmp_path / PAGE).is_file()
    assert (report.gain is None) == (EVENTS in missing)
    assert (report.learner is None) == (LEARNER in missing)
    assert (report.turnaround_us is None) == (TICKS in missing)
    assert report.goals[2].reached == (AUDIT not in missing)


def test_damaged_records(tmp_path: Path) -> None:
    """A line that is not a record is named; one that is still being written is left out; no demonstration is said."""
    make_demonstration(tmp_path)
    assert read_publications(tmp_path / LEARNER)[-1].generation == LAST_GENERATION
    with (tmp_path / LEARNER / "metrics.jsonl").open("a") as stream:
        stream.write("{}\n")
    with pytest.raises(ArtifactError, match=f"line {EPISODES} of .*metrics.jsonl"):
        write_report(tmp_path)
    with pytest.raises(UsageError, match="holds no run"):
        write_report(tmp_path / "absent")


def test_short_runs_have_no_curve() -> None:
    """Fewer episodes than an average takes give no point."""
    assert moving_average(["success"] * (AVERAGED - 1)) == []
    assert moving_average(["success"] * AVERAGED) == [1.0]
