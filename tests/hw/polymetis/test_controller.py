"""The controller that runs in a Polymetis server: it does what the timeline says, rests by itself, and refuses what it must."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest

from poco.hw.polymetis.controller import UpdateWriter
from poco.hw.polymetis.timeline import Piece, piece_of_chunk, piece_of_commands
from poco.records import COMMAND
from told_controller import GAP_MAX_S, HELD_RAD, INERTIA, ORIGIN_S, Told, at_rest, chunk

ORIGIN_TICK = ORIGIN_S * 1000
TORQUE_NM = 1e-3
"""What single precision on the wire may differ by."""


@pytest.fixture
def told() -> Told:
    """A controller that has held for 100 ms."""
    told = Told()
    for tick in range(5900, 6000):
        told.torque(tick)
    return told


def first_piece() -> Piece:
    return piece_of_chunk(chunk(6020, HELD_RAD, 0.05, 0.1), ORIGIN_TICK)


def test_it_follows_the_timeline(told: Told) -> None:
    """Two chunks with holds before, between and after, at times between the ticks too: torques are those of the timeline."""
    spline = chunk(6020, HELD_RAD, 0.05, 0.1)
    end_tick = 6020 + int(spline["knots"][int(spline["segments"])])
    second = chunk(end_tick + 200, at_rest(spline), -0.04)
    pieces = {6000: spline, end_tick + 100: second}
    for tick in range(6000, end_tick + 1500):
        if tick in pieces:
            piece = piece_of_chunk(pieces[tick], ORIGIN_TICK)
            told.tell(piece)
            told.timeline.take(piece, INERTIA)
        late = 0.3 * np.sin(tick)
        assert np.abs(told.torque(tick + late) - told.expected(tick + late)).max() < TORQUE_NM, tick
    assert np.abs(told.timeline.at(100.0)[0] - at_rest(second)).max() < 1e-9


def test_one_update_and_then_rest(told: Told) -> None:
    """After one update nothing more is needed: the arm is held where the chunk ends, for as long as it takes."""
    told.tell(first_piece())
    for tick in range(6000, 9000, 10):
        told.torque(tick)
    held = told.torque(9000)
    assert np.abs(held[:4] - 600.0 * 0.1).max() < TORQUE_NM
    for tick in range(9010, 20_000, 10):
        assert np.array_equal(told.torque(tick), held)


def spoiled(change: Callable[[Piece], Piece]) -> Piece:
    return change(first_piece())


@pytest.mark.parametrize(
    "piece",
    [
        pytest.param(spoiled(lambda p: Piece(p.begins_s - 0.025, p.coefficients)), id="late"),
        pytest.param(spoiled(lambda p: Piece(p.begins_s, p.coefficients * np.nan)), id="not finite"),
        pytest.param(spoiled(lambda p: Piece(p.begins_s * np.inf, p.coefficients)), id="at no time"),
        pytest.param(spoiled(lambda p: Piece(p.begins_s[:-1], p.coefficients)), id="of another length"),
        pytest.param(spoiled(lambda p: Piece(p.begins_s, p.coefficients + 1e-3)), id="beginning elsewhere"),
    ],
)
def test_it_refuses(told: Told, piece: Piece) -> None:
    """An update that is late, not finite, malformed or begins elsewhere changes nothing, and a good one after it counts."""
    told.tell(piece)
    for tick in range(6000, 6015):
        assert np.abs(told.torque(tick) - told.expected(tick)).max() < TORQUE_NM
    told.tell(first_piece())
    told.timeline.take(first_piece(), INERTIA)
    for tick in range(6015, 6400):
        assert np.abs(told.torque(tick) - told.expected(tick)).max() < TORQUE_NM


@pytest.mark.parametrize("jump_ticks", [-3000, 30, 4000])
def test_a_clock_that_jumps(told: Told, jump_ticks: int) -> None:
    """Where the server's time jumps, the motion goes on without a step to its planned rest, and no update is taken any more."""
    assert abs(jump_ticks) > GAP_MAX_S * 1000
    told.tell(first_piece())
    told.timeline.take(first_piece(), INERTIA)
    for tick in range(6000, 6100):
        told.torque(tick)
    for tick in range(6100, 8000):
        assert np.abs(told.torque(tick + jump_ticks) - told.expected(tick)).max() < TORQUE_NM
    told.tell(piece_of_chunk(chunk(8100 + jump_ticks, HELD_RAD + 0.1, 0.05), ORIGIN_TICK))
    for tick in range(8000, 8500):
        assert np.abs(told.torque(tick + jump_ticks) - told.expected(tick)).max() < TORQUE_NM


def test_a_stop_told_as_ticks(told: Told) -> None:
    """A stop that `step()` has made tick by tick is told in longer segments and differs from them by less than a micrometre."""
    commands = np.zeros(100, COMMAND)
    seconds = np.minimum(np.arange(100), 90) / 1000.0
    ends = 0.09
    for row, s in enumerate(seconds):
        share = 1.0 - s / ends
        commands["q"][row] = HELD_RAD + 0.3 * ends / 4 * (1.0 - share**4)
        commands["dq"][row], commands["ddq"][row] = 0.3 * share**3, -0.9 / ends * share**2
    piece = piece_of_commands(commands, 6020, ORIGIN_TICK)
    told.timeline.take(piece, INERTIA)
    error = [np.abs(told.timeline.at(1.02 + row / 1000)[0] - commands["q"][row]).max() for row in range(100)]
    assert max(error) < 1e-6
    assert len(piece.begins_s) < 20


def test_updates_are_small_and_quiet() -> None:
    """An update of a chunk fits into a few messages, and TorchScript's end of life is not said at every one."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        writer = UpdateWriter()
        sizes = [len(writer.bytes_of(first_piece(), INERTIA)) for _ in range(20)]
    assert max(sizes) < 16 * 1024
