"""The ring of states of the emulated controller server: what is kept, how it is numbered, what a slow reader gets; real gRPC."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import pytest

from controller_stage import PATIENCE_S, Stage
from poco.hw.emulator.polymetis.host import Phase
from poco.hw.emulator.polymetis.states import STATES_MAX, StateRing
from poco.hw.polymetis.polymetis_pb2 import RobotState
from told_controller import counting_controller

HOST = "127.0.5.42"
KEPT = 100
MANY = 20 * KEPT
WRITTEN = 20_000


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A server that keeps few states."""
    stage = Stage(HOST, states_max=KEPT)
    yield stage
    stage.close()


@contextmanager
def turns_of(seconds: float) -> Iterator[None]:
    """Within it a thread that waits for nothing gives way to another after so long."""
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(seconds)
    try:
        yield
    finally:
        sys.setswitchinterval(before_s)


def number_of(state: RobotState) -> int:
    """The stage stamps every state with its number in ms."""
    return state.timestamp.seconds * 1000 + state.timestamp.nanos // 1_000_000


def test_before_the_first_state_an_empty_one_is_given(stage: Stage) -> None:
    """Nobody has measured anything yet."""
    assert stage.client.state() == RobotState()


def test_the_newest_are_kept_and_numbered_from_the_start(stage: Stage) -> None:
    """States that are given up count on: an episode begins at the number of all states before it, also of those long gone."""
    for _ in range(MANY):
        stage.step()
    assert number_of(stage.client.state()) == MANY - 1
    kept, number = stage.host.states.since(0)
    assert [number_of(RobotState.FromString(state)) for state in kept] == list(range(MANY - KEPT, MANY))
    assert number == MANY
    setting = stage.begin("SetController", counting_controller())
    stage.until_phase(Phase.READY)
    assert stage.done(setting).start == MANY


def test_a_reader_that_is_too_slow_goes_on_with_the_oldest_kept(stage: Stage) -> None:
    """What it missed is left out, nothing comes twice or out of order, and the newest come all."""
    stream, received = stage.client.states(), []
    reader = Thread(target=lambda: received.append(next(stream)))
    reader.start()
    stage.step_until(lambda: bool(received))
    reader.join()
    with turns_of(PATIENCE_S):
        for _ in range(MANY):
            stage.step()
    while number_of(received[-1]) < stage.tick - 1:
        received.append(next(stream))
    numbers = [number_of(state) for state in received]
    assert numbers == sorted(set(numbers))
    assert len(numbers) < stage.tick - numbers[0]
    assert numbers[-KEPT:] == list(range(stage.tick - KEPT, stage.tick))


def test_a_reader_beside_the_writer_gets_every_state_once() -> None:
    """Whenever it looks: none twice, none left out, though the two never wait for each other to finish."""
    ring, read, number = StateRing(STATES_MAX), [], 0
    written = [str(one).encode() for one in range(WRITTEN)]

    def write() -> None:
        for state in written:
            ring.append(state)

    writer = Thread(target=write)
    with turns_of(1e-6):
        writer.start()
        while number < WRITTEN:
            states, number = ring.since(number)
            read += states
    assert read == written
