"""Packets of the Franka Control Interface, protocol 10, as packed little-endian numpy dtypes.

Layouts and numbers are those of the vendor's public libfranka-common (protocol version 10). Transforms are column-major.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

PROTOCOL_VERSION = 10
ARM_PORT = 1337

HEADER = np.dtype([("command", "<u4"), ("command_id", "<u4"), ("size", "<u4")])
"""First 12 bytes of every request and response; `size` counts the header too."""


class Command(IntEnum):
    """Requests on the TCP connection."""

    CONNECT = 0
    MOVE = 1
    STOP_MOVE = 2
    SET_COLLISION_BEHAVIOR = 3
    SET_JOINT_IMPEDANCE = 4
    SET_CARTESIAN_IMPEDANCE = 5
    SET_GUIDING_MODE = 6
    SET_EE_TO_K = 7
    SET_NE_TO_EE = 8
    SET_LOAD = 9
    AUTOMATIC_ERROR_RECOVERY = 10
    GET_ROBOT_MODEL = 11


PAYLOADS: dict[Command, np.dtype[np.void]] = {
    Command.CONNECT: np.dtype([("version", "<u2"), ("udp_port", "<u2")]),
    Command.MOVE: np.dtype(
        [
            ("controller_mode", "<u4"),
            ("generator_mode", "<u4"),
            ("path_deviation", "<f8", (3,)),
            ("goal_deviation", "<f8", (3,)),
            ("use_async", "u1"),
            ("velocity_max", "<f8", (7,)),
        ]
    ),
    Command.STOP_MOVE: np.dtype([]),
    Command.SET_COLLISION_BEHAVIOR: np.dtype(
        [
            ("lower_torque_acceleration", "<f8", (7,)),
            ("upper_torque_acceleration", "<f8", (7,)),
            ("lower_torque_nominal", "<f8", (7,)),
            ("upper_torque_nominal", "<f8", (7,)),
            ("lower_force_acceleration", "<f8", (6,)),
            ("upper_force_acceleration", "<f8", (6,)),
            ("lower_force_nominal", "<f8", (6,)),
            ("upper_force_nominal", "<f8", (6,)),
        ]
    ),
    Command.SET_JOINT_IMPEDANCE: np.dtype([("stiffness", "<f8", (7,))]),
    Command.SET_CARTESIAN_IMPEDANCE: np.dtype([("stiffness", "<f8", (6,))]),
    Command.SET_GUIDING_MODE: np.dtype([("directions", "u1", (6,)), ("elbow", "u1")]),
    Command.SET_EE_TO_K: np.dtype([("transform", "<f8", (16,))]),
    Command.SET_NE_TO_EE: np.dtype([("transform", "<f8", (16,))]),
    Command.SET_LOAD: np.dtype([("mass", "<f8"), ("centre", "<f8", (3,)), ("inertia", "<f8", (9,))]),
    Command.AUTOMATIC_ERROR_RECOVERY: np.dtype([]),
    Command.GET_ROBOT_MODEL: np.dtype([]),
}
"""Payload of each request, after the header."""

CONNECT_RESPONSE = np.dtype([("status", "u1"), ("version", "<u2")])

_POSE = ("<f4", (16,))
_JOINTS = ("<f4", (7,))
_TWIST = ("<f4", (6,))
_ELBOW = ("<f4", (2,))
_FLAGS = ("u1", (41,))

STATE = np.dtype(
    [
        ("message_id", "<u8"),
        ("O_T_EE", *_POSE),
        ("O_T_EE_d", *_POSE),
        ("F_T_EE", *_POSE),
        ("EE_T_K", *_POSE),
        ("F_T_NE", *_POSE),
        ("NE_T_EE", *_POSE),
        ("m_ee", "<f4"),
        ("I_ee", "<f4", (9,)),
        ("F_x_Cee", "<f4", (3,)),
        ("m_load", "<f4"),
        ("I_load", "<f4", (9,)),
        ("F_x_Cload", "<f4", (3,)),
        ("elbow", *_ELBOW),
        ("elbow_d", *_ELBOW),
        ("tau_J", *_JOINTS),
        ("tau_J_d", *_JOINTS),
        ("dtau_J", *_JOINTS),
        ("q", *_JOINTS),
        ("q_d", *_JOINTS),
        ("dq", *_JOINTS),
        ("dq_d", *_JOINTS),
        ("ddq_d", *_JOINTS),
        ("joint_contact", *_JOINTS),
        ("cartesian_contact", *_TWIST),
        ("joint_collision", *_JOINTS),
        ("cartesian_collision", *_TWIST),
        ("tau_ext_hat_filtered", *_JOINTS),
        ("O_F_ext_hat_K", *_TWIST),
        ("K_F_ext_hat_K", *_TWIST),
        ("O_dP_EE_d", *_TWIST),
        ("O_ddP_O", "<f4", (3,)),
        ("elbow_c", *_ELBOW),
        ("delbow_c", *_ELBOW),
        ("ddelbow_c", *_ELBOW),
        ("O_T_EE_c", *_POSE),
        ("O_dP_EE_c", *_TWIST),
        ("O_ddP_EE_c", *_TWIST),
        ("theta", *_JOINTS),
        ("dtheta", *_JOINTS),
        ("accelerometer_top", "<f4", (6, 3)),
        ("accelerometer_bottom", "<f4", (6, 3)),
        ("motion_generator_mode", "u1"),
        ("controller_mode", "u1"),
        ("errors", *_FLAGS),
        ("reflex_reason", *_FLAGS),
        ("robot_mode", "u1"),
        ("control_command_success_rate", "<f4"),
    ]
)
"""State datagram, server to client, every tick: 1377 bytes. SI units; message_id is the robot time in ms."""

COMMAND = np.dtype(
    [
        ("message_id", "<u8"),
        ("q_c", "<f8", (7,)),
        ("dq_c", "<f8", (7,)),
        ("O_T_EE_c", "<f8", (16,)),
        ("O_dP_EE_c", "<f8", (6,)),
        ("elbow_c", "<f8", (2,)),
        ("valid_elbow", "u1"),
        ("motion_generation_finished", "u1"),
        ("tau_J_d", "<f8", (7,)),
        ("torque_command_finished", "u1"),
    ]
)
"""Command datagram, client to server: 371 bytes. `message_id` names the state that it answers."""


class ConnectStatus(IntEnum):
    """Answer to Connect."""

    SUCCESS = 0
    INCOMPATIBLE_VERSION = 1


class SetterStatus(IntEnum):
    """Answer to the requests 3 to 9."""

    SUCCESS = 0
    NOT_POSSIBLE = 1
    INVALID_ARGUMENT = 2


class StopStatus(IntEnum):
    """Answer to StopMove and GetRobotModel."""

    SUCCESS = 0
    NOT_POSSIBLE = 1


class MoveStatus(IntEnum):
    """Answers to Move: the first when it starts, the second when it has ended."""

    SUCCESS = 0
    MOTION_STARTED = 1
    PREEMPTED = 2
    NOT_POSSIBLE = 5
    START_AT_SINGULAR_POSE = 6
    INVALID_ARGUMENT = 7
    REFLEX_ABORTED = 8
    EMERGENCY_ABORTED = 9


class RecoveryStatus(IntEnum):
    """Answer to AutomaticErrorRecovery."""

    SUCCESS = 0
    NOT_POSSIBLE = 1
    EMERGENCY_ABORTED = 5


class RobotMode(IntEnum):
    """What the arm is doing, as the state says."""

    IDLE = 1
    MOVE = 2
    REFLEX = 4
    USER_STOPPED = 5
    AUTOMATIC_RECOVERY = 6


class MoveController(IntEnum):
    """Controller asked for by Move; the state says the same number, or IDLE."""

    JOINT_IMPEDANCE = 0
    CARTESIAN_IMPEDANCE = 1
    EXTERNAL = 2
    IDLE = 3


class MoveGenerator(IntEnum):
    """Motion generator asked for by Move; the state says this number + 1, or STATE_GENERATOR_IDLE."""

    JOINT_POSITION = 0
    JOINT_VELOCITY = 1
    CARTESIAN_POSE = 2
    CARTESIAN_VELOCITY = 3
    NONE = 4


STATE_GENERATOR_IDLE = 0

COMMAND_FIELDS = {
    MoveGenerator.JOINT_POSITION: "q_c",
    MoveGenerator.JOINT_VELOCITY: "dq_c",
    MoveGenerator.CARTESIAN_POSE: "O_T_EE_c",
    MoveGenerator.CARTESIAN_VELOCITY: "O_dP_EE_c",
    MoveGenerator.NONE: "tau_J_d",
}
"""Field of COMMAND that a motion of each generator reads."""


class Error(IntEnum):
    """Flags of `errors` and `reflex_reason` that the emulated arm raises (index into the 41 bytes)."""

    MEASURED_POSITION_LIMITS = 0
    MEASURED_VELOCITY = 3
    JOINT_REFLEX = 6
    CARTESIAN_REFLEX = 7
    START_POSE_INVALID = 11
    JOINT_POSITION_LIMITS = 12
    JOINT_VELOCITY_LIMITS = 13
    JOINT_VELOCITY_DISCONTINUITY = 14
    JOINT_ACCELERATION_DISCONTINUITY = 15
    CARTESIAN_START_POSE_INVALID = 16
    ELBOW_LIMITS = 17
    CARTESIAN_VELOCITY_LIMITS = 18
    CARTESIAN_VELOCITY_DISCONTINUITY = 19
    CARTESIAN_ACCELERATION_DISCONTINUITY = 20
    ELBOW_SIGN_INCONSISTENT = 21
    START_ELBOW_INVALID = 22
    START_ELBOW_SIGN_INCONSISTENT = 24
    COMMUNICATION_CONSTRAINTS = 25
    POWER_LIMIT = 26
    CARTESIAN_JOINT_POSITION_LIMITS = 27
    CARTESIAN_JOINT_VELOCITY_LIMITS = 28
    CARTESIAN_JOINT_VELOCITY_DISCONTINUITY = 29
    CARTESIAN_JOINT_ACCELERATION_DISCONTINUITY = 30
    INVALID_FRAME = 31
    TORQUE_DISCONTINUITY = 32
    TORQUE_RANGE = 34


def request_size(command: Command) -> int:
    """Return the bytes of a whole request, header included."""
    return HEADER.itemsize + PAYLOADS[command].itemsize


def response(command: int, command_id: int, payload: bytes) -> bytes:
    """Return a whole response: header, then `payload`, which starts with the status byte."""
    header = np.array((command, command_id, HEADER.itemsize + len(payload)), HEADER)
    return header.tobytes() + payload
