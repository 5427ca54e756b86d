"""The Franka Hand behind the vendor's client library pylibfranka; each connection belongs to one thread of one process.

The library holds the interpreter lock while it waits, and a command takes until the fingers have arrived: who wants to read or to
stop meanwhile needs a second connection, in another process.
"""

from __future__ import annotations

from typing import Any

from poco.errors import GripperError
from poco.gripping import Ending, HandReading, Order
from poco.settings import GripperSettings

ANY_WIDTH_M = 0.2
"""Tolerance with which a grasp succeeds whatever is between the fingers."""


class FrankaHand:
    """One connection to the hand at the arm's address; raises GripperError with the remedy where it does not answer."""

    def __init__(self, host: str) -> None:
        try:
            import pylibfranka
        except ImportError as error:
            raise GripperError("pylibfranka is not installed: pip install 'poco-robot[franka]'") from error
        self._host, self._library = host, pylibfranka
        try:
            self._gripper: Any = pylibfranka.Gripper(host)
        except Exception as error:  # the library's classes share no base
            raise GripperError(
                f"no gripper answers at {host} ({_text(error)}): look whether the hand is mounted and enabled in Desk, or give a "
                "policy without one"
            ) from error

    @property
    def facts(self) -> dict[str, str]:
        """The protocol that the hand speaks."""
        return {"protocol": str(self._gripper.server_version())}

    def read(self) -> HandReading:
        """Return the next state (waits up to 0.1 s on a robot); raises GripperError when there is none for 1 s."""
        try:
            state = self._gripper.read_once()
        except Exception as error:
            raise GripperError(f"the gripper at {self._host} sends no states ({_text(error)}): look at Desk") from error
        return HandReading(float(state.width), float(state.max_width), bool(state.is_grasped))

    def home(self) -> None:
        """Find the largest width; blocks for seconds. Raises GripperError if it was not found."""
        try:
            found = bool(self._gripper.homing())
        except Exception as error:
            raise GripperError(
                f"the gripper at {self._host} cannot home ({_text(error)}): free its fingers and start again"
            ) from error
        if not found:
            raise GripperError(
                f"the gripper at {self._host} did not find its largest width: free its fingers, start again"
            )

    def execute(self, order: Order, settings: GripperSettings) -> tuple[Ending, str]:
        """Do `order` and say what became of it and why; blocks until it has ended. Never raises."""
        try:
            if order.kind == "grasp":
                done = self._gripper.grasp(
                    order.width_m, settings.speed_m_s, settings.force_n, ANY_WIDTH_M, ANY_WIDTH_M
                )
            else:
                done = self._gripper.move(order.width_m, settings.speed_m_s)
        except self._library.CommandException as error:
            return ("stopped" if "abort" in str(error) else "failed"), _text(error)
        except Exception as error:
            return "failed", _text(error)
        return ("done", "") if done else ("missed", "the fingers did not get there")

    def stop(self, order: Order) -> str:
        """Stop `order`, which another connection has begun; return why that was not possible, empty if it was. Never raises."""
        try:
            return "" if self._gripper.stop() else "the gripper did not stop"
        except Exception as error:
            return _text(error)


def _text(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".!")
