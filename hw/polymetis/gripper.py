"""The gripper behind a Polymetis gripper server: what there is instead of an answer, a stop and homing.

The server only passes the newest state and the newest command on; the client program beside the hand does the rest. So an order is
answered before it is begun, its end shows in the states, and one who is gone shows in states that are new no more.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import grpc

from poco.errors import GripperError
from poco.gripping import Ending, HandReading, Order
from poco.settings import GripperSettings

from .polymetis_pb2 import Empty, GripperCommand, GripperMetadata, GripperState
from .wire import open_channel, words

Answer = TypeVar("Answer")

GRIPPER_PORT = 50052
ANSWER_LIMIT_S = 0.5
CONNECT_LIMIT_S = 5.0
POLL_S = 0.01
STATE_LIMIT_S = 1.0
"""The server keeps giving the last state of a client that is gone: without a newer one for so long, it counts as gone."""

IDLE_STATES = 3
"""An order has ended when so many new states in a row show no motion: the first one or two are from before it was taken."""

ORDER_LIMIT_S = 10.0
"""A move that meets an object may go on for any time, and nothing else is taken until it ends."""

ANY_WIDTH = -1.0
"""Tolerance that the client beside the hand reads as any."""

HOLD_SPEED_M_S = 0.05
HOLD_STEP_M = 0.001
_SERVICE = "/GripperServer/"
_SECOND_NS = 1_000_000_000


class PolymetisHand:
    """One connection to the gripper server at host:port; raises GripperError with the remedy where no hand is behind it."""

    def __init__(self, host: str, port: int = GRIPPER_PORT) -> None:
        self.address = f"{host}:{port}"
        self._channel = open_channel(self.address)
        asks = {"request_serializer": Empty.SerializeToString}
        self._metadata = self._channel.unary_unary(
            _SERVICE + "GetRobotClientMetadata", response_deserializer=GripperMetadata.FromString, **asks
        )
        self._state = self._channel.unary_unary(
            _SERVICE + "GetState", response_deserializer=GripperState.FromString, **asks
        )
        self._goto = self._channel.unary_unary(
            _SERVICE + "Goto",
            request_serializer=GripperCommand.SerializeToString,
            response_deserializer=Empty.FromString,
        )
        self._told_nanos = 0
        self._holding_m: float | None = None
        self._hand = self._described()
        self._newest = self._answered(lambda: self._state(Empty(), timeout=ANSWER_LIMIT_S))

    @property
    def facts(self) -> dict[str, str]:
        """What the client beside the hand says of itself; the one for the Franka Hand names no version."""
        return {"Polymetis": self._hand.polymetis_version or "of unknown version", "states": f"{self._hand.hz} Hz"}

    def read(self) -> HandReading:
        """Return the next state; raises GripperError when there is none for 1 s."""
        state = self._next_state()
        self._hold_on()
        return HandReading(state.width, self._hand.max_width, state.is_grasped)

    def home(self) -> None:
        """Nothing can be asked: the client beside the hand has found the largest width before it said that it is there."""

    def execute(self, order: Order, settings: GripperSettings) -> tuple[Ending, str]:
        """Do `order` and say what became of it and why; blocks until it has ended. Never raises."""
        try:
            self._newest = self._answered(lambda: self._state(Empty(), timeout=ANSWER_LIMIT_S))
            self._tell(order.width_m, settings.speed_m_s, settings.force_n, order.kind == "grasp")
            return self._ended(order, settings.hysteresis_m)
        except GripperError as error:
            return "failed", str(error)

    def stop(self, order: Order) -> str:
        """Hold the fingers of a move where they are; return why that was not possible, empty if it was. Never raises.

        A new target may count only when the move has ended, so `read` lets it follow the fingers until then. A grasp is let end: a
        target in its place would let go of what is held.
        """
        if order.kind == "grasp":
            return "behind Polymetis a grasp ends by itself"
        try:
            self._hold(self._newest.width)
        except GripperError as error:
            return str(error)
        return ""

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def _hold_on(self) -> None:
        """While a move that is to stop still goes on, its fingers' newest width is the target."""
        if self._holding_m is None:
            return
        if not self._newest.is_moving:
            self._holding_m = None
        elif abs(self._newest.width - self._holding_m) > HOLD_STEP_M:
            self._hold(self._newest.width)

    def _hold(self, width_m: float) -> None:
        self._holding_m = width_m
        self._tell(width_m, HOLD_SPEED_M_S, 0.0, grasp=False)

    def _ended(self, order: Order, tolerance_m: float) -> tuple[Ending, str]:
        """Follow the states until nothing moves any more."""
        idle, moved, until_s = 0, False, time.monotonic() + ORDER_LIMIT_S
        while idle < IDLE_STATES:
            state = self._next_state()
            moved, idle = moved or state.is_moving, 0 if state.is_moving else idle + 1
            if time.monotonic() > until_s:
                return "failed", f"it still moves after {ORDER_LIMIT_S:g} s and takes nothing until it ends"
        if order.kind == "grasp":
            there = state.is_grasped or (moved and state.prev_command_successful)
        else:
            there = abs(state.width - self._possible_m(order.width_m)) <= tolerance_m
        if there:
            return "done", ""
        return ("missed", "the fingers did not get there") if moved else ("failed", "the order was not taken")

    def _next_state(self) -> GripperState:
        """Wait for a state that was not there before; raises GripperError after 1 s, and when the hand reports an error."""
        before, until_s = self._newest.timestamp, time.monotonic() + STATE_LIMIT_S
        while True:
            state = self._answered(lambda: self._state(Empty(), timeout=ANSWER_LIMIT_S))
            if state.timestamp != before:
                break
            if time.monotonic() > until_s:
                raise GripperError(
                    f"the gripper server at {self.address} has had no new state for {STATE_LIMIT_S:g} s: start it and its client "
                    "again (launch_gripper.py)"
                )
            time.sleep(POLL_S)
        self._newest = state
        if state.error_code != 0:
            raise GripperError(f"the gripper at {self.address} reports error {state.error_code}: look at it")
        return state

    def _tell(self, width_m: float, speed_m_s: float, force_n: float, grasp: bool) -> None:
        """Send a command that counts as new; one that the hand cannot do would end the client beside it."""
        command = GripperCommand(
            width=self._possible_m(width_m),
            speed=speed_m_s,
            force=force_n,
            grasp=grasp,
            epsilon_inner=ANY_WIDTH,
            epsilon_outer=ANY_WIDTH,
        )
        now_ns = new_stamp_ns(time.time_ns(), self._told_nanos)
        self._told_nanos = now_ns % _SECOND_NS
        command.timestamp.seconds, command.timestamp.nanos = divmod(now_ns, _SECOND_NS)
        self._answered(lambda: self._goto(command, timeout=ANSWER_LIMIT_S))

    def _possible_m(self, width_m: float) -> float:
        return min(max(width_m, 0.0), self._hand.max_width)

    def _described(self) -> GripperMetadata:
        until_s = time.monotonic() + CONNECT_LIMIT_S
        while True:
            try:
                hand = self._answered(lambda: self._metadata(Empty(), timeout=ANSWER_LIMIT_S))
                break
            except GripperError as error:
                if time.monotonic() > until_s:
                    raise GripperError(
                        f"no gripper behind Polymetis ({error}): start its server and client again (launch_gripper.py), correct "
                        "robot.host and polymetis.gripper_port, or give a policy without one"
                    ) from error
                time.sleep(10 * POLL_S)
        if not hand.max_width > 0.0:
            raise GripperError(
                f"the gripper at {self.address} says that it opens {hand.max_width:g} m, must be above 0: start its client again, "
                "which homes it"
            )
        return hand

    def _answered(self, call: Callable[[], Answer]) -> Answer:
        try:
            return call()
        except grpc.RpcError as error:
            raise GripperError(f"the gripper server at {self.address} says: {words(error)}") from error


def new_stamp_ns(now_ns: int, told_nanos: int) -> int:
    """Return a time near `now_ns` whose part under a second, all that is looked at, is neither 0 nor the one last told."""
    while now_ns % _SECOND_NS in (0, told_nanos):
        now_ns += 1
    return now_ns
