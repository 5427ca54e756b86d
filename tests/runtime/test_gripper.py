"""The gripper's own process on the emulated gripper, with the vendor's client library; the test is servo, policy and supervisor."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import numpy as np
import pytest

from gripper_stage import CLOSED_M, LEAD_MS, OPEN_M, Stage
from poco.errors import GripperError
from poco.records import ROBOT_STATE
from poco.runtime.child import ChildError
from poco.runtime.events import noted
from poco.runtime.run_events import GripperReady, GripperTold
from poco.trouble import BY_NAME, Mode
from programs import StartProgram


@pytest.fixture
def emulator(start: StartProgram) -> Callable[[str, str], None]:
    """Start an emulated arm at a host with a task, wait until it is there."""

    def begin(host: str, task: str) -> None:
        program = start("poco-emulator", "--host", host, "--task", task)
        program.until(lambda: "ready" in program.out)

    return begin


def test_it_homes_and_does_what_chunks_ask_its_lead_early(
    emulator: Callable[[str, str], None], stage: Callable[..., Stage]
) -> None:
    """After homing, the newest chunk's targets become one move and one grasp, the latter before its tick; all of it is recorded."""
    emulator("127.0.1.70", "cube")
    run = stage("127.0.1.70")
    run.ready()
    assert run.width_m == pytest.approx(OPEN_M, abs=1e-3)
    attach = run.ask(0.05, 0.05, CLOSED_M, period=900)
    run.until(lambda: ("grasp", "done") in run.ends())
    run.until(lambda: run.width_m < 0.001)
    ready, *rest = run.folder.events()
    assert isinstance(ready, GripperReady)
    assert ready.facts == {"protocol": "3", "largest width": "0.0800 m"}
    told = [event for event in rest if isinstance(event, GripperTold)]
    assert [(event.order, event.width_m) for event in told] == [("move", 0.05), ("grasp", 0.0)]
    assert attach + 1800 - LEAD_MS <= told[1].tick < attach + 1800
    assert run.ends() == [("move", "done"), ("grasp", "done")]
    newest = run.memory.read_gripper()
    assert newest is not None
    assert (float(newest["target"]), int(newest["moving"]), int(newest["grasped"])) == (0.0, 0, 1)
    texts = [record.text for event in rest if (record := noted(event, 0)) is not None]
    assert texts[0] == "gripper told to move to 0.0500 m"
    assert texts[-1].startswith("gripper grasp done after")


def test_a_newer_target_and_a_fault_stop_what_is_on_its_way(
    emulator: Callable[[str, str], None], stage: Callable[..., Stage]
) -> None:
    """A slow grasp is stopped and turned round by a newer chunk; an arm that has stopped in a fault stops the fingers too."""
    emulator("127.0.1.71", "cube")
    run = stage("127.0.1.71", gripper__speed_m_s="0.02")
    run.ready()
    run.ask(CLOSED_M)
    run.until(lambda: run.width_m < 0.07)
    run.ask(0.075)
    run.until(lambda: ("move", "done") in run.ends())
    assert run.orders() == ["grasp", "stop", "move"]
    assert run.ends() == [("grasp", "stopped"), ("move", "done")]
    run.ask(CLOSED_M)
    run.until(lambda: run.width_m < 0.065)
    run.mode, run.fault = Mode.FAULT, BY_NAME["arm_error"].code
    run.until(lambda: len(run.ends()) == 3)
    stopped_m = run.width_m
    tick = run.tick
    run.until(lambda: run.tick > tick + 500)
    assert run.width_m == pytest.approx(stopped_m, abs=2e-3)
    assert run.orders()[3:] == ["grasp", "stop"]


def test_a_gripper_that_is_lost_is_named_and_comes_back_without_letting_go(
    emulator: Callable[[str, str], None], stage: Callable[..., Stage]
) -> None:
    """A process that dies is noticed by the policy as silence; the next one finds the fingers as they were, and goes on."""
    emulator("127.0.1.72", "cube")
    run = stage("127.0.1.72")
    run.ready()
    run.ask(CLOSED_M)
    run.until(lambda: ("grasp", "done") in run.ends())
    state = np.zeros((), ROBOT_STATE)

    def clear() -> bool:
        run.grip.fill(state)
        return run.grip.clear

    run.until(clear)
    assert float(state["gripper_width"]) == pytest.approx(0.0, abs=1e-3)
    run.child.process.kill()
    run.child.process.wait()
    while clear():
        time.sleep(0.01)
    assert re.search(r"nothing was heard of the gripper for [1-9]", run.told[-1])
    run.start("--again")
    run.ready()
    assert run.width_m == pytest.approx(0.0, abs=1e-3)
    run.until(clear)
    assert run.told[-1] == ""
    run.ask(OPEN_M)
    run.until(lambda: run.ends()[-1] == ("move", "done"))


def test_an_arm_without_a_gripper_is_named_before_motion(
    emulator: Callable[[str, str], None], stage: Callable[..., Stage]
) -> None:
    """Where nothing answers on the gripper's port the process ends with one sentence and the exit code of a gripper."""
    emulator("127.0.1.73", "none")
    run = stage("127.0.1.73")
    with pytest.raises(
        ChildError, match=r"no gripper answers at 127\.0\.1\.73 .* or give a policy without one"
    ) as refused:
        run.ready()
    assert refused.value.exit_code == GripperError.exit_code
