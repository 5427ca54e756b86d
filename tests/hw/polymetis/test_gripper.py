"""Our side of the gripper server's wire with the server alone: what stands beside the hand is the test. Real gRPC."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from beside_hand import SECOND_NS, beside
from poco.errors import GripperError
from poco.gripping import Order
from poco.hw.emulator.arm import SimulatedArm
from poco.hw.emulator.fingers import SimulatedFingers
from poco.hw.emulator.polymetis.gripper_service import GripperService
from poco.hw.emulator.polymetis.hand_client import HandClient
from poco.hw.emulator.tasks.cube import cube_mjcf
from poco.hw.polymetis import gripper
from poco.hw.polymetis.gripper import PolymetisHand, new_stamp_ns
from poco.hw.polymetis.polymetis_pb2 import Empty, GripperCommand, GripperMetadata, GripperState
from poco.hw.polymetis.wire import open_channel
from poco.settings import read_settings
from programs import ROOT

HOST, PORT = "127.0.5.23", 50052
PATIENCE_S = 120.0
SETTINGS = read_settings(ROOT / "configs" / "fr3_peg_in_hole.yaml", {}).gripper


@pytest.fixture
def service() -> Iterator[GripperService]:
    """A server that nobody has told anything yet."""
    service = GripperService(HOST, PORT)
    yield service
    service.close()


def at_once(command: GripperCommand, state: GripperState) -> None:
    """A hand that obeys without being seen to move and, as one for another gripper does, never says that it succeeded."""
    if command.timestamp.nanos:
        state.width = command.width


def test_stamps_are_new() -> None:
    """The part under a second is never 0 nor that of the last command, and the time is hardly another one."""
    for now_ns, told, then in ((5 * SECOND_NS, 7, 1), (5 * SECOND_NS, 1, 2), (5 * SECOND_NS + 7, 7, 8), (42, 7, 42)):
        stamp_ns = new_stamp_ns(now_ns, told)
        assert (stamp_ns % SECOND_NS, stamp_ns // SECOND_NS) == (then, now_ns // SECOND_NS)
    assert new_stamp_ns(6 * SECOND_NS - 1, SECOND_NS - 1) == 6 * SECOND_NS + 1


def test_before_there_is_a_client(service: GripperService, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server whose client is still homing, or was lost with the server before it, does not know what hand there is."""
    monkeypatch.setattr(gripper, "CONNECT_LIMIT_S", 0.3)
    monkeypatch.setattr(gripper, "ANSWER_LIMIT_S", PATIENCE_S)
    with pytest.raises(GripperError, match=r"internal .*start its server and client again .*launch_gripper\.py"):
        PolymetisHand(HOST, PORT)
    service.init_client(GripperMetadata(hz=30))
    with pytest.raises(GripperError, match=r"opens 0 m, must be above 0: start its client again"):
        PolymetisHand(HOST, PORT)


def test_the_version_is_passed_on(service: GripperService) -> None:
    """A client that names a version is shown with it."""
    with beside(service, at_once, "0.2.155"):
        hand = PolymetisHand(HOST, PORT)
        assert hand.facts == {"Polymetis": "0.2.155", "states": "100 Hz"}
        hand.close()


def test_success_is_what_the_fingers_show(service: GripperService) -> None:
    """Without a word of success or motion a move whose width is there is done; a grasp was not taken."""
    with beside(service, at_once):
        hand = PolymetisHand(HOST, PORT)
        assert hand.execute(Order("move", 0.05), SETTINGS) == ("done", "")
        assert hand.execute(Order("grasp", 0.0), SETTINGS) == ("failed", "the order was not taken")
        hand.close()


def test_a_move_that_never_ends(service: GripperService, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fingers that push against something for ever are given up for lost after a time, so that a newer order gets through."""

    def blocked(command: GripperCommand, state: GripperState) -> None:
        state.is_moving = command.timestamp.nanos != 0

    monkeypatch.setattr(gripper, "ORDER_LIMIT_S", 0.3)
    with beside(service, blocked):
        hand = PolymetisHand(HOST, PORT)
        outcome, text = hand.execute(Order("move", 0.05), SETTINGS)
        assert (outcome, "still moves after 0.3 s" in text) == ("failed", True)
        hand.close()


def test_an_error_is_named(service: GripperService) -> None:
    """A state with an error ends reading and orders."""

    def broken(command: GripperCommand, state: GripperState) -> None:
        state.error_code = 5

    with beside(service, broken):
        hand = PolymetisHand(HOST, PORT)
        with pytest.raises(GripperError, match="reports error 5"):
            hand.read()
        assert hand.execute(Order("move", 0.05), SETTINGS)[0] == "failed"
        hand.close()


def test_a_server_that_was_started_again_under_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """States go on as before, but a new connection is not told what hand there is: the client says so only when it begins."""
    monkeypatch.setattr(gripper, "ANSWER_LIMIT_S", PATIENCE_S)
    monkeypatch.setattr(gripper, "CONNECT_LIMIT_S", 0.3)
    client = HandClient(SimulatedFingers(SimulatedArm.from_mjcf(cube_mjcf())))
    first, second = GripperService(HOST, PORT + 1), GripperService(HOST, PORT + 2)
    for tick in range(400):
        client.advance(first, tick)
    PolymetisHand(HOST, PORT + 1).close()
    client.update(second)
    with open_channel(f"{HOST}:{PORT + 2}") as channel:
        ask = channel.unary_unary("/GripperServer/GetState", Empty.SerializeToString, GripperState.FromString)
        assert ask(Empty(), timeout=PATIENCE_S).width == pytest.approx(0.08, abs=0.001)
    with pytest.raises(GripperError, match="internal"):
        PolymetisHand(HOST, PORT + 2)
    first.close()
    second.close()
