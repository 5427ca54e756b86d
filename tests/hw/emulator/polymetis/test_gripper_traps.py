"""The traps of a Polymetis gripper server, as the emulated one sets them and our side steps around them; real gRPC."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import grpc
import numpy as np
import pytest

from emulated_arm import emulated_arm
from poco.errors import GripperError
from poco.gripping import Order
from poco.hw.emulator.polymetis.hand_client import PERIOD_TICKS
from poco.hw.polymetis import gripper, wire
from poco.hw.polymetis.gripper import GRIPPER_PORT, PolymetisHand
from poco.hw.polymetis.polymetis_pb2 import Empty, GripperCommand, GripperState
from poco.hw.polymetis.wire import ControllerServer
from poco.hw.task_signals import EmulatorSignals
from poco.settings import GripperSettings, read_settings
from programs import ROOT, Program
from told_controller import controller

HOST = "127.0.5.22"
PATIENCE_S = 120.0
OPEN_M = 0.08
FAST_M_S, SLOW_M_S = 0.1, 0.02
LOOKS = 3
"""After so many new states the client beside the hand has looked for a command and would say that it moves."""

SILENT_S = gripper.STATE_LIMIT_S
HANGING_S = gripper.ANSWER_LIMIT_S


@pytest.fixture(scope="module")
def settings() -> GripperSettings:
    """How the hand is to move."""
    return read_settings(ROOT / "configs" / "fr3_peg_in_hole.yaml", {}).gripper


@pytest.fixture(scope="module", autouse=True)
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """An emulated arm with a gripper behind Polymetis; time stands still where a controller runs and nobody asks for a state."""
    folder = tmp_path_factory.mktemp("emulator")
    flags = ("--interface", "polymetis", "--task", "cube", "--pacing", "lockstep")
    program = Program("poco-emulator", "--host", HOST, *flags, folder=folder)
    program.until(lambda: "ready" in program.out)
    yield program
    program.end()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our side gives up late: a computer that is busy is no server that hangs."""
    for name in ("ANSWER_LIMIT_S", "CONNECT_LIMIT_S", "STATE_LIMIT_S", "ORDER_LIMIT_S"):
        monkeypatch.setattr(gripper, name, PATIENCE_S)
    for name in ("CALL_LIMIT_S", "UPLOAD_LIMIT_S"):
        monkeypatch.setattr(wire, name, PATIENCE_S)


class Anybody:
    """Somebody at the wire who knows none of the traps."""

    def __init__(self) -> None:
        self.channel = grpc.insecure_channel(f"{HOST}:{GRIPPER_PORT}")
        self._goto = self.channel.unary_unary("/GripperServer/Goto", GripperCommand.SerializeToString, Empty.FromString)
        self._state = self.channel.unary_unary(
            "/GripperServer/GetState", Empty.SerializeToString, GripperState.FromString
        )

    def goto(self, width_m: float, nanos: int, speed_m_s: float = FAST_M_S) -> None:
        """Send a move whose timestamp has these nanoseconds."""
        command = GripperCommand(width=width_m, speed=speed_m_s)
        command.timestamp.seconds, command.timestamp.nanos = 1, nanos
        self._goto(command, timeout=PATIENCE_S)

    def state(self) -> GripperState:
        """The newest state."""
        answer: GripperState = self._state(Empty(), timeout=PATIENCE_S)
        return answer


@pytest.fixture
def anybody() -> Iterator[Anybody]:
    """That somebody."""
    anybody = Anybody()
    yield anybody
    anybody.channel.close()


@pytest.fixture
def hand(settings: GripperSettings) -> Iterator[PolymetisHand]:
    """Our side of the wire, the fingers open."""
    hand = PolymetisHand(HOST)
    assert hand.execute(Order("move", OPEN_M), settings) == ("done", "")
    yield hand
    hand.close()


def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


@contextmanager
def standing_time() -> Iterator[Callable[[], None]]:
    """Within it time goes on by a period of the client beside the hand with each call of what is given, and not by itself."""
    server = ControllerServer(HOST)
    state = server.state()
    server.set_controller(controller(state.timestamp.seconds, np.array(state.joint_positions)))
    with EmulatorSignals(HOST) as signals:

        def go_on() -> None:
            last = signals.status().tick + PERIOD_TICKS
            while signals.status().tick < last:
                server.state()

        try:
            yield go_on
        finally:
            server.terminate()
            server.close()


def answered_before_begun(anybody: Anybody, width_m: float, nanos: int) -> bool:
    """Send a move; tell whether the state after its answer is still the one from before it, not a later one."""
    before = anybody.state()
    anybody.goto(width_m, nanos)
    return anybody.state() == before


def pass_looks(anybody: Anybody) -> None:
    """Wait until the client beside the hand has looked for commands."""
    for _ in range(LOOKS):
        still = anybody.state().timestamp
        until(lambda: anybody.state().timestamp != still)  # noqa: B023


def read_on(hand: PolymetisHand) -> None:
    """Read for ever."""
    while True:
        hand.read()


def launched_again(anybody: Anybody, still: GripperState) -> bool:
    """Whether there are other states than `still`, of hands that have been there before."""
    try:
        return anybody.state().timestamp not in (still.timestamp, GripperState().timestamp)
    except grpc.RpcError:
        return False


def test_it_has_homed_without_being_asked(hand: PolymetisHand) -> None:
    """Nothing can ask for homing; the largest width is known all the same, and no version is named."""
    hand.home()
    assert hand.read().width_max_m == pytest.approx(OPEN_M)
    assert hand.facts == {"Polymetis": "of unknown version", "states": "30 Hz"}


def test_an_order_is_answered_before_it_is_done(
    hand: PolymetisHand, anybody: Anybody, settings: GripperSettings
) -> None:
    """The call returns with the fingers where they were, not even moving; ours ends with the motion."""
    for nanos in count(1):
        width_m = (0.06, 0.07)[nanos % 2]
        at_once = answered_before_begun(anybody, width_m, nanos)
        until(lambda: abs(anybody.state().width - width_m) < 0.001 and not anybody.state().is_moving)  # noqa: B023
        if at_once:
            break
    assert hand.execute(Order("grasp", 0.0), settings) == ("done", "")
    assert anybody.state().width < 0.001
    assert not anybody.state().is_moving


def test_a_command_that_counts_as_old_is_passed_over(
    hand: PolymetisHand, anybody: Anybody, settings: GripperSettings
) -> None:
    """Without nanoseconds, or with those of the last command, nothing happens and nothing is said; ours differ from both."""
    anybody.goto(0.07, 11)
    until(lambda: abs(anybody.state().width - 0.07) < 0.001 and not anybody.state().is_moving)
    for nanos in (0, 11):
        anybody.goto(0.05, nanos)
        pass_looks(anybody)
        state = anybody.state()
        assert state.width == pytest.approx(0.07, abs=0.001)
        assert not state.is_moving
    assert hand.execute(Order("move", 0.05), settings) == ("done", "")


def test_commands_after_a_restart_are_new(hand: PolymetisHand, settings: GripperSettings) -> None:
    """A process that begins again knows nothing of the last command; its first one is taken, the same as before or not."""
    assert hand.execute(Order("move", 0.06), settings) == ("done", "")
    for width_m in (0.07, 0.07, 0.06):
        again = PolymetisHand(HOST)
        assert again.execute(Order("move", width_m), settings) == ("done", "")
        assert again.read().width_m == pytest.approx(width_m, abs=0.001)
        again.close()


def test_what_comes_during_a_move_waits_and_only_the_newest_counts(hand: PolymetisHand, anybody: Anybody) -> None:
    """Of two commands during a move the first is lost, the second is begun when the move has ended."""
    with standing_time() as go_on:
        anybody.goto(0.06, 21, SLOW_M_S)
        until(lambda: anybody.state().is_moving)
        anybody.goto(0.02, 22)
        anybody.goto(0.07, 23)
        widths = [OPEN_M]
        while widths[-1] > 0.0605:
            go_on()
            widths.append(anybody.state().width)
        while widths[-1] < 0.0695:
            go_on()
            widths.append(anybody.state().width)
    assert min(widths) > 0.059


def test_there_is_no_stop_but_the_fingers_do_not_come_back(hand: PolymetisHand, anybody: Anybody) -> None:
    """A present width as target comes after the move, and back; ours follows the fingers, so they stay where the move ends."""
    with standing_time() as go_on:

        def go_on_until(condition: Callable[[GripperState], bool]) -> None:
            while not condition(anybody.state()):
                go_on()

        anybody.goto(0.06, 31, SLOW_M_S)
        go_on_until(lambda state: state.width < 0.078)
        anybody.goto(anybody.state().width, 32)
        go_on_until(lambda state: state.width < 0.061)
        go_on_until(lambda state: state.width > 0.065)
        go_on_until(lambda state: not state.is_moving)
        anybody.goto(0.04, 33, SLOW_M_S)
        go_on_until(lambda state: state.width < 0.065)
        hand.read()
        assert hand.stop(Order("move", 0.04)) == ""
        widths = [OPEN_M]
        while widths[-1] > 0.041:
            go_on()
            widths.append(hand.read().width_m)
        for _ in range(15):
            go_on()
            widths.append(hand.read().width_m)
    assert max(widths[-15:]) < 0.043


def test_a_stop_before_a_move_is_begun_keeps_the_fingers(
    hand: PolymetisHand, anybody: Anybody, settings: GripperSettings
) -> None:
    """Where the client has not taken the order yet the fingers do not go where it said."""

    def stopped_in_time() -> bool:
        still = anybody.state().timestamp
        hand._tell(0.03, FAST_M_S, 0.0, grasp=False)
        assert hand.stop(Order("move", 0.03)) == ""
        return anybody.state().timestamp == still

    while not stopped_in_time():
        assert hand.execute(Order("move", OPEN_M), settings) == ("done", "")
    widths = [hand.read().width_m for _ in range(12)]
    assert min(widths) > 0.078
    assert "ends by itself" in hand.stop(Order("grasp", 0.0))


def test_a_client_that_is_gone(
    hand: PolymetisHand, anybody: Anybody, settings: GripperSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the hand refuses ends the client beside it; server and metadata answer as before, only time stands still."""
    with standing_time() as go_on:

        def silent() -> bool:
            before = anybody.state()
            go_on()
            return anybody.state() == before

        anybody.goto(0.5, 41)
        until(silent)
        still = anybody.state()
        with monkeypatch.context() as patch:
            patch.setattr(gripper, "STATE_LIMIT_S", SILENT_S)
            with pytest.raises(GripperError, match="no new state for 1 s"):
                read_on(hand)
            outcome, text = hand.execute(Order("move", 0.06), settings)
        assert (outcome, "no new state" in text) == ("failed", True)
        assert hand._described().max_width == pytest.approx(OPEN_M)
        assert anybody.state().timestamp == still.timestamp
    until(lambda: launched_again(anybody, still))
    again = PolymetisHand(HOST)
    assert again.execute(Order("move", 0.5), settings) == ("done", "")
    assert again.read().width_m == pytest.approx(OPEN_M, abs=0.001)
    again.close()


def test_a_server_that_hangs(
    hand: PolymetisHand, emulator: Program, settings: GripperSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question gets no answer where the server's computer stands still: it ends by itself, and later ones are answered."""
    emulator.process.send_signal(signal.SIGSTOP)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(gripper, "ANSWER_LIMIT_S", HANGING_S)
            with pytest.raises(GripperError, match="deadline exceeded"):
                hand.read()
            assert hand.execute(Order("move", 0.06), settings)[0] == "failed"
            assert "deadline exceeded" in hand.stop(Order("move", 0.06))
    finally:
        emulator.process.send_signal(signal.SIGCONT)
    until(lambda: abs(hand.read().width_m - OPEN_M) < 0.001)


def test_nobody_there(tmp_path: Path) -> None:
    """Without a server the sentence says what to start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("poco.hw.polymetis.gripper.CONNECT_LIMIT_S", 0.3)
        with pytest.raises(GripperError, match=r"no gripper behind Polymetis .*launch_gripper\.py"):
            PolymetisHand("127.0.5.24")


def test_robot_time_does_not_go_on_for_a_gripper(tmp_path: Path) -> None:
    """In lockstep the arm waits for whoever asks for its own state; new states of the hand come all the same."""
    host = "127.0.5.27"
    with emulated_arm(host, tmp_path, "--interface", "polymetis", "--task", "cube", "--pacing", "lockstep") as signals:
        server, hand = ControllerServer(host), PolymetisHand(host)
        state = server.state()
        server.set_controller(controller(state.timestamp.seconds, np.array(state.joint_positions)))
        server.state()
        tick = signals.status().tick
        for _ in range(4):
            hand.read()
        assert signals.status().tick == tick
        server.state()
        assert signals.status().tick > tick
        server.close()
        hand.close()
