"""The recorder keeps the newest ticks on a bounded disk, and the timing of every minute."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest

from poco.records import TICK
from poco.runtime.measures import Recording, measure
from poco.runtime.recorder import MINUTE_TICKS, TickRecorder
from poco.runtime.run_folder import OLD_TICKS, TICKS, EpisodeEnded, EpisodeStarted, RunFolder
from poco.statistics import percentiles
from synthetic_run import TURNAROUND_NS, facts

DRAIN = 7_001
"""Ticks handed over at once, such that no minute ends with a hand-over."""


def ticks_of(first: int, count: int) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    """TICK records [count] from tick `first` on; every tenth took 2 ms, the others TURNAROUND_NS."""
    ticks = np.zeros(count, TICK)
    numbers = first + np.arange(count)
    ticks["state"]["tick"] = numbers
    ticks["state"]["received_ns"] = numbers * 1_000_000
    ticks["sent_ns"] = ticks["state"]["received_ns"] + np.where(numbers % 10, TURNAROUND_NS, 2_000_000)
    ticks["period_ns"] = 1_000_000
    return ticks


def record(folder: RunFolder, keep_minutes: int, count: int) -> None:
    """Record ticks 0 to `count` in several hand-overs."""
    recorder = TickRecorder(folder, keep_minutes)
    for first in range(0, count, DRAIN):
        recorder.add(ticks_of(first, min(DRAIN, count - first)))
    recorder.close()


def test_a_long_run_keeps_the_newest_ticks(tmp_path: Path) -> None:
    """Between once and twice the minutes asked for are kept, without a gap, and no file grows beyond."""
    folder = RunFolder.create(tmp_path, facts())
    count = round(3.5 * MINUTE_TICKS)
    record(folder, 1, count)
    kept = folder.ticks()["state"]["tick"]
    assert MINUTE_TICKS <= len(kept) <= 2 * MINUTE_TICKS
    assert kept[-1] == count - 1
    assert np.all(np.diff(kept) == 1)
    assert max((tmp_path / name).stat().st_size for name in (TICKS, OLD_TICKS)) <= MINUTE_TICKS * TICK.itemsize


def test_a_short_run_keeps_everything(tmp_path: Path) -> None:
    """What fits is one file, byte for byte."""
    folder = RunFolder.create(tmp_path, facts())
    record(folder, 1, 20_000)
    assert folder.ticks().tobytes() == ticks_of(0, 20_000).tobytes()
    assert not (tmp_path / OLD_TICKS).exists()


def test_every_minute_is_described(tmp_path: Path) -> None:
    """The minutes hold all ticks, those let go too, with percentiles and what took longer than 1 ms; the last may be short."""
    folder = RunFolder.create(tmp_path, facts())
    count = round(2.5 * MINUTE_TICKS)
    record(folder, 1, count)
    minutes = folder.minutes()
    assert sum(minute.ticks for minute in minutes) == count
    assert all(MINUTE_TICKS - DRAIN < minute.ticks <= MINUTE_TICKS for minute in minutes[:-1])
    assert sum(minute.turnaround_over_1_ms for minute in minutes) == count // 10
    assert minutes[-1].tick == count - 1
    first = minutes[0]
    assert first.turnaround_us == percentiles(
        np.where(np.arange(first.ticks) % 10, TURNAROUND_NS, 2_000_000).astype(float) / 1e3
    )
    assert first.period_us is not None
    assert first.period_us.maximum == 1000.0


def test_the_report_says_what_was_let_go(tmp_path: Path) -> None:
    """The report counts the ticks that are no longer there and draws only the episodes that are kept whole."""
    folder = RunFolder.create(tmp_path, facts())
    count = round(2.5 * MINUTE_TICKS)
    for episode in range(5):
        first = episode * MINUTE_TICKS // 2
        folder.append_event(EpisodeStarted(tick=first, episode=episode, seed=episode))
        ended = EpisodeEnded(tick=first + 20_000, episode=episode, outcome="success", steps=40, ticks=20_000)
        folder.append_event(ended)
    record(folder, 1, count)
    report = measure(recording := Recording.read(folder))
    assert report.ticks + report.ticks_let_go == count
    assert report.ticks_let_go > 0
    assert report.finished == 5
    from poco.runtime.panels import windows

    first_kept = int(recording.ticks["state"]["tick"][0])
    assert list(windows(recording)) == [episode for episode in range(5) if episode * MINUTE_TICKS // 2 >= first_kept]


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    """A write that does not fit raises the system's own error, so that the run ends before it lies."""
    folder = RunFolder.create(tmp_path, facts())
    (tmp_path / TICKS).symlink_to("/dev/full")
    recorder = TickRecorder(folder, 1)
    with pytest.raises(OSError) as caught:
        recorder.add(ticks_of(0, 10))
    assert caught.value.errno == errno.ENOSPC
    recorder.close()
