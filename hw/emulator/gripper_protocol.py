"""Packets of the gripper's network interface, protocol 3, as packed little-endian numpy dtypes.

Layouts and numbers are those of the vendor's public libfranka-common. Unlike the arm's, its header has a short command and its
statuses have two bytes.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

GRIPPER_PROTOCOL_VERSION = 3
GRIPPER_PORT = 1338

HEADER = np.dtype([("command", "<u2"), ("command_id", "<u4"), ("size", "<u4")])
"""First 10 bytes of every request and response; `size` counts the header too."""


class GripperCommand(IntEnum):
    """Requests on the TCP connection."""

    CONNECT = 0
    HOMING = 1
    GRASP = 2
    MOVE = 3
    STOP = 4


PAYLOADS: dict[GripperCommand, np.dtype[np.void]] = {
    GripperCommand.CONNECT: np.dtype([("version", "<u2"), ("udp_port", "<u2")]),
    GripperCommand.HOMING: np.dtype([]),
    GripperCommand.GRASP: np.dtype(
        [
            ("width", "<f8"),
            ("epsilon_inner", "<f8"),
            ("epsilon_outer", "<f8"),
            ("speed", "<f8"),
            ("force", "<f8"),
        ]
    ),
    GripperCommand.MOVE: np.dtype([("width", "<f8"), ("speed", "<f8")]),
    GripperCommand.STOP: np.dtype([]),
}
"""Payload of each request, after the header: m, m/s, N."""

CONNECT_RESPONSE = np.dtype([("status", "<u2"), ("version", "<u2")])

STATE = np.dtype(
    [
        ("message_id", "<u4"),
        ("width", "<f8"),
        ("max_width", "<f8"),
        ("is_grasped", "u1"),
        ("temperature", "<u2"),
    ]
)
"""State datagram, server to client: 23 bytes. m, degrees Celsius; message_id is the robot time in ms."""


class GripperStatus(IntEnum):
    """Answers: UNSUCCESSFUL is False to the caller, FAIL and ABORTED are exceptions. To Connect, 1 means another version."""

    SUCCESS = 0
    FAIL = 1
    UNSUCCESSFUL = 2
    ABORTED = 3


INCOMPATIBLE_VERSION = 1


def gripper_request_size(command: GripperCommand) -> int:
    """Return the bytes of a whole request, header included."""
    return HEADER.itemsize + PAYLOADS[command].itemsize


def gripper_response(command: int, command_id: int, payload: bytes) -> bytes:
    """Return a whole response: header, then `payload`, which starts with the status."""
    header = np.array((command, command_id, HEADER.itemsize + len(payload)), HEADER)
    return header.tobytes() + payload
