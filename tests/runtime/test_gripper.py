"""The gripper's own process on the emulated gripper, with the vendor's client library; the test is servo, policy and supervisor."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from poco.errors import GripperError
from poco.records import CHUNK_SPLINE, ROBOT_STATE
from poco.runtime.child import Child, ChildError
from poco.runtime.events import noted
from poco.runtime.grip import Grip
from poco.runtime.run_events import GripperDone, GripperReady, GripperTold
from poco.runtime.run_folder import RunFolder
from poco.runtime.run_options import RunOptions
from poco.settings import read_settings
from poco.shm import RunMemory
from poco.trouble import BY_NAME, Mode
from programs import ARTIFACT, ROOT, StartProgram
from synthetic_run import facts

PATIENCE_S = 120.0
OPEN_M, CLOSED_M = 0.08, 0.0
LEAD_MS = 200


class Stage:
    """A run whose arm only says that time goes by and that it follows the newest chunk; its gripper is real to the last byte."""

    def __init__(self, folder: Path, host: str, **overrides: str) -> None:
        self.folder = RunFolder.create(folder / "run", facts())
        keys = {name.replace("__", "."): value for name, value in overrides.items()}
        keys |= {"robot.host": host, "gripper.lead_s": str(LEAD_MS / 1000)}
        settings = read_settings(ROOT / "configs" / "fr3_peg_in_hole.yaml", keys)
        options = RunOptions(
            settings=settings,
            policy=str(ARTIFACT),
            episodes=1,
            speed=1.0,
            seed=0,
            recover=False,
            keep_minutes=1,
            run_name=f"gripper-{host}-{time.monotonic_ns()}",
            boot_epoch=1,
            folder=str(self.folder.path),
        )
        (self.folder.path / "options.json").write_bytes(msgspec.json.encode(options))
        self.memory = RunMemory.create(options.run_name)
        self.mode, self.fault, self.told = Mode.FOLLOWING, 0, list[str]()
        self.grip = Grip(self.memory, settings.gripper, lambda tick, trouble: self.told.append(trouble))
        self._began_s, self._attach_tick, self._chunk_id, self.following = time.monotonic(), 0, 0, 0
        self.child = self.start()

    def start(self, *words: str) -> Child:
        """Start the gripper's process."""
        options = str(self.folder.path / "options.json")
        self.child = Child("gripper", "poco.runtime.gripper", ["--options", options, *words], self.folder.path)
        return self.child

    @property
    def tick(self) -> int:
        """Robot time, which began with this stage."""
        return int(1000 * (time.monotonic() - self._began_s))

    @property
    def width_m(self) -> float:
        """The newest width that the gripper's process has told."""
        newest = self.memory.read_gripper()
        return float("nan") if newest is None else float(newest["width"])

    def beat(self) -> None:
        """Let the arm say where it is."""
        state = np.zeros((), ROBOT_STATE)
        if self.tick >= self._attach_tick:
            self.following = self._chunk_id
        state["tick"], state["chunk_id"], state["mode"], state["fault"] = (
            self.tick,
            self.following,
            self.mode,
            self.fault,
        )
        self.memory.publish_state(state)
        self.memory.native.announce(self.tick)

    def ask(self, *widths_m: float, period: int = 600) -> int:
        """Publish a chunk of an arm at rest that asks for each of `widths_m` for `period` ms; return the tick of the first."""
        chunk = np.zeros((), CHUNK_SPLINE)
        self._chunk_id, self._attach_tick = self._chunk_id + 1, self.tick + 50
        chunk["chunk_id"], chunk["attach_tick"], chunk["segments"] = self._chunk_id, self._attach_tick, len(widths_m)
        chunk["knots"][: len(widths_m) + 1] = period * np.arange(len(widths_m) + 1)
        chunk["gripper"][: len(widths_m)] = widths_m
        self.memory.publish_chunk(chunk)
        return self._attach_tick

    def until(self, condition: Callable[[], bool]) -> None:
        """Beat until `condition` holds."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert self.child.running, self.child.ending()
            assert time.monotonic() < deadline_s, f"waited in vain: {self.folder.events()}"
            self.beat()
            time.sleep(0.005)

    def ready(self) -> None:
        """Wait until the gripper has homed."""
        self.child.wait_for("ready", PATIENCE_S, self.beat)

    def orders(self) -> list[str]:
        """What the gripper was told so far."""
        return [event.order for event in self.folder.events() if isinstance(event, GripperTold)]

    def ends(self) -> list[tuple[str, str]]:
        """What became of it."""
        return [(event.order, event.outcome) for event in self.folder.events() if isinstance(event, GripperDone)]

    def close(self) -> None:
        """End the gripper's process."""
        self.child.end()
        self.memory.unlink()


@pytest.fixture
def emulator(start: StartProgram) -> Callable[[str, str], None]:
    """Start an emulated arm at a host with a task, wait until it is there."""

    def begin(host: str, task: str) -> None:
        program = start("poco-emulator", "--host", host, "--task", task)
        program.until(lambda: "ready" in program.out)

    return begin


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    """Make the stage at a host; its processes are ended after the test."""
    made: list[Stage] = []

    def make(host: str, **overrides: str) -> Stage:
        made.append(Stage(tmp_path / str(len(made)), host, **overrides))
        return made[-1]

    yield make
    for each in made:
        each.close()


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
    run.grip.fill(state)
    assert run.grip.clear
    assert float(state["gripper_width"]) == pytest.approx(0.0, abs=1e-3)
    run.child.process.kill()
    run.child.process.wait()
    time.sleep(1.2)
    run.grip.fill(state)
    assert not run.grip.clear
    assert "nothing was heard of the gripper for 1." in run.told[-1]
    run.start("--again")
    run.ready()
    assert run.width_m == pytest.approx(0.0, abs=1e-3)
    run.grip.fill(state)
    assert run.grip.clear
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
