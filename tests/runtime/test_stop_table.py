"""Every way a motion can end: what the arm does, what the operator is told, and that nothing resumes by itself.

The rows are those of docs/faults.md. The servo is the real process with the vendor's library, the arm the emulator in strict
pacing unless said otherwise; the test stands for supervisor, policy and operator.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from emulated_arm import emulated_arm
from poco.errors import ArmError, FaultError
from poco.hw.fault_script import Drop, Entry, Fault, Reflex, Silence, UserStop
from poco.hw.franka import FrankaArm
from poco.hw.task_signals import EmulatorSignals
from poco.kinematics import forward, inverse
from poco.runtime.run_folder import EpisodeEnded, RunFolder
from poco.runtime.run_folder import Fault as FaultEvent
from poco.trouble import BY_NAME, Mode, Request, describe
from programs import ARTIFACT, Program, is_sentence
from servo_process import ArmStopped, ServoProcess

Floats = npt.NDArray[np.float64]

HOST = "127.0.4.31"
UNWATCHED_S = 0.0
"""No silence counts: the emulator of a busy computer may be late where it is not silence that is looked for."""

SILENCE_S, SHORT_SILENCE_S = 0.2, 0.05
MISSED_COMMANDS_MAX = 20
LIBRARY_TIMEOUT_TICKS = 1000
STILL_TICKS = 200
LOST = "communication_constraints_violation"
ACKNOWLEDGED_MAX = 5


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorSignals]:
    """An emulated arm as unforgiving as the real one; its task port."""
    flags = ["--pacing", "strict", "--recovery-delay-s", "0.1"]
    with emulated_arm(HOST, tmp_path_factory.mktemp("emulator"), *flags) as signals:
        yield signals


@pytest.fixture
def silence_s() -> float:
    """How long the servo lets the arm be silent."""
    return UNWATCHED_S


@pytest.fixture
def servo(emulator: EmulatorSignals, silence_s: float, tmp_path: Path) -> Iterator[ServoProcess]:
    """A servo in the middle of a motion."""
    emulator.inject([])
    with ServoProcess(HOST, tmp_path / "servo", recover=True) as servo:
        servo.arm(silence_s)
        servo.follow()
        yield servo


def suffer(emulator: EmulatorSignals, fault: Fault) -> int:
    """Let the arm suffer `fault` in its next tick; return the robot tick before it."""
    return emulator.inject([Entry(fault=fault, at=0)])


def assert_only_an_operator_resumes(servo: ServoProcess, host: str = HOST) -> None:
    """In a fault nothing moves; after the operator's act nothing of before is executed and the arm holds until a new chunk.

    A starved computer may lose the arm again right after; as a person would, the operator acknowledges that too.
    """
    recorded = len(servo.recorded())
    servo.memory.publish_chunk(_again(servo))
    servo.until(lambda: bool(servo.stops))
    _pause(servo, host)
    assert len(servo.recorded()) == recorded, "no tick is answered while the arm stands"
    assert servo.fault
    for _ in range(ACKNOWLEDGED_MAX):
        stops = len(servo.stops)
        try:
            return _acknowledge(servo)
        except ArmStopped:
            servo.until(lambda told=stops: len(servo.stops) > told)  # type: ignore[misc]
            if LOST not in servo.stops[-1]:
                raise
    raise AssertionError(f"lost again after each of {ACKNOWLEDGED_MAX} recoveries: {servo.stops}")


def _acknowledge(servo: ServoProcess) -> None:
    """Recover as the operator and see the arm hold, then move on; raises ArmStopped."""
    recorded, stops = len(servo.recorded()), len(servo.stops)
    servo.memory.recover()
    servo.until(lambda: not servo.fault or len(servo.stops) > stops)
    servo.pass_ticks(STILL_TICKS)
    resumed = servo.recorded()[recorded:]
    assert not resumed["command"]["chunk_id"].any(), "nothing of before the fault is executed"
    np.testing.assert_allclose(resumed["command"]["q"], resumed["state"]["q_d"][[0]].repeat(len(resumed), 0), atol=1e-6)
    assert servo.mode == Mode.HOLDING
    chunk_id = servo.follow()
    assert int(servo.state["chunk_id"]) == chunk_id


def _again(servo: ServoProcess) -> npt.NDArray[np.void]:
    """Return the chunk in the mailbox under a higher id, as a policy that has not noticed would publish it."""
    chunk = servo.memory.read_chunk()
    assert chunk is not None
    chunk["chunk_id"] += 1
    servo._chunk_id += 1
    return chunk


def _pause(servo: ServoProcess, host: str) -> None:
    """Let STILL_TICKS of the arm go by."""
    with EmulatorSignals(host) as signals:
        last = signals.status().tick + STILL_TICKS
        servo.until(lambda: signals.status().tick >= last)


def test_motion_finished(emulator: EmulatorSignals, servo: ServoProcess) -> None:
    """A stop on request brakes inside the limits, ends the motion and leaves the arm idle; the process says goodbye with 0."""
    before = emulator.status()
    requested = int(servo.state["tick"])
    servo.memory.set_request(Request.STOP)
    assert servo.wait() == 0
    ticks = servo.recorded()
    assert Mode(int(ticks["command"]["mode"][-1])) == Mode.FINISHED
    assert ticks["command"]["finished"].tolist() == [0] * (len(ticks) - 1) + [1]
    assert ticks["state"]["tick"][-1] - requested < 400
    after = emulator.status()
    assert (after.mode, after.reflexes) == ("idle", before.reflexes)
    assert servo.errors == ""


def test_stop_and_dropped_control(emulator: EmulatorSignals, tmp_path: Path) -> None:
    """`stop()` and a dropped control preempt the motion: idle, no reflex, and the driver says it was the arm that ended it."""
    with ServoProcess(HOST, tmp_path, recover=True) as settings_source:
        settings = settings_source.options.settings.robot
        settings_source.until(lambda: "ready" in settings_source.printed)
    before = emulator.status()
    arm = FrankaArm(settings)
    arm.connect()
    arm.start()
    arm.write(list(arm.read().q_d))
    arm._robot.stop()
    with pytest.raises(Exception, match="preempted") as caught:
        arm.write(list(arm.read().q_d))
    assert arm.diagnose(caught.value) == BY_NAME["arm_error"]
    arm.release()
    arm.start()
    arm.write(list(arm.read().q_d))
    arm.disconnect()
    after = emulator.status()
    assert (after.mode, after.reflexes) == ("idle", before.reflexes)


def test_client_killed(emulator: EmulatorSignals, servo: ServoProcess, tmp_path: Path) -> None:
    """A killed servo is 20 missed commands: reflex, stand still; the next one says so and wants the operator's --recover."""
    before = emulator.status()
    servo.process.kill()
    servo.process.wait()
    while (after := emulator.status()).mode == "move":
        pass
    assert after.mode == "reflex"
    assert after.commands_lost - before.commands_lost == MISSED_COMMANDS_MAX
    with ServoProcess(HOST, tmp_path / "next") as refused:
        assert refused.wait() == ArmError.exit_code
        assert is_sentence(refused.errors)
        assert "Reflex" in refused.errors
        assert "--recover" in refused.errors
    assert emulator.status().mode == "reflex"
    with ServoProcess(HOST, tmp_path / "recovered", recover=True) as recovered:
        recovered.until(lambda: "ready" in recovered.printed)
    assert emulator.status().mode == "idle"


@pytest.mark.parametrize("silence_s", [SILENCE_S])
def test_client_stalls(emulator: EmulatorSignals, servo: ServoProcess) -> None:
    """A servo that stands still for more than 20 ms is a communication error of the arm, not a silent arm."""
    before = emulator.status()
    servo.process.send_signal(signal.SIGSTOP)
    while emulator.status().mode == "move":
        pass
    servo.process.send_signal(signal.SIGCONT)
    servo.until(lambda: servo.mode == Mode.FAULT)
    assert emulator.status().commands_lost - before.commands_lost == MISSED_COMMANDS_MAX
    assert servo.fault == "arm_error"
    servo.until(lambda: LOST in servo.printed)
    assert_only_an_operator_resumes(servo)


@pytest.mark.parametrize("silence_s", [SHORT_SILENCE_S])
def test_robot_silent(emulator: EmulatorSignals, servo: ServoProcess) -> None:
    """A silent arm is known to everybody long before the vendor's library returns, and is reached by a new connection."""
    silent_since = suffer(emulator, Silence(ticks=1500))
    servo.until(lambda: servo.mode == Mode.FAULT)
    noticed = emulator.status().tick
    assert "stopped" not in servo.printed, "the library has not noticed yet"
    assert servo.fault == "arm_silent"
    assert noticed - silent_since < LIBRARY_TIMEOUT_TICKS / 5
    assert describe(int(servo.state["fault"])).count(";") == 1
    assert emulator.status().mode == "reflex"
    servo.until(lambda: "Timeout" in servo.printed)
    while emulator.status().tick < silent_since + 1600:
        servo.beat()
    assert_only_an_operator_resumes(servo)
    assert int(servo.memory.control()["event_counts"][BY_NAME["arm_silent"].code]) == 1


def test_the_arms_side_is_killed(tmp_path: Path) -> None:
    """An arm whose control dies is a silent arm; once another control is there, the operator's act resumes, as after any fault."""
    host = "127.0.4.34"
    control = ("poco-emulator", "--host", host, "--pacing", "strict", "--recovery-delay-s", "0.1")
    first = Program(*control, folder=tmp_path / "first")
    first.until(lambda: "ready" in first.out)
    second: Program | None = None
    with ServoProcess(host, tmp_path / "servo", recover=True) as servo:
        try:
            servo.arm(SHORT_SILENCE_S)
            servo.follow()
            first.process.kill()
            first.process.wait()
            servo.until(lambda: servo.mode == Mode.FAULT)
            assert servo.fault == "arm_silent"
            servo.until(lambda: "stopped" in servo.printed)
            second = Program(*control, folder=tmp_path / "second")
            servo.until(lambda: second is not None and "ready" in second.out)
            assert_only_an_operator_resumes(servo, host)
            assert int(servo.memory.control()["event_counts"][BY_NAME["arm_silent"].code]) == 1
        finally:
            for program in (first, second):
                if program is not None:
                    program.end()


def test_user_stop(emulator: EmulatorSignals, servo: ServoProcess) -> None:
    """The user stop is named as such; releasing it moves nothing, the operator's recovery afterwards does."""
    suffer(emulator, UserStop())
    servo.until(lambda: servo.mode == Mode.FAULT)
    assert servo.fault == "user_stopped"
    servo.until(lambda: "User Stop" in servo.printed)
    assert emulator.status().mode == "user_stopped"
    suffer(emulator, UserStop(pressed=False))
    while emulator.status().mode == "user_stopped":
        servo.beat()
    assert emulator.status().mode == "idle"
    assert_only_an_operator_resumes(servo)


def test_recovery_under_a_pressed_user_stop_is_refused(emulator: EmulatorSignals, servo: ServoProcess) -> None:
    """An operator's recovery while the stop is still pressed ends the servo with one sentence and no motion."""
    suffer(emulator, UserStop())
    servo.until(lambda: "stopped" in servo.printed)
    recorded = len(servo.recorded())
    servo.memory.recover()
    assert servo.wait() == ArmError.exit_code
    assert is_sentence(servo.errors)
    assert len(servo.recorded()) == recorded
    assert emulator.status().mode == "user_stopped"
    suffer(emulator, UserStop(pressed=False))


def test_an_arm_that_is_lost_again_is_acknowledged_again(emulator: EmulatorSignals, servo: ServoProcess) -> None:
    """Commands lost right after a recovery latch once more: waiting for motion ends at once, a second act of the operator helps."""
    suffer(emulator, Reflex(error="joint_reflex"))
    servo.until(lambda: bool(servo.stops))
    with pytest.raises(ArmStopped, match=r"stopped by itself \(arm_error\).*joint_reflex"):
        servo.follow()
    suffer(emulator, Drop(what="commands", count=MISSED_COMMANDS_MAX + 5))
    assert_only_an_operator_resumes(servo)
    assert LOST in servo.stops[1]
    assert int(servo.memory.control()["event_counts"][BY_NAME["arm_error"].code]) == len(servo.stops)


def above_and_into_the_block(servo: ServoProcess) -> list[Floats]:
    """Return joint waypoints to the rest posture, beside the hole, and down to where the block is solid."""
    rest, tip = np.array(servo.specification.rest_q), servo.specification.tip
    position, rotation = forward(rest, tip)
    places = [position + np.array([0.03, 0.0, height]) for height in (0.0, 0.035 - position[2])]
    lower, upper = servo.limits["position_min"], servo.limits["position_max"]
    return [rest, *(inverse(rest, place, rotation, tip, rest, lower, upper)[0] for place in places)]


def test_collision_above_threshold(emulator: EmulatorSignals, tmp_path: Path) -> None:
    """Pressing the peg on the block beyond the threshold is a named reflex; the arm stands compliantly and waits."""
    force = "[10.0, 10.0, 10.0, 10.0, 10.0, 10.0]"
    with ServoProcess(HOST, tmp_path, recover=True, robot__collision_force_n=force) as servo:
        servo.arm(UNWATCHED_S)
        servo.move(*above_and_into_the_block(servo))
        servo.until(lambda: servo.mode == Mode.FAULT)
        assert servo.fault == "arm_error"
        servo.until(lambda: "stopped" in servo.printed)
        assert "_reflex" in servo.printed
        assert emulator.status().mode == "reflex"
        assert_only_an_operator_resumes(servo)


@pytest.mark.parametrize(
    ("host", "fault", "name"),
    [
        ("127.0.4.32", UserStop(), "user_stopped"),
        ("127.0.4.33", Silence(ticks=5000), "arm_silent"),
    ],
)
def test_a_run_on_franka_ends_with_the_fault_as_its_last_word(
    host: str, fault: Fault, name: str, tmp_path: Path
) -> None:
    """All processes: exit code 9 and one sentence, the fault in events.jsonl, the episode closed, no recovery, no tick after."""
    emulator = Program("poco-emulator", "--host", host, folder=tmp_path / "emulator")
    run_folder = tmp_path / "run"
    try:
        emulator.until(lambda: "ready" in emulator.out)
        addresses = ["--robot.host", host, "--sensors", f"emulator://{host}"]
        run = Program(
            "poco-runtime", "--robot", "franka", *addresses, "--policy", ARTIFACT, "--out", run_folder, folder=tmp_path
        )
        run.until(lambda: (run_folder / "chunks.jsonl").exists())
        with EmulatorSignals(host) as signals:
            suffer(signals, fault)
            assert run.wait() == FaultError.exit_code
            status = signals.status()
    finally:
        emulator.end()
    assert is_sentence(run.err)
    assert describe(BY_NAME[name].code) in run.err
    folder = RunFolder.open(run_folder)
    events = folder.events()
    assert [event.code for event in events if isinstance(event, FaultEvent)] == [BY_NAME[name].code]
    assert [event.outcome for event in events if isinstance(event, EpisodeEnded)] in ([], ["fault"])
    assert not any(type(event).__name__ == "Recovery" for event in events)
    assert status.mode in ("reflex", "user_stopped")
    for log in ("servo.log", "policy.log"):
        assert "Traceback" not in (run_folder / log).read_text()
