"""The gripper's own process behind Polymetis: the emulated gripper server; the test is servo, policy and supervisor."""

from __future__ import annotations

import time
from collections.abc import Callable

import grpc
import pytest

from beside_hand import beside
from gripper_stage import CLOSED_M, LEAD_MS, OPEN_M, PATIENCE_S, Stage
from poco.errors import GripperError
from poco.hw.emulator.polymetis.gripper_service import GripperService
from poco.hw.polymetis.gripper import GRIPPER_PORT
from poco.hw.polymetis.polymetis_pb2 import Empty, GripperCommand, GripperState
from poco.runtime.companion import Companion
from poco.runtime.run_events import GripperReady, GripperTold
from poco.trouble import BY_NAME, Mode
from programs import StartProgram


@pytest.fixture
def behind(start: StartProgram, stage: Callable[..., Stage]) -> Callable[..., Stage]:
    """Start an emulated arm with a gripper behind Polymetis at a host and the gripper's process of a run there."""

    def behind(host: str, **overrides: str) -> Stage:
        program = start("poco-emulator", "--host", host, "--interface", "polymetis", "--task", "cube")
        program.until(lambda: "ready" in program.out)
        run = stage(host, robot__kind="polymetis", **overrides)
        run.ready()
        return run

    return behind


@pytest.mark.proof
def test_it_does_what_chunks_ask_its_lead_early(behind: Callable[..., Stage]) -> None:
    """The newest chunk's targets become one move and one grasp, the latter before its tick; all of it is recorded."""
    run = behind("127.0.5.30")
    assert run.width_m == pytest.approx(OPEN_M, abs=1e-3)
    attach = run.ask(0.05, 0.05, CLOSED_M, period=900)
    run.until(lambda: ("grasp", "done") in run.ends())
    run.until(lambda: run.width_m < 0.001)
    ready, *rest = run.folder.events()
    assert isinstance(ready, GripperReady)
    assert ready.facts == {"Polymetis": "of unknown version", "states": "30 Hz", "largest width": "0.0800 m"}
    told = [event for event in rest if isinstance(event, GripperTold)]
    assert [(event.order, event.width_m) for event in told] == [("move", 0.05), ("grasp", 0.0)]
    assert attach + 1800 - LEAD_MS <= told[1].tick < attach + 1800
    assert run.ends() == [("move", "done"), ("grasp", "done")]


def test_a_newer_target_and_a_fault_where_nothing_can_be_stopped(behind: Callable[..., Stage]) -> None:
    """A newer target is told when the fingers rest; after a fault they go no further than where they were going."""
    run = behind("127.0.5.31", gripper__speed_m_s="0.02")
    run.ask(0.04)
    run.until(lambda: run.width_m < 0.07)
    run.ask(0.075)
    run.until(lambda: len(run.ends()) == 2)
    assert run.width_m == pytest.approx(0.075, abs=1e-3)
    assert run.orders() == ["move", "stop", "move"]
    run.ask(0.04)
    run.until(lambda: run.width_m < 0.065)
    run.mode, run.fault = Mode.FAULT, BY_NAME["arm_error"].code
    run.until(lambda: len(run.ends()) == 3)
    tick = run.tick
    run.until(lambda: run.tick > tick + 500)
    assert run.width_m == pytest.approx(0.04, abs=2e-3)
    assert run.orders()[3:] == ["move", "stop"]


@pytest.mark.proof
def test_a_client_that_is_gone_is_named_and_the_next_one_taken(behind: Callable[..., Stage]) -> None:
    """Where the program beside the hand has ended, so does the gripper's process, with one sentence; it can begin again."""
    run = behind("127.0.5.32")
    refused = GripperCommand(width=0.5, speed=0.1)
    refused.timestamp.nanos = 1
    with grpc.insecure_channel(f"127.0.5.32:{GRIPPER_PORT}") as channel:
        goto = channel.unary_unary("/GripperServer/Goto", GripperCommand.SerializeToString, Empty.FromString)
        goto(refused, timeout=2.0)
    assert run.child.wait(PATIENCE_S)
    assert run.child.process.returncode == GripperError.exit_code
    assert "no new state for 1 s" in run.child.ending()
    companion = Companion(lambda: run.start("--again"), lambda text: None, "the gripper is not moved")
    deadline_s = time.monotonic() + PATIENCE_S
    while sum(isinstance(event, GripperReady) for event in run.folder.events()) < 2:
        assert time.monotonic() < deadline_s
        companion.look()
        run.beat()
        time.sleep(0.02)
    run.ask(0.05)
    run.until(lambda: run.ends() == [("move", "done")])


def test_an_order_that_was_not_taken_is_told_again(stage: Callable[..., Stage]) -> None:
    """A command that is passed over is found out, recorded as failed, and told again as a new one."""
    host, seen = "127.0.5.33", list[int]()

    def hard_of_hearing(command: GripperCommand, state: GripperState) -> None:
        nanos = command.timestamp.nanos
        if nanos != 0 and nanos not in seen:
            seen.append(nanos)
        if len(seen) > 1:
            state.width = command.width

    service = GripperService(host, GRIPPER_PORT)
    with beside(service, hard_of_hearing):
        run = stage(host, robot__kind="polymetis")
        run.ready()
        run.ask(0.05)
        run.until(lambda: run.ends() == [("move", "failed"), ("move", "done")])
        assert run.orders() == ["move", "move"]
        run.close()
    service.close()
