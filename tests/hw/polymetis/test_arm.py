"""What is looked at before the first motion, with a server that says something else than it should; real gRPC."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from poco.errors import ArmError
from poco.hw.emulator.model import fr3_urdf
from poco.hw.emulator.polymetis.services import SERVICE, open_server
from poco.hw.polymetis import arm
from poco.hw.polymetis.arm import PolymetisArm
from poco.hw.polymetis.polymetis_pb2 import RobotClientMetadata, RobotState
from poco.hw.polymetis.wire import ARM_PORT
from poco.settings import read_settings
from programs import ROOT
from told_controller import HELD_RAD

HOST = "127.0.5.28"


class Said:
    """What the server says."""

    def __init__(self) -> None:
        self.metadata = RobotClientMetadata(urdf_file=fr3_urdf(), dof=7, hz=1000, polymetis_version="0.1")
        self.state = RobotState(joint_positions=HELD_RAD.tolist())
        for values in (self.state.joint_velocities, self.state.motor_torques_measured):
            values.extend([0.0] * 7)
        self.state.motor_torques_external.extend([0.0] * 7)
        self.passes_ms = 1

    def next_state(self) -> RobotState:
        """The next state, some time later."""
        self.state.timestamp.nanos += self.passes_ms * 1_000_000
        return self.state


@pytest.fixture
def said() -> Iterator[Said]:
    """A server whose words can be changed."""
    said = Said()
    answer = grpc.unary_unary_rpc_method_handler
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "GetRobotClientMetadata": answer(
            lambda request, context: said.metadata, response_serializer=RobotClientMetadata.SerializeToString
        ),
        "GetRobotState": answer(
            lambda request, context: said.next_state(), response_serializer=RobotState.SerializeToString
        ),
    }
    server = open_server(SERVICE, handlers, HOST, ARM_PORT, 2)
    yield said
    server.stop(None)


@pytest.fixture
def connect() -> Iterator[Callable[[], PolymetisArm]]:
    """Connect to it and look whether it is ready."""
    made: list[PolymetisArm] = []

    def connect() -> PolymetisArm:
        settings = read_settings(ROOT / "configs" / "fr3_peg_in_hole.yaml", {"robot.host": HOST})
        made.append(PolymetisArm(settings.robot, settings.polymetis))
        assert made[-1].connect() == ["server 0.1, installed package none"]
        made[-1].check_ready()
        return made[-1]

    yield connect
    for each in made:
        each.disconnect()


def test_what_is_as_it_should_be_is_taken(said: Said, connect: Callable[[], PolymetisArm]) -> None:
    """Seven joints at 1 kHz, new states, no error, a pose with room: ready, and the pose is read in the server's time."""
    reading = connect().read()
    assert reading.q.tolist() == pytest.approx(HELD_RAD.tolist())
    assert reading.tick == round(said.state.timestamp.nanos / 1e6)


@pytest.mark.parametrize(("dof", "hz"), [(6, 1000), (7, 200)])
def test_another_robot_client(said: Said, connect: Callable[[], PolymetisArm], dof: int, hz: int) -> None:
    """A client with other joints or at another rate is named with both."""
    said.metadata.dof, said.metadata.hz = dof, hz
    with pytest.raises(ArmError, match=f"has {dof} joints at {hz} Hz, must have 7 at 1000 Hz"):
        connect()


def test_states_that_stand_still(said: Said, connect: Callable[[], PolymetisArm]) -> None:
    """Age is told by the server's own time alone, of which two states show whether it goes on."""
    said.passes_ms = 0
    with pytest.raises(ArmError, match="sends no new states: start its robot client again"):
        connect()


def test_states_without_an_arm(said: Said, connect: Callable[[], PolymetisArm]) -> None:
    """Before its first state the server gives an empty one."""
    said.state = RobotState()
    with pytest.raises(ArmError, match="has no state of the arm yet"):
        connect()


def test_an_error(said: Said, connect: Callable[[], PolymetisArm]) -> None:
    """An error of the robot client's is named before anything moves."""
    said.state.error_code = 1
    with pytest.raises(ArmError, match="reports an error"):
        connect()


def test_a_pose_at_a_joints_end(said: Said, connect: Callable[[], PolymetisArm]) -> None:
    """A pose without room is refused as on any other arm."""
    said.state.joint_positions[3] = -0.16
    with pytest.raises(ArmError, match="joint 4"):
        connect()


def test_nobody_there(monkeypatch: pytest.MonkeyPatch, connect: Callable[[], PolymetisArm]) -> None:
    """Without a server the sentence says what to start."""
    monkeypatch.setattr(arm, "CONNECT_LIMIT_S", 0.3)
    with pytest.raises(ArmError, match=r"start the controller server and its robot client .*launch_robot\.py"):
        connect()
