"""`step()` ahead of robot time: it decides as ever, and what is new comes out as pieces of motion, in time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from poco import _core
from poco.hw.polymetis.timeline import Timeline
from poco.limits import STEP_MARGINS, fr3_limits
from poco.records import CHUNK_SPLINE, COMMAND
from poco.runtime.polymetis.preview import Preview
from poco.trouble import BY_NAME, Mode, Request
from told_controller import HELD_RAD, INERTIA, Floats, chunk

LEAD_TICKS = 25
FIRST_TICK = 1000
LIMITS = fr3_limits(STEP_MARGINS)


class Driven:
    """A preview, and the timeline of all that came out of it; robot time goes on by `batch` ticks at once."""

    def __init__(self, batch: int = 1) -> None:
        self.preview = Preview(LIMITS, LEAD_TICKS)
        self.preview.begin(FIRST_TICK, HELD_RAD, 0)
        self.timeline = Timeline(HELD_RAD)
        self.tick = FIRST_TICK
        self.batch = batch
        self.newest: npt.NDArray[np.void] | None = None
        self.lag: Floats = np.zeros(7)
        self.pieces: list[tuple[int, float]] = []

    def until(self, tick: int, request: Request = Request.ARMED) -> None:
        """Live through the ticks up to `tick`."""
        while self.tick < tick:
            self.tick += self.batch
            measured = self.timeline.at(self.tick / 1000)[0] - self.lag
            for piece in self.preview.advance(self.tick, measured, self.newest, request, 0):
                self.pieces.append((self.tick, float(piece.begins_s[0])))
                self.timeline.take(piece, INERTIA)

    def commands(self, first: int, last: int) -> Floats:
        """The commanded joints [n, 7] of the ticks from `first` to `last`."""
        return np.array([self.preview.command(tick)["q"] for tick in range(first, last + 1)])

    def told(self, first: int, last: int) -> Floats:
        """Where the timeline is at those ticks."""
        return np.array([self.timeline.at(tick / 1000)[0] for tick in range(first, last + 1)])

    def count(self, trouble: str) -> int:
        """How often that trouble was counted."""
        return self.preview.memory.event_counts[BY_NAME[trouble].code]


@pytest.mark.parametrize("batch", [1, 3, 10])
def test_a_chunk_is_told_once_and_in_time(batch: int) -> None:
    """One piece for one chunk, before its first tick has come; every command afterwards is where the timeline is."""
    driven = Driven(batch)
    driven.until(FIRST_TICK + 50)
    attach_tick = driven.tick + 50
    driven.newest = chunk(attach_tick, HELD_RAD, 0.02, 0.01)
    driven.until(attach_tick + 1500)
    assert [begin_s for _, begin_s in driven.pieces] == [attach_tick / 1000]
    assert attach_tick - LEAD_TICKS <= driven.pieces[0][0] <= attach_tick - LEAD_TICKS + batch
    first, last = FIRST_TICK + 5, attach_tick + 1500
    assert np.abs(driven.commands(first, last) - driven.told(first, last)).max() < 1e-9
    assert driven.count("chunk_ended") == 1


def test_commands_are_those_of_step() -> None:
    """Tick by tick the commands are those that the servo process' `step()` gives an arm that follows."""
    driven = Driven()
    driven.newest = chunk(FIRST_TICK + 100, HELD_RAD, 0.02, 0.01)
    driven.until(FIRST_TICK + 1000)
    state = driven.preview._state.copy()
    state["tick"], state["q_d"], state["q"] = FIRST_TICK, HELD_RAD, HELD_RAD
    commands, spent = np.zeros(1000, COMMAND), np.zeros(1000, np.int64)
    _core.follow(state, driven.newest, Request.ARMED, LIMITS, _core.Memory(), commands, spent, 1000)
    assert np.array_equal(driven.commands(FIRST_TICK, FIRST_TICK + 999), commands["q"])


@pytest.mark.parametrize("ahead_ticks", [-5, 0, LEAD_TICKS - 1])
def test_a_late_chunk_is_dropped(ahead_ticks: int) -> None:
    """A chunk that begins sooner than what was decided is dropped and counted, and nothing is told."""
    driven = Driven()
    driven.until(FIRST_TICK + 100)
    driven.newest = chunk(driven.tick + ahead_ticks, HELD_RAD, 0.02)
    driven.until(FIRST_TICK + 300)
    assert (driven.count("chunk_late"), driven.pieces) == (1, [])
    assert np.array_equal(driven.commands(FIRST_TICK, FIRST_TICK + 300), np.tile(HELD_RAD, (301, 1)))


def test_a_stop_is_told_before_it_begins() -> None:
    """A stop in the middle of a chunk is told as a piece that begins ahead of robot time; commands and timeline agree."""
    driven = Driven()
    driven.newest = chunk(FIRST_TICK + 100, HELD_RAD, 0.1)
    driven.until(FIRST_TICK + 250)
    driven.until(FIRST_TICK + 900, Request.STOP)
    assert len(driven.pieces) == 2
    told_tick, begin_s = driven.pieces[1]
    assert 0 < begin_s * 1000 - told_tick <= LEAD_TICKS
    first, last = FIRST_TICK + 5, FIRST_TICK + 900
    assert np.abs(driven.commands(first, last) - driven.told(first, last)).max() < 1e-6
    assert int(driven.preview.command(last)["mode"]) == Mode.FINISHED


@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize("after_ticks", range(-1, 5))
def test_a_stop_about_a_chunks_first_tick_is_told(after_ticks: int, batch: int) -> None:
    """A chunk that is stopped before the arm has moved is not left with the controller: it holds as the commands do."""
    attach_tick = FIRST_TICK + 150
    driven = Driven(batch)
    driven.newest = chunk(attach_tick, HELD_RAD, 0.1)
    driven.until(attach_tick + after_ticks - 1 - LEAD_TICKS)
    driven.until(attach_tick + 1000, Request.STOP)
    first, last = FIRST_TICK + 5, attach_tick + 1000
    assert np.abs(driven.commands(first, last) - driven.told(first, last)).max() < 1e-6
    assert np.abs(driven.told(last, last) - HELD_RAD).max() < 1e-3


def test_a_chunk_for_an_arm_that_was_pushed_away_is_taken_back() -> None:
    """Where the lead is too large from a chunk's first tick on, the controller keeps holding as well."""
    driven = Driven()
    driven.lag = np.full(7, 0.03)
    driven.newest = chunk(FIRST_TICK + 100, HELD_RAD, 0.1)
    driven.until(FIRST_TICK + 1000)
    assert driven.count("lead_exceeded") == 1
    assert np.abs(driven.told(FIRST_TICK, FIRST_TICK + 1000) - HELD_RAD).max() < 1e-3


def test_an_arm_that_is_left_behind() -> None:
    """An arm that lags further than the guard allows is stopped, as the servo does; one that lags less is not."""
    for lag_rad, stops in ((0.001, 0), (0.03, 1)):
        driven = Driven()
        driven.newest = chunk(FIRST_TICK + 100, HELD_RAD, 0.1)
        driven.until(FIRST_TICK + 250)
        driven.lag = np.full(7, lag_rad)
        driven.until(FIRST_TICK + 600)
        assert driven.count("lead_exceeded") == stops


def test_what_is_not_finite_latches() -> None:
    """A chunk that is no number latches the fault that says so, and nothing is told."""
    driven = Driven()
    bad = chunk(FIRST_TICK + 100, HELD_RAD, 0.02)
    assert bad.dtype == CHUNK_SPLINE
    bad["coefficients"][0] = np.nan
    driven.newest = bad
    driven.until(FIRST_TICK + 300)
    assert driven.preview.memory.fault == BY_NAME["chunk_not_finite"].code
    assert driven.pieces == []


def test_begun_anew_it_starts_where_the_arm_is() -> None:
    """After a trouble of the arm's the motion begins from where it is held, with faults and counters kept."""
    driven = Driven()
    driven.newest = chunk(FIRST_TICK + 100, HELD_RAD, 0.1)
    driven.until(FIRST_TICK + 200)
    driven.preview.latch(BY_NAME["arm_error"])
    elsewhere = HELD_RAD + 0.03
    driven.preview.begin(FIRST_TICK + 2000, elsewhere, 0)
    driven.tick, driven.timeline = FIRST_TICK + 1999, Timeline(elsewhere)
    driven.until(FIRST_TICK + 2100)
    assert np.array_equal(driven.commands(FIRST_TICK + 2000, FIRST_TICK + 2100), np.tile(elsewhere, (101, 1)))
    assert driven.preview.memory.fault == BY_NAME["arm_error"].code
