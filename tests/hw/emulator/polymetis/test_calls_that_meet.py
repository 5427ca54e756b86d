"""Calls that meet in the emulated controller server exclude each other as the real one's do; real gRPC, steps taken by the test."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Thread

import grpc
import numpy as np
import pytest

from controller_stage import PATIENCE_S, Stage
from poco.hw.emulator.polymetis.host import Phase
from poco.hw.polymetis.polymetis_pb2 import RobotState
from told_controller import counting_controller, nothing_told

HOST = "127.0.5.41"
UPDATES = 3
SET, UPDATE, END = "SetController", "UpdateController", "TerminateController"


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A server whose robot client has taken one step."""
    stage = Stage(HOST, states_max=100_000)
    stage.step()
    yield stage
    stage.close()


def test_another_controller_waits_until_one_is_set(stage: Stage) -> None:
    """The one that is being set runs for at least a step before the next one takes its place: both have an episode."""
    first = stage.begin(SET, counting_controller())
    stage.until_phase(Phase.READY)
    second = stage.begin(SET, counting_controller())
    assert not first.done()
    assert stage.done(first).start == 1
    assert stage.done(second).start > 1


def test_an_update_waits_until_the_controller_is_set(stage: Stage) -> None:
    """It is taken by the controller that is being set, which does not run yet when the update arrives."""
    first = stage.begin(SET, counting_controller())
    stage.until_phase(Phase.READY)
    update = stage.begin(UPDATE, nothing_told())
    assert not update.done()
    stage.done(first)
    stage.done(update)
    assert stage.host.updates == 1


def test_an_end_waits_until_the_controller_is_set(stage: Stage) -> None:
    """It ends the controller that is being set."""
    first = stage.begin(SET, counting_controller())
    stage.until_phase(Phase.READY)
    end = stage.begin(END)
    assert not end.done()
    began = stage.done(first).start
    interval = stage.done(end)
    assert (interval.start, interval.end >= began) == (began, True)


def test_a_controller_waits_until_another_has_ended(stage: Stage) -> None:
    """The one that ends keeps its episode: its last state is known before the first of the next one."""
    stage.done(stage.begin(SET, counting_controller()))
    end = stage.begin(END)
    stage.until_phase(Phase.TERMINATING)
    second = stage.begin(SET, counting_controller())
    assert not second.done()
    ended = stage.done(end).end
    assert 1 <= ended < stage.done(second).start


def test_an_end_and_an_update_wait_until_the_controller_has_ended(stage: Stage) -> None:
    """Neither finds one that runs, and both are told so."""
    stage.done(stage.begin(SET, counting_controller()))
    end = stage.begin(END)
    stage.until_phase(Phase.TERMINATING)
    others = [stage.begin(END), stage.begin(UPDATE, nothing_told())]
    assert not any(other.done() for other in others)
    stage.done(end)
    for other in others:
        with pytest.raises(grpc.RpcError, match="no controller running"):
            stage.done(other)


def test_questions_wait_for_nothing(stage: Stage) -> None:
    """While a call waits for a step that does not come, state, liveness and episode are told."""
    waiting = stage.begin(SET, counting_controller())
    stage.until_phase(Phase.READY)
    assert len(stage.client.state().joint_positions) == 7
    assert stage.client.metadata().dof == 7
    assert (stage.client.interval().start, stage.client.interval().end) == (-1, -1)
    assert not waiting.done()


def test_no_step_is_taken_in_the_middle_of_an_update(stage: Stage) -> None:
    """An update that takes long changes two numbers of the controller one after the other; no step sees only one of them."""
    stage.done(stage.begin(SET, counting_controller()))
    for _ in range(UPDATES):
        update = stage.begin(UPDATE, nothing_told())
        for torques in stage.step_until(update.done):
            np.testing.assert_array_equal(torques, 0.0)
    assert stage.host.updates == UPDATES


def test_an_episode_has_the_torques_of_its_controller(stage: Stage) -> None:
    """From the first to the last state that are told the torques are those of the controller, before and after the server's own."""
    stage.done(stage.begin(SET, counting_controller(torque_nm=0.5)))
    interval = stage.done(stage.begin(END))
    states, _ = stage.host.states.since(0)
    ours = [0.5 in RobotState.FromString(state).joint_torques_computed for state in states]
    assert ours == [interval.start <= number <= interval.end for number in range(stage.tick)]


def test_the_end_of_the_server_releases_a_call_that_waits(stage: Stage) -> None:
    """Where the robot client takes no step any more, a server that ends does not wait for one."""
    waiting = Thread(target=stage.host.set_controller, args=(counting_controller(),))
    waiting.start()
    stage.until_phase(Phase.READY)
    stage.service.close()
    waiting.join(PATIENCE_S)
    assert not waiting.is_alive()
