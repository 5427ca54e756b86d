"""Shared memory of a run: newest wins without torn reads, ticks are dropped and counted, dead runs are swept."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from poco import shm
from poco.errors import PocoError, UsageError
from poco.records import CHUNK_SPLINE, MAX_SEGMENTS, ROBOT_STATE, TICK
from poco.shm import RunMemory
from poco.trouble import Request

SPAWN = multiprocessing.get_context("spawn")
WRITES = 20_000


@pytest.fixture
def run() -> Iterator[RunMemory]:
    """Yield the memory of a fresh run."""
    memory = RunMemory.create(f"test-{os.getpid()}")
    yield memory
    memory.unlink()


def _write_states(name: str) -> None:
    memory, state = RunMemory.attach(name), np.zeros((), ROBOT_STATE)
    for tick in range(1, WRITES + 1):
        state["tick"] = state["generation"] = tick
        state["q"] = state["O_T_EE"][:7] = float(tick)
        memory.publish_state(state)


def _write_chunks(name: str) -> None:
    memory, chunk = RunMemory.attach(name), np.zeros((), CHUNK_SPLINE)
    for ident in range(1, 2001):
        used = 1 + ident % MAX_SEGMENTS
        chunk["chunk_id"], chunk["segments"] = ident, used
        chunk["knots"][: used + 1] = ident
        chunk["coefficients"][:used] = float(ident)
        chunk["gripper"][:used] = float(ident)
        memory.publish_chunk(chunk)


def test_states_are_never_torn_between_processes(run: RunMemory) -> None:
    """While another process writes at full speed every read is one whole record, in rising order, up to the last."""
    writer = SPAWN.Process(target=_write_states, args=(run.name,))
    writer.start()
    last, reads = 0, 0
    while last < WRITES:
        assert writer.exitcode in (None, 0), "the writing process died"
        state = run.read_state()
        if state is None:
            continue
        tick = int(state["tick"])
        assert tick >= last
        assert state["generation"] == tick
        assert np.all(state["q"] == tick)
        assert np.all(state["O_T_EE"][:7] == tick)
        reads, last = reads + (tick > last), tick
    writer.join()
    assert reads > 1


def test_chunks_are_never_torn_between_processes(run: RunMemory) -> None:
    """Chunks of every size arrive whole although only their used part is copied."""
    writer = SPAWN.Process(target=_write_chunks, args=(run.name,))
    writer.start()
    last = 0
    while last < 2000:
        assert writer.exitcode in (None, 0), "the writing process died"
        chunk = run.read_chunk()
        if chunk is None:
            continue
        ident, used = int(chunk["chunk_id"]), int(chunk["segments"])
        assert ident >= last
        assert used == 1 + ident % MAX_SEGMENTS
        assert np.all(chunk["knots"][: used + 1] == ident)
        assert np.all(chunk["coefficients"][:used] == ident)
        assert np.all(chunk["gripper"][:used] == ident)
        last = ident
    writer.join()


def test_a_full_ring_drops_the_new_tick_and_counts_it(run: RunMemory) -> None:
    """8192 ticks wait in order, the 100 that did not fit are counted, and room is there again after draining."""
    tick = np.zeros((), TICK)
    for number in range(8192 + 100):
        tick["state"]["tick"] = number
        run.native.push_tick(tick)
    drained = run.drain_ticks()
    np.testing.assert_array_equal(drained["state"]["tick"], np.arange(8192))
    assert run.control()["ticks_dropped"] == 100
    run.native.push_tick(tick)
    assert run.drain_ticks()["state"]["tick"] == [8291]
    assert len(run.drain_ticks()) == 0


def test_control_block_is_shared(run: RunMemory) -> None:
    """What the supervisor writes another attachment reads."""
    other = RunMemory.attach(run.name)
    run.set_request(Request.ARMED)
    run.recover()
    run.beat()
    control = other.control()
    assert control["request"] == Request.ARMED
    assert control["recoveries"] == 1
    assert control["supervisor_ns"] > 0


def test_waiters_wake_at_their_tick(run: RunMemory) -> None:
    """Threads waiting for different ticks each see at least theirs; a tick that never comes times out."""
    results: dict[int, int] = {}

    def wait(tick: int) -> None:
        assert run.wait_tick(tick, 20.0)
        results[tick] = int(run.control()["tick"])

    threads = [threading.Thread(target=wait, args=(tick,)) for tick in (5, 50, 50, 99)]
    for thread in threads:
        thread.start()
    for tick in range(100):
        run.native.announce(tick)
    for thread in threads:
        thread.join()
    assert sorted(results) == [5, 50, 99]
    assert all(seen >= tick for tick, seen in results.items())
    assert not run.wait_tick(100, 0.01)


def _die_holding(name: str) -> None:
    RunMemory.create(name)
    os._exit(1)


def test_sweep_removes_dead_runs_only(run: RunMemory) -> None:
    """The file of a process that died is removed, the file of a living one stays."""
    dead = f"{run.name}-dead"
    process = SPAWN.Process(target=_die_holding, args=(dead,))
    process.start()
    process.join()
    assert (shm.DIRECTORY / f"poco-{dead}").exists()
    swept = shm.sweep()
    assert dead in swept
    assert run.name not in swept
    assert RunMemory.attach(run.name).control()["tick"] == 0


def test_errors_before_motion_say_what_to_do(run: RunMemory) -> None:
    """A taken name, a missing run, a foreign file and an impossible name raise one sentence each."""
    with pytest.raises(PocoError, match="exists already"):
        RunMemory.create(run.name)
    with pytest.raises(PocoError, match="does not exist"):
        RunMemory.attach(f"{run.name}-missing")
    with pytest.raises(UsageError, match="letters"):
        RunMemory.create("../etc")
    foreign = shm.DIRECTORY / f"poco-{run.name}-foreign"
    try:
        foreign.write_bytes(b"something else")
        with pytest.raises(PocoError, match="another size"):
            RunMemory.attach(f"{run.name}-foreign")
        foreign.write_bytes(bytes(run.path.stat().st_size))
        with pytest.raises(PocoError, match="another version"):
            RunMemory.attach(f"{run.name}-foreign")
    finally:
        foreign.unlink()
