"""The report says of a run of known content exactly what is in it, and copes with runs that were cut short."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from poco.limits import ACCELERATION_MAX_RAD_S2, JERK_MAX_RAD_S3
from poco.runtime.cli import show_report
from poco.runtime.measures import LIMIT_KINDS, Recording, Report, limit_shares, measure
from poco.runtime.plots import JOINT_AXIS_MIN_RAD, PICTURES, joints, styled, thin
from poco.runtime.report import REPORT, print_summary, report, write_report
from poco.runtime.run_flags import PACKAGED_CONFIG
from poco.runtime.run_folder import CHUNKS, EVENTS, TICKS, EpisodeStarted, RunFolder
from poco.settings import read_settings
from synthetic_run import (
    AMPLITUDE_RAD,
    ANGULAR_RAD_S,
    EPISODE_TICKS,
    GAP_TICKS,
    OUTCOMES,
    SLOW_TICKS,
    TURNAROUND_NS,
    episode_ticks,
    facts,
    latched,
    make_run,
)

EPISODES = len(OUTCOMES)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return measure(Recording.read(make_run(tmp_path_factory.mktemp("run"))))


def test_success(measured: Report) -> None:
    """Successes are counted over finished episodes, with the Wilson interval, and outcomes stand beside their seeds."""
    assert (measured.successes, measured.finished) == (3, 4)
    low, high = measured.success_interval_95
    assert low == pytest.approx(0.3006, abs=1e-4)
    assert high == pytest.approx(0.9544, abs=1e-4)
    assert [(episode.outcome, episode.seed) for episode in measured.episodes] == [
        (outcome, 100 + number) for number, outcome in enumerate(OUTCOMES)
    ]


def test_turnaround(measured: Report) -> None:
    """Turnaround is the time from state to command of every tick, and the slow ticks are counted."""
    assert measured.turnaround_us is not None
    assert measured.turnaround_us.count == EPISODES * EPISODE_TICKS
    assert TURNAROUND_NS / 1e3 <= measured.turnaround_us.p50 <= TURNAROUND_NS / 1e3 + 20.0
    assert measured.turnaround_us.maximum >= 2000.0
    assert measured.turnaround_over_1_ms == EPISODES * SLOW_TICKS


def test_period_is_measured_inside_motions(measured: Report) -> None:
    """The gap between two motions is no period; it is reported as ticks that are not in the recording."""
    assert measured.period_us is not None
    assert measured.period_us.count == EPISODES * (EPISODE_TICKS - 1)
    assert measured.period_us.maximum < 1100.0
    assert (measured.tick_gaps, measured.ticks_missing) == (EPISODES - 1, (EPISODES - 1) * GAP_TICKS)


def test_chunks(measured: Report) -> None:
    """Stages of latency, deadline, age and the late and stretched chunks are those of the records."""
    assert (measured.chunks, measured.chunks_late, measured.chunks_stretched) == (32, 4, 4)
    assert measured.deadline_ms == 50.0
    assert measured.over_deadline == 0
    total, parts = measured.latency_ms["total"], measured.latency_ms["planning"]
    assert total is not None
    assert parts is not None
    assert total.p50 == pytest.approx(2.47, abs=0.01)
    assert parts.maximum == pytest.approx(0.7)
    assert measured.chunk_age_ms is not None
    assert measured.chunk_age_ms.maximum == 50 + 249


def test_deadline_follows_speed(tmp_path: Path) -> None:
    """At a fifth of the speed the periods are five times as long, and so is the time a chunk may take."""
    folder = RunFolder.create(tmp_path, msgspec.structs.replace(facts(), speed=0.2))
    assert measure(Recording.read(folder)).deadline_ms == pytest.approx(250.0)


def test_troubles_and_events(measured: Report) -> None:
    """Drops are counted by the name in the trouble table; reflexes, recoveries and dilation are those of the events."""
    assert measured.troubles == {"chunk_late": EPISODES}
    assert measured.reflexes == [["cartesian_reflex"]]
    assert measured.recoveries == 1
    assert (measured.dilation_total_s, measured.dilation_longest_s) == (0.25, 0.04)
    assert measured.faults == []


def test_limits(measured: Report) -> None:
    """Acceleration and jerk by backward differences agree with the derivatives of the sine that was commanded."""
    peak = AMPLITUDE_RAD / 2.0 * ANGULAR_RAD_S**2
    acceleration, jerk = measured.limits["acceleration"], measured.limits["jerk"]
    assert acceleration is not None
    assert jerk is not None
    assert acceleration.largest == pytest.approx(peak / ACCELERATION_MAX_RAD_S2[6], rel=1e-3)
    assert jerk.largest == pytest.approx(peak * ANGULAR_RAD_S / JERK_MAX_RAD_S3[6], rel=1e-2)
    assert int(np.argmax(acceleration.per_joint)) == 6


@pytest.mark.parametrize(("kind", "order"), [("velocity", 1), ("acceleration", 2), ("jerk", 3)])
def test_a_jump_is_seen(kind: str, order: int) -> None:
    """A jump of the commands shows as a use above 100 % of each limit, at the tick of the jump."""
    q = np.tile([0.0, -0.2, 0.0, -2.2, 0.0, 2.0, 0.785], (20, 1))
    q[10:, 2] += 0.01
    share = limit_shares(q)[kind]
    assert share[10, 2] > 1.0
    assert not share[:10].any()
    assert share[10, 2] == pytest.approx(0.01 * 1000.0**order / {1: 2.62, 2: 10.0, 3: 5000.0}[order])


def test_report_and_pictures(tmp_path: Path) -> None:
    """report.json decodes to the report, and every picture is a PNG with something in it."""
    folder = make_run(tmp_path)
    report(tmp_path)
    made = msgspec.json.decode((tmp_path / REPORT).read_bytes(), type=Report)
    assert made == measure(Recording.read(folder))
    for name in PICTURES:
        with Image.open(tmp_path / name) as picture:
            assert picture.width > 900
            assert len(picture.convert("P").getcolors() or []) > 20


@pytest.mark.parametrize("missing", [(TICKS,), (CHUNKS, EVENTS)])
def test_parts_may_be_missing(tmp_path: Path, missing: tuple[str, ...]) -> None:
    """A run without ticks, or without chunks and events, still gives a whole report."""
    folder = make_run(tmp_path)
    for name in missing:
        (tmp_path / name).unlink()
    made, paths = write_report(folder)
    assert all(path.is_file() for path in paths)
    assert (made.ticks == 0) == (TICKS in missing)
    assert (made.finished == 0) == (EVENTS in missing)
    assert all((made.limits[kind] is None) == (TICKS in missing) for kind in LIMIT_KINDS)


@pytest.mark.parametrize("count", [1, 4])
def test_few_ticks(tmp_path: Path, count: int) -> None:
    """A run that faulted in its first ticks, the last of them half written, gives a report with the fault in it."""
    folder = RunFolder.create(tmp_path, facts())
    folder.append_event(EpisodeStarted(tick=1000, episode=0, seed=1))
    folder.append_event(latched("a sentence"))
    with folder.open_ticks() as stream:
        stream.write(episode_ticks(0)[: count + 1].tobytes()[:-7])
    made, _ = write_report(folder)
    assert made.ticks == count
    assert made.faults == ["a sentence"]
    assert made.episodes[0].outcome == "unfinished"


def test_summary(measured: Report, tmp_path: Path) -> None:
    """The terminal says the rate, every trouble and where the pictures are."""
    paths = [tmp_path / name for name in (*PICTURES, REPORT)]
    console = Console(record=True, width=200, file=StringIO())
    print_summary(measured, paths, console)
    text = console.export_text()
    for words in ("3 of 4 episodes succeeded", "chunk_late 4", "12 over 1 ms", "deadline 50 ms", *map(str, paths)):
        assert words in text
    assert measured.turnaround_us is not None
    assert measured.turnaround_us.maximum > 1000.0
    assert f"max {measured.turnaround_us.maximum:,.0f} µs" in text


def test_no_strip_is_drawn_without_an_episode(tmp_path: Path) -> None:
    """A run of the emulated arm that kept no episode has nothing to show as pictures, which is no error."""
    folder, out = make_run(tmp_path / "run"), StringIO()
    assert not any(folder.episodes.iterdir())
    show_report(folder, None, read_settings(PACKAGED_CONFIG, {}), Console(file=out, width=200))
    assert "report.png" in out.getvalue()
    assert "error" not in out.getvalue()


def test_thinning_keeps_maxima() -> None:
    """A line of 100,000 points is drawn with few, none of its peaks lost."""
    y = np.zeros(100_003)
    y[[5, 50_000, 100_002]] = 1.0
    x, peaks = thin(np.arange(100_003.0), y)
    assert len(x) == len(peaks) <= 1501
    assert (peaks == 1.0).sum() == 3


@pytest.mark.filterwarnings("error")
def test_an_arm_that_stands_still_has_axes_that_say_so(tmp_path: Path) -> None:
    """Where nothing moved, as before the first key of a demonstration, no axis is blown up to rounding errors."""
    folder = make_run(tmp_path)
    ticks = np.fromfile(tmp_path / TICKS, folder.ticks().dtype)
    ticks["state"]["q"] = ticks["command"]["q"] = ticks["state"]["q"][0]
    ticks.tofile(tmp_path / TICKS)
    recording = Recording.read(folder)
    with styled():
        figure = joints(recording, measure(recording))
        spans = [np.ptp(axes.get_ylim()) for axes in figure.axes[:7]]
    assert min(spans) >= 2 * JOINT_AXIS_MIN_RAD
    write_report(folder)
