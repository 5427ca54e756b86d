"""Which gripper a run has: the one place that knows, for both processes of the gripper."""

from __future__ import annotations

from poco.gripping import Hand
from poco.settings import Settings


def connect_hand(settings: Settings) -> Hand:
    """Connect to the gripper of the arm that `settings` name; libraries are imported for that one only. Raises GripperError."""
    host = settings.robot.host
    if settings.robot.kind == "polymetis":
        from poco.hw.polymetis.gripper import PolymetisHand

        return PolymetisHand(host, settings.polymetis.gripper_port)
    from poco.hw.franka_gripper import FrankaHand

    return FrankaHand(host)
