"""The traps of a Polymetis server, as the emulated one sets them and our side of the wire steps around them; real gRPC."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from emulated_arm import emulated_arm
from poco.hw.fault_script import Entry, Fault, Reflex, Silence
from poco.hw.polymetis.polymetis_pb2 import ControllerChunk, LogInterval
from poco.hw.polymetis.timeline import Piece, piece_of_chunk
from poco.hw.polymetis.wire import ARM_PORT, ControllerServer, ServerLost
from poco.hw.task_signals import EmulatorSignals
from programs import Program
from told_controller import INERTIA, chunk, controller, ending_controller, update

HOST, WAITING_HOST = "127.0.5.3", "127.0.5.4"
PATIENCE_S = 120.0
POLL_S = 0.02


@pytest.fixture(scope="module", autouse=True)
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """An emulated server in real time."""
    folder = tmp_path_factory.mktemp("emulator")
    program = Program("poco-emulator", "--host", HOST, "--interface", "polymetis", "--task", "none", folder=folder)
    program.until(lambda: "ready" in program.out)
    yield program
    program.end()


@pytest.fixture(scope="module")
def waiting_signals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorSignals]:
    """The task port of a second one in lockstep: while a controller runs, time passes only with questions for the state."""
    flags = ("--interface", "polymetis", "--task", "none", "--pacing", "lockstep")
    with emulated_arm(WAITING_HOST, tmp_path_factory.mktemp("waiting"), *flags) as signals:
        yield signals


@pytest.fixture
def waiting(waiting_signals: EmulatorSignals) -> Iterator[ControllerServer]:
    """Our side of that one's wire."""
    server = ControllerServer(WAITING_HOST)
    until(lambda: alive(server) and len(server.state().joint_positions) == 7)
    yield server
    server.close()


@pytest.fixture
def signals() -> Iterator[EmulatorSignals]:
    """The emulator's task port."""
    with EmulatorSignals(HOST) as signals:
        yield signals


@pytest.fixture
def server() -> Iterator[ControllerServer]:
    """Our side of the wire, with a living server at the other end."""
    server = ControllerServer(HOST)
    until(lambda: alive(server) and len(server.state().joint_positions) == 7)
    yield server
    server.close()


def alive(server: ControllerServer) -> bool:
    try:
        server.metadata()
    except ServerLost:
        return False
    return True


def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(POLL_S)


def pass_until(server: ControllerServer, condition: Callable[[], bool]) -> None:
    """Let time pass in lockstep until `condition` holds."""
    until(lambda: bool(server.state().joint_positions) and condition())


def hold(server: ControllerServer) -> None:
    """Have our controller hold the arm where it is."""
    state = server.state()
    server.set_controller(controller(state.timestamp.seconds, np.array(state.joint_positions)))


def piece_ahead(server: ControllerServer, ahead_ticks: int) -> Piece:
    """A motion of every joint from where the arm is, `ahead_ticks` from now."""
    state = server.state()
    now_tick = state.timestamp.seconds * 1000 + state.timestamp.nanos // 1_000_000
    start = np.array(state.joint_positions)
    return piece_of_chunk(chunk(now_tick + ahead_ticks, start, 0.02), state.timestamp.seconds * 1000)


def update_anyway(module: bytes) -> None:
    """Send an update as somebody would who does not know the trap."""
    with grpc.insecure_channel(f"{HOST}:{ARM_PORT}") as channel:
        call = channel.stream_unary(
            "/PolymetisControllerServer/UpdateController", ControllerChunk.SerializeToString, LogInterval.FromString
        )
        call(iter([ControllerChunk(torchscript_binary_chunk=module)]), timeout=PATIENCE_S)


def suffer(signals: EmulatorSignals, fault: Fault) -> None:
    signals.inject([Entry(fault=fault, at=0)])


def test_a_server_that_hangs(server: ControllerServer, emulator: Program) -> None:
    """A question gets no answer where the server's computer stands still: it ends by itself, and later ones are answered."""
    server.answer_limit_s = 0.2
    emulator.process.send_signal(signal.SIGSTOP)
    try:
        for question in (server.state, server.metadata, server.running):
            with pytest.raises(ServerLost, match="deadline exceeded"):
                question()
    finally:
        emulator.process.send_signal(signal.SIGCONT)
    until(lambda: alive(server))


def test_update_before_any_controller(server: ControllerServer) -> None:
    """An update before any controller takes the server down; ours is never sent, and the server lives on. No episode is known."""
    module = update(piece_ahead(server, 100), INERTIA)
    with pytest.raises(ServerLost, match="does not run the controller"):
        server.update(module)
    assert alive(server)
    server._set = True  # until the connection is lost
    with pytest.raises(grpc.RpcError):
        update_anyway(module)
    until(lambda: not server._set)
    until(lambda: alive(server))
    assert (server.interval().start, server.interval().end) == (-1, -1)


def test_update_after_a_restart(server: ControllerServer) -> None:
    """A server that was started again has no controller: what was set before counts no more, and nothing is sent."""
    module = update(piece_ahead(server, 100), INERTIA)
    server._set, server._begun = True, 5000  # as if it had been set before the other one went
    with pytest.raises(ServerLost, match="does not run the controller"):
        server.update(module)
    assert alive(server)


def test_update_with_nothing_running(server: ControllerServer) -> None:
    """After a controller has ended an update is refused in words; ours is not sent."""
    hold(server)
    assert server.running()
    module = update(piece_ahead(server, 100), INERTIA)
    server.terminate()
    with pytest.raises(ServerLost, match="does not run the controller"):
        server.update(module)
    with pytest.raises(grpc.RpcError) as refused:
        update_anyway(module)
    assert refused.value.code() is grpc.StatusCode.CANCELLED
    assert "no controller running" in str(refused.value.details())
    assert alive(server)


def test_ending_with_nothing_running(server: ControllerServer) -> None:
    """To end what does not run is refused in words."""
    hold(server)
    server.terminate()
    with pytest.raises(ServerLost, match="no controller running"):
        server.terminate()


def test_another_controller_takes_over_at_once(server: ControllerServer) -> None:
    """A controller that somebody sets replaces ours without a word, and ours counts as running no more."""
    hold(server)
    begun = server.interval().start
    other = ControllerServer(HOST)
    hold(other)
    assert other.running()
    assert not server.running()
    assert (server.interval().start > begun, server.interval().end) == (True, -1)
    other.terminate()
    other.close()


def test_a_controller_that_ends_by_itself(server: ControllerServer) -> None:
    """A controller that says it is done is replaced by the server's own, which holds the arm where it then is."""
    server.set_controller(ending_controller(50))
    until(lambda: not server.running())
    interval = server.interval()
    assert 49 <= interval.end - interval.start <= 51
    held = np.array(server.state().joint_positions)
    time.sleep(0.1)
    assert np.abs(np.array(server.state().joint_positions) - held).max() < 0.02


def test_a_controller_that_asks_too_much(server: ControllerServer, signals: EmulatorSignals) -> None:
    """A jump of the target makes the joints too fast: the robot client stops the arm, and our controller is gone."""
    aborts = signals.status().reflexes
    state = server.state()
    jump = np.eye(7)[3] * 0.6
    server.set_controller(controller(state.timestamp.seconds, np.array(state.joint_positions) + jump))
    until(lambda: signals.status().reflexes > aborts)
    until(lambda: alive(server) and not server.running())


def test_setting_takes_long_and_shows_nothing_of_the_warm_up(server: ControllerServer) -> None:
    """Setting waits for a poll of 20 ms; five warm-up calls leave no trace, so the first torque is that of a fresh controller."""
    began_s = time.monotonic()
    hold(server)
    assert time.monotonic() - began_s >= POLL_S
    state = server.state()
    assert np.abs(state.joint_torques_computed).max() < 1.0
    assert (server.interval().start >= 0, server.interval().end) == (True, -1)
    server.terminate()
    assert server.interval().end >= server.interval().start


def test_bad_bytes(server: ControllerServer) -> None:
    """What is no controller is refused, and the one that runs goes on."""
    hold(server)
    with pytest.raises(ServerLost, match="Failed to load new controller"):
        server.set_controller(b"no module" * 500)
    assert server.running()
    server.terminate()


def test_states_in_bursts(server: ControllerServer) -> None:
    """The stream gives every state, but in bursts; the newest one is had by asking."""
    stream = server.states()
    arrived = [(next(stream), time.monotonic()) for _ in range(400)]
    ticks = np.array([state.timestamp.seconds * 1000 + state.timestamp.nanos // 1_000_000 for state, _ in arrived])
    assert np.all(np.diff(ticks) == 1)
    gaps_s = np.diff([at_s for _, at_s in arrived])
    assert (gaps_s > POLL_S / 2).sum() < len(arrived) / 5


def test_a_second_without_robot_client(waiting: ControllerServer, waiting_signals: EmulatorSignals) -> None:
    """After a gap of more than 1 s the metadata call says that nobody is there, and our controller is gone without a word."""
    hold(waiting)
    suffer(waiting_signals, Silence(ticks=1500))
    pass_until(waiting, lambda: not alive(waiting))
    with pytest.raises(ServerLost, match="Robot context not valid"):
        waiting.metadata()
    pass_until(waiting, lambda: alive(waiting))
    pass_until(waiting, lambda: not waiting.running())
    assert waiting.interval().end >= waiting.interval().start
    assert waiting.state().error_code == 0


def test_a_bound_that_is_crossed(waiting: ControllerServer, waiting_signals: EmulatorSignals) -> None:
    """The robot client stops the arm, recovers by itself and goes on with the server's own controller."""
    hold(waiting)
    aborts = waiting_signals.status().reflexes
    suffer(waiting_signals, Reflex(error="joint_reflex"))
    pass_until(waiting, lambda: waiting_signals.status().reflexes > aborts)
    pass_until(waiting, lambda: not alive(waiting))
    pass_until(waiting, lambda: alive(waiting) and not waiting.running())


def test_an_update_that_moves(server: ControllerServer) -> None:
    """One update, and the arm goes there and is held."""
    update(piece_ahead(server, 0), INERTIA)  # what is compiled at first use takes longer than the update's lead
    hold(server)
    start = np.array(server.state().joint_positions)
    server.update(update(piece_ahead(server, 1000), INERTIA))
    until(lambda: bool(np.abs(np.array(server.state().joint_positions) - start - 0.02).max() < 0.004))
    assert server.running()
    server.terminate()


def test_the_package_is_not_needed(tmp_path: Path) -> None:
    """Nothing of an installed `polymetis` package is imported; its version is read where there is one."""
    from poco.hw.polymetis.arm import installed_version

    assert installed_version() == "none"
    information = tmp_path / "polymetis-0.2.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: polymetis\nVersion: 0.2\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        assert installed_version() == "0.2"
