"""The servo object: chunks and requests from shared memory in, commands, robot states and ticks out."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator

import numpy as np
import pytest
from following_arm import READY_RAD, make_chunk, wide_limits

from poco import _core
from poco.clock import monotonic_ns
from poco.shm import RunMemory
from poco.trouble import BY_NAME, Mode, Request

REST = np.zeros(7)


class Loop:
    """What the servo process does each tick, with an arm that follows perfectly."""

    def __init__(self, run: RunMemory, orphan_hold_s: float = 60.0, hold_timeout_ticks: int = 60_000) -> None:
        limits = wide_limits()
        limits["hold_timeout_ticks"] = hold_timeout_ticks
        self.servo = _core.Servo(run.native, limits, orphan_hold_s=orphan_hold_s)
        self.q, self.tick = list(READY_RAD), 100
        self.dq = self.ddq = [0.0] * 7

    def step(self, ticks: int = 1, robot_mode: int = 2) -> list[float]:
        """Run `ticks` ticks and return the last command."""
        zero = [0.0] * 7
        for _ in range(ticks):
            q = self.servo.tick(
                self.tick, self.q, self.dq, zero, zero, self.q, self.dq, self.ddq, [0.0] * 16, robot_mode, 0
            )
            self.servo.sent()
            dq = [(new - old) * 1000.0 for new, old in zip(q, self.q, strict=True)]
            self.ddq = [(new - old) * 1000.0 for new, old in zip(dq, self.dq, strict=True)]
            self.q, self.dq = q, dq
            self.tick += 1
        return self.q


@pytest.fixture
def run() -> Iterator[RunMemory]:
    """Yield the memory of a fresh run."""
    memory = RunMemory.create(f"servo-{os.getpid()}")
    yield memory
    memory.unlink()


def publish_chunk(run: RunMemory, loop: Loop, shift: float = 0.05, ident: int = 1) -> None:
    """Publish a chunk that attaches to the hold in 5 ticks."""
    target = (np.array(loop.q) + shift)[None]
    run.publish_chunk(make_chunk((np.array(loop.q), REST, REST), target, [400], attach=loop.tick + 5, ident=ident))


def test_a_chunk_goes_through_shared_memory_and_comes_back_as_state_and_ticks(run: RunMemory) -> None:
    """The arm reaches the chunk's end; robot state and ticks tell the same story, tick by tick."""
    loop = Loop(run)
    loop.step(10)
    assert loop.servo.mode == Mode.DISARMED
    run.set_request(Request.ARMED)
    loop.step()
    publish_chunk(run, loop)
    loop.step(100)
    state = run.read_state()
    assert state is not None
    assert state[["chunk_id", "generation", "mode"]].item() == (1, 7, Mode.FOLLOWING)
    loop.step(400)
    np.testing.assert_allclose(loop.q, READY_RAD + 0.05, atol=1e-12)
    ticks = run.drain_ticks()
    np.testing.assert_array_equal(ticks["state"]["tick"], np.arange(100, 100 + 511))
    np.testing.assert_array_equal(ticks["command"]["q"][:-1], ticks["state"]["q"][1:])
    assert np.all(ticks["sent_ns"] >= ticks["state"]["received_ns"])
    assert run.control()["tick"] == 610
    assert run.control()["event_counts"][BY_NAME["chunk_ended"].code] == 1


def test_stop_comes_through_shared_memory(run: RunMemory) -> None:
    """A stop request in motion brakes and then reports finished."""
    loop = Loop(run)
    run.set_request(Request.ARMED)
    loop.step()
    publish_chunk(run, loop)
    loop.step(100)
    run.set_request(Request.STOP)
    loop.step()
    assert (loop.servo.mode, loop.servo.finished) == (Mode.BRAKING, False)
    loop.step(300)
    assert (loop.servo.mode, loop.servo.finished) == (Mode.FINISHED, True)
    assert run.control()["finished"] == 1


@pytest.mark.parametrize(("hold_s", "finished"), [(60.0, False), (0.0, True)])
def test_a_lost_supervisor_means_hold_and_in_the_end_finish(run: RunMemory, hold_s: float, finished: bool) -> None:
    """An old heartbeat brakes the arm; after the hold time the motion is finished."""
    loop = Loop(run, orphan_hold_s=hold_s)
    run.set_request(Request.ARMED)
    run.beat()
    loop.step()
    publish_chunk(run, loop)
    loop.step(100)
    assert loop.servo.mode == Mode.FOLLOWING
    run.native.beat(monotonic_ns() - 3_000_000_000)
    loop.step(300)
    assert run.control()["event_counts"][BY_NAME["supervisor_lost"].code] == 1
    assert loop.servo.finished is finished
    run.beat()
    loop.step()
    assert loop.servo.mode == Mode.HOLDING


def test_a_hold_does_not_time_out_in_a_silence_that_was_announced(run: RunMemory) -> None:
    """Held for longer than the timeout while the policy opens a graph: no fault; patience begins anew when the silence is over."""
    loop = Loop(run, hold_timeout_ticks=50)
    run.set_request(Request.ARMED)
    loop.step()
    publish_chunk(run, loop)
    loop.step(420)
    assert loop.servo.mode == Mode.HOLDING
    run.policy_beat(600.0)
    loop.step(500)
    assert loop.servo.mode == Mode.HOLDING
    run.policy_beat()
    loop.step(49)
    assert loop.servo.mode == Mode.HOLDING
    loop.step()
    assert (loop.servo.mode, loop.servo.fault) == (Mode.FAULT, BY_NAME["hold_timeout"].code)


def test_a_failed_arm_latches_until_recovery_and_starts_from_its_new_pose(run: RunMemory) -> None:
    """After the library raised: fault published, chunks forgotten, first command after recovery is the arm's own pose."""
    loop = Loop(run)
    run.set_request(Request.ARMED)
    loop.step()
    publish_chunk(run, loop)
    loop.step(100)
    loop.servo.arm_failed()
    state = run.read_state()
    assert state is not None
    assert state[["mode", "fault"]].item() == (Mode.FAULT, BY_NAME["arm_error"].code)
    moved = [q + 0.2 for q in loop.q]
    loop.q, loop.dq, loop.ddq, loop.tick = moved, [0.0] * 7, [0.0] * 7, loop.tick + 3000
    loop.servo.reanchor()
    assert loop.step() == pytest.approx(moved, abs=1e-12)
    assert loop.servo.mode == Mode.FAULT
    run.recover()
    loop.step()
    assert (loop.servo.mode, loop.servo.fault) == (Mode.HOLDING, 0)
    publish_chunk(run, loop, ident=2)
    loop.step(50)
    assert loop.servo.mode == Mode.FOLLOWING


def test_arguments_of_the_wrong_length_or_kind_are_refused(run: RunMemory) -> None:
    """A short vector or a word instead of a number raises, naming the argument; nothing is commanded."""
    servo, seven = _core.Servo(run.native, wide_limits()), [0.0] * 7
    with pytest.raises(ValueError, match="dq must hold 7"):
        servo.tick(1, seven, seven[:6], seven, seven, seven, seven, seven, [0.0] * 16, 2, 0)
    with pytest.raises(TypeError):
        servo.tick(1, ["q"] * 7, seven, seven, seven, seven, seven, seven, [0.0] * 16, 2, 0)  # type: ignore[list-item]
    assert run.read_state() is None


def _impossible_setup() -> list[tuple[str, bool, str]]:
    return _core.realtime_setup(1000, 1000)


def test_realtime_setup_says_what_it_could_not_do() -> None:
    """An impossible priority and CPU fail with a reason and a remedy; the timer slack needs no rights."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        facts = pool.apply(_impossible_setup)
    assert [ok for what, ok, _ in facts if "timer" in what] == [True]
    refused = {what: reason for what, ok, reason in facts if not ok}
    assert "SCHED_FIFO priority 1000" in refused
    assert "pinned to CPU 1000" in refused
    assert all("; " in reason for reason in refused.values())


def test_a_silent_arm_is_announced_and_stays_latched_when_it_speaks_again(run: RunMemory) -> None:
    """No tick after a command: waiters wake long before their time, state says arm_silent; the next tick brakes and latches."""
    loop = Loop(run)
    loop.servo.watch(0.01)
    run.set_request(Request.ARMED)
    loop.step()
    publish_chunk(run, loop)
    loop.step(100)
    assert loop.servo.mode == Mode.FOLLOWING
    assert not run.wait_tick(loop.tick + 1, timeout_s=100.0)
    state = run.read_state()
    assert state is not None
    assert state[["mode", "fault"]].item() == (Mode.FAULT, BY_NAME["arm_silent"].code)
    assert run.control()["alarms"] == 1
    loop.step(300)
    assert (loop.servo.mode, loop.servo.fault) == (Mode.FAULT, BY_NAME["arm_silent"].code)
    assert loop.dq == REST.tolist()
    assert run.control()["event_counts"][BY_NAME["arm_silent"].code] == 1
    publish_chunk(run, loop, ident=2)
    loop.step(50)
    assert loop.dq == REST.tolist()
    run.recover()
    loop.step()
    assert (loop.servo.mode, loop.servo.fault) == (Mode.HOLDING, 0)


def test_nothing_is_due_before_the_first_command_after_a_failure_or_at_the_end(run: RunMemory) -> None:
    """The watchdog keeps quiet while no state is due: before motion, between failure and recovery, after the stop."""
    loop = Loop(run)
    loop.servo.watch(0.005)
    assert not run.wait_tick(1, timeout_s=0.05)
    run.set_request(Request.STOP)
    loop.step(2)
    assert loop.servo.finished
    assert not run.wait_tick(loop.tick + 1, timeout_s=0.05)
    assert (loop.servo.fault, int(run.control()["alarms"])) == (0, 0)
    loop.servo.arm_failed(BY_NAME["user_stopped"].code)
    assert not run.wait_tick(loop.tick + 1, timeout_s=0.05)
    assert (loop.servo.fault, int(run.control()["alarms"])) == (BY_NAME["user_stopped"].code, 1)
