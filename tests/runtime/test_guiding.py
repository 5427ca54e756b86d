"""Hand-guiding over the wire, by the vendor's library on the emulated arm; a force at its end effector stands for the hand."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
import yaml

from emulated_arm import emulated_arm
from leading_hand import ARRIVED_M, WAY_M, inject, lead, mode_of, pull, started, still, take_the_arm, tick_of, tip_m
from poco.chunks import ChunkSequence
from poco.episodes import Episode, read_episode
from poco.hw.fault_script import Drop, NotFinite, Push, Reflex, UserStop
from poco.hw.task_signals import EmulatorSignals
from poco.limits import POSITION_MAX_RAD, POSITION_MIN_RAD
from poco.observation import tip_pose
from poco.runtime.contact_sheet import CONTACT_SHEET
from poco.runtime.run_events import GripperTold
from poco.runtime.run_folder import EpisodeEnded, EpisodeLabelled, EpisodeStarted, RunFolder
from poco.runtime.run_options import CUBE_SPECIFICATION, OPERATOR_SPECIFICATION
from poco.shm import RunMemory
from poco.specification import read_specification, unscale
from poco.trouble import TROUBLES, Mode, Request
from programs import Program
from runs import report_of
from servo_process import ServoProcess
from terminal_session import Session, seen, sitting

Floats = npt.NDArray[np.float64]

HOST, RUN_HOST, FINGERS_HOST = "127.0.12.41", "127.0.12.42", "127.0.12.43"
SPECIFICATION = read_specification(OPERATOR_SPECIFICATION)
ALWAYS = 10**9
CATCH_UP_TICKS = 1000
"""Rest before the verdict, in which bounded actions catch up with the hand, however late this process looks."""

DRIFT_RAD = 1e-4
REPLAYED_M, REPLAYED_RAD = 0.002, 0.01


@pytest.fixture(scope="module")
def signals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorSignals]:
    """The task port of an emulated arm in lockstep."""
    flags = ["--pacing", "lockstep", "--task", "none", "--recovery-delay-s", "0.05"]
    with emulated_arm(HOST, tmp_path_factory.mktemp("emulator"), *flags) as signals:
        yield signals


def noted(memory: RunMemory) -> set[str]:
    """The names of the troubles so far."""
    counts = memory.control()["event_counts"]
    return {trouble.name for trouble in TROUBLES.values() if counts[trouble.code]}


def test_it_is_led_stays_and_stops_safely(signals: EmulatorSignals, tmp_path: Path) -> None:
    """Led along a path it stays within 0.1 mrad where it is left; faults and lost time take it out of the hand, only a person
    gives it back, and nothing of it ever reaches a limit of the arm."""
    with ServoProcess(HOST, tmp_path, recover=True, guided=True, robot__control="joint_impedance") as servo:
        servo.arm(0.0)
        servo.move(np.array(SPECIFICATION.rest_q))
        servo.until(lambda: servo.mode == Mode.FOLLOWING)
        servo.until(lambda: servo.mode == Mode.HOLDING)
        reflexes = signals.status().reflexes
        servo.memory.lead(ALWAYS)
        servo.until(lambda: servo.mode == Mode.LED)
        begin_m = tip_m(servo.memory)
        lead(signals, servo.memory, servo.until)
        servo.pass_ticks(1500)
        left = np.array(servo.state["q"])
        np.testing.assert_allclose(tip_m(servo.memory) - begin_m, WAY_M[-1], atol=2 * ARRIVED_M)
        servo.pass_ticks(3000)
        np.testing.assert_allclose(servo.state["q"], left, atol=DRIFT_RAD)
        inject(signals, Drop(what="commands", count=5))
        servo.pass_ticks(50)
        inject(signals, Drop(what="states", count=4))
        servo.pass_ticks(50)
        assert servo.mode == Mode.LED
        ticks = servo.recorded()
        led = ticks[ticks["command"]["mode"] == Mode.LED]
        np.testing.assert_array_equal(led["command"]["q"], led["state"]["q"])
        assert noted(servo.memory) <= {"gap_bridged", "chunk_ended"}
        for fault, name in (
            (NotFinite(field="q"), "state_not_finite"),
            (Reflex(error="cartesian_reflex"), "arm_error"),
        ):
            inject(signals, fault)
            servo.until(lambda name=name: servo.fault == name)  # type: ignore[misc]
            servo.until(lambda: servo.mode == Mode.FAULT)
            servo.memory.recover()
            servo.until(lambda: servo.mode == Mode.LED)
        inject(signals, Push(force_n=(0.0, 10.0, 0.0), ticks=400))
        servo.memory.lead(int(servo.state["tick"]) + 200)
        servo.until(lambda: servo.mode == Mode.HOLDING)
        servo.pass_ticks(1000)
        np.testing.assert_allclose(servo.state["q"], servo.state["q_c"], atol=5e-4)
        assert signals.status().reflexes == reflexes + 1
        servo.memory.lead(ALWAYS)
        servo.until(lambda: servo.mode == Mode.LED)
        inject(signals, UserStop())
        servo.until(lambda: servo.fault == "user_stopped")
        inject(signals, UserStop(pressed=False))
        servo.memory.recover()
        servo.until(lambda: servo.mode == Mode.LED)
        servo.memory.set_request(Request.STOP)
        assert servo.wait() == 0


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    """A run in which the person leads the arm, judges, and nobody else knows how an episode ends."""
    flags = ["--robot", "sim", "--robot.host", RUN_HOST, "--task", "peg_in_hole", "--task.outcome", "none"]
    flags += ["--hands", "guiding", "--robot.control", "joint_impedance", "--episodes", "5"]
    with sitting(tmp_path) as start:
        yield start("record", *flags)


def test_demonstrations_by_the_hand(session: Session, signals: EmulatorSignals, tmp_path: Path) -> None:
    """Led, judged, relabelled, thrown away as with any device; the recorded actions, executed by a servo as those of a policy,
    end within 2 mm and 10 mrad of where the hand had led the tip."""
    memory = take_the_arm(session)
    with EmulatorSignals(RUN_HOST) as hand:
        lead(hand, memory, session.program.until)
        session.type_until("", lambda events: still(memory))
        rested = tick_of(memory) + CATCH_UP_TICKS
        session.program.until(lambda: tick_of(memory) > rested)
        state = memory.read_state()
        assert state is not None
        left = np.array(state["q"])
        session.type_until("n", seen(EpisodeEnded, 1))
        session.press("t")
        session.type_until("", seen(EpisodeLabelled, 1))
        session.program.until(lambda: mode_of(memory) == Mode.HOLDING)
        take_the_arm(session)
        session.program.until(
            lambda: pull(hand, memory, tip_m(memory) + np.array([0.0, 0.03, 0.0])) or started(session, 2)
        )
        session.type_until("x", seen(EpisodeLabelled, 2))
    session.program.process.send_signal(signal.SIGINT)
    assert session.program.wait() == 130
    (kept,) = (read_episode(file) for file in (session.folder / "episodes").glob("*.safetensors"))
    assert (kept.end.outcome, kept.end.labels["demonstration"], kept.end.labels["judge"]) == (
        "success",
        "guiding",
        "person",
    )
    assert all(step.intervened and step.action_policy == step.action_executed for step in kept.steps)
    assert len(list((session.folder / "discarded").glob("*.safetensors"))) == 1
    assert "1 demonstration kept (1 success, 0 failure)" in session.program.out
    assert (session.folder / CONTACT_SHEET).is_file()
    assert report_of(session.folder).finished == 1
    replay(signals, tmp_path, kept, left)


def replay(signals: EmulatorSignals, folder: Path, episode: Episode, left: Floats) -> None:
    """Execute the actions of `episode` as one chunk from the start pose and compare with the joints where the hand left the arm."""
    with ServoProcess(HOST, folder / "replay", recover=True, robot__control="joint_impedance") as servo:
        servo.arm(0.0)
        rest = np.array(SPECIFICATION.rest_q)
        chunk_id = servo.move(rest)
        servo.until(lambda: int(servo.state["chunk_id"]) == chunk_id)
        servo.until(lambda: servo.mode == Mode.HOLDING)
        sequence = ChunkSequence(SPECIFICATION, servo.limits, last_chunk_id=chunk_id)
        sequence.begin(int(servo.state["tick"]) + 10, rest)
        plan, _ = sequence.plan(np.array([step.action_executed for step in episode.steps]))
        assert plan.usable
        servo.memory.publish_chunk(plan.spline)
        servo.until(lambda: int(servo.state["chunk_id"]) == chunk_id + 1)
        servo.until(lambda: servo.mode == Mode.HOLDING)
        servo.pass_ticks(1000)
        reached, yaw = tip_pose(np.array(servo.state["q"]), SPECIFICATION.tip)
        wanted, wanted_yaw = tip_pose(left, SPECIFICATION.tip)
        np.testing.assert_allclose(reached, wanted, atol=REPLAYED_M)
        assert abs(yaw - wanted_yaw) < REPLAYED_RAD
        assert signals.status().mode == "move"


def test_fingers_and_joints_of_a_led_arm(tmp_path: Path) -> None:
    """Actions are the joints where periods end and how far apart the fingers were told to be; `g` closes and opens them."""
    tree = msgspec.to_builtins(read_specification(CUBE_SPECIFICATION))
    low, high = POSITION_MIN_RAD.tolist(), POSITION_MAX_RAD.tolist()
    joints = {"name": "joints", "source": "joint_position", "frame": "base", "unit": "rad", "low": low, "high": high}
    tree |= {"action_space": "joint_position", "delta_base": "none", "action": [joints, tree["action"][-1]]}
    (tmp_path / "joints.yaml").write_text(yaml.safe_dump(tree))
    flags = ["--robot", "sim", "--robot.host", FINGERS_HOST, "--emulator.task", "cube", "--task.outcome", "none"]
    flags += ["--task", str(tmp_path / "joints.yaml"), "--hands", "guiding", "--robot.control", "joint_impedance"]
    with sitting(tmp_path) as start:
        session = start("record", *flags)
        memory = take_the_arm(session)
        with EmulatorSignals(FINGERS_HOST) as hand:
            goal_m = tip_m(memory) + np.array([0.0, 0.04, 0.02])
            session.program.until(lambda: pull(hand, memory, goal_m))
            session.type_until("", seen(EpisodeStarted, 1))
            for count in (1, 2):
                orders = len(session.events(GripperTold))
                session.press("g")
                session.program.until(lambda orders=orders: len(session.events(GripperTold)) > orders)  # type: ignore[misc]
                rested = tick_of(memory) + 300 * count
                session.program.until(lambda rested=rested: tick_of(memory) > rested)  # type: ignore[misc]
            session.type_until("y", seen(EpisodeEnded, 1))
            session.type_until(" ", lambda events: session.program.process.poll() is not None)
        assert (session.program.wait(), session.program.err) == (0, "")
    (kept,) = (read_episode(file) for file in (session.folder / "episodes").glob("*.safetensors"))
    actions = unscale(kept.specification.action, kept.actions_policy)
    told = [width for width, before in zip(actions[1:, 7], actions[:-1, 7], strict=True) if width != before]
    np.testing.assert_allclose([actions[0, 7], *told], [0.08, 0.0, 0.08], atol=1e-6)
    ticks = RunFolder.open(session.folder).ticks()["state"]
    places = np.searchsorted(ticks["tick"], [step.tick for step in kept.steps[1:]])
    np.testing.assert_allclose(actions[:-1, :7], ticks["q"][places], atol=1e-5)


@pytest.mark.proof
def test_a_policy_process_that_dies_leaves_no_arm_without_hold(session: Session) -> None:
    """Killed while the arm is led: the arm is held half a second later, and what is started again moves nothing unasked."""
    memory = take_the_arm(session)
    os.kill(session.program.children()["guided"], signal.SIGKILL)
    session.program.until(lambda: mode_of(memory) == Mode.HOLDING)
    state = memory.read_state()
    assert state is not None
    held = np.array(state["q_c"])
    session.program.until(lambda: "guided" in session.program.children())
    tick = int(state["tick"])
    session.program.until(lambda: int(memory.control()["tick"]) > tick + 3000)
    state = memory.read_state()
    assert state is not None
    np.testing.assert_array_equal(state["q_c"], held)
    take_the_arm(session)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            ("--robot", "sim"),
            "robot.control is position, must be joint_impedance or cartesian_impedance for --hands guiding",
        ),
        (("--robot", "polymetis", "--sensors", "none"), "--hands guiding needs --robot sim or franka"),
        (
            ("--robot", "sim", "--robot.control", "joint_impedance", "--gain", "0.5"),
            "--gain is 0.5, --hands guiding has none",
        ),
    ],
)
def test_what_cannot_be_led_is_refused(tmp_path: Path, flags: tuple[str, ...], said: str) -> None:
    """One sentence before anything is started."""
    program = Program("poco-runtime", "record", "--task", "peg_in_hole", "--hands", "guiding", *flags, folder=tmp_path)
    assert program.wait() == 2
    assert said in program.err
