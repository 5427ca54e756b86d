import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Empty(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ControllerChunk(_message.Message):
    __slots__ = ("torchscript_binary_chunk",)
    TORCHSCRIPT_BINARY_CHUNK_FIELD_NUMBER: _ClassVar[int]
    torchscript_binary_chunk: bytes
    def __init__(self, torchscript_binary_chunk: _Optional[bytes] = ...) -> None: ...

class LogInterval(_message.Message):
    __slots__ = ("start", "end")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    start: int
    end: int
    def __init__(self, start: _Optional[int] = ..., end: _Optional[int] = ...) -> None: ...

class RobotState(_message.Message):
    __slots__ = ("timestamp", "joint_positions", "joint_velocities", "joint_torques_computed", "prev_joint_torques_computed", "prev_joint_torques_computed_safened", "motor_torques_measured", "motor_torques_external", "motor_torques_desired", "prev_controller_latency_ms", "prev_command_successful", "error_code")
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    JOINT_POSITIONS_FIELD_NUMBER: _ClassVar[int]
    JOINT_VELOCITIES_FIELD_NUMBER: _ClassVar[int]
    JOINT_TORQUES_COMPUTED_FIELD_NUMBER: _ClassVar[int]
    PREV_JOINT_TORQUES_COMPUTED_FIELD_NUMBER: _ClassVar[int]
    PREV_JOINT_TORQUES_COMPUTED_SAFENED_FIELD_NUMBER: _ClassVar[int]
    MOTOR_TORQUES_MEASURED_FIELD_NUMBER: _ClassVar[int]
    MOTOR_TORQUES_EXTERNAL_FIELD_NUMBER: _ClassVar[int]
    MOTOR_TORQUES_DESIRED_FIELD_NUMBER: _ClassVar[int]
    PREV_CONTROLLER_LATENCY_MS_FIELD_NUMBER: _ClassVar[int]
    PREV_COMMAND_SUCCESSFUL_FIELD_NUMBER: _ClassVar[int]
    ERROR_CODE_FIELD_NUMBER: _ClassVar[int]
    timestamp: _timestamp_pb2.Timestamp
    joint_positions: _containers.RepeatedScalarFieldContainer[float]
    joint_velocities: _containers.RepeatedScalarFieldContainer[float]
    joint_torques_computed: _containers.RepeatedScalarFieldContainer[float]
    prev_joint_torques_computed: _containers.RepeatedScalarFieldContainer[float]
    prev_joint_torques_computed_safened: _containers.RepeatedScalarFieldContainer[float]
    motor_torques_measured: _containers.RepeatedScalarFieldContainer[float]
    motor_torques_external: _containers.RepeatedScalarFieldContainer[float]
    motor_torques_desired: _containers.RepeatedScalarFieldContainer[float]
    prev_controller_latency_ms: float
    prev_command_successful: bool
    error_code: int
    def __init__(self, timestamp: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., joint_positions: _Optional[_Iterable[float]] = ..., joint_velocities: _Optional[_Iterable[float]] = ..., joint_torques_computed: _Optional[_Iterable[float]] = ..., prev_joint_torques_computed: _Optional[_Iterable[float]] = ..., prev_joint_torques_computed_safened: _Optional[_Iterable[float]] = ..., motor_torques_measured: _Optional[_Iterable[float]] = ..., motor_torques_external: _Optional[_Iterable[float]] = ..., motor_torques_desired: _Optional[_Iterable[float]] = ..., prev_controller_latency_ms: _Optional[float] = ..., prev_command_successful: _Optional[bool] = ..., error_code: _Optional[int] = ...) -> None: ...

class TorqueCommand(_message.Message):
    __slots__ = ("timestamp", "joint_torques")
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    JOINT_TORQUES_FIELD_NUMBER: _ClassVar[int]
    timestamp: _timestamp_pb2.Timestamp
    joint_torques: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, timestamp: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., joint_torques: _Optional[_Iterable[float]] = ...) -> None: ...

class RobotClientMetadata(_message.Message):
    __slots__ = ("urdf_file", "hz", "default_Kq", "default_Kqd", "default_controller", "dof", "ee_link_name", "ee_link_idx", "rest_pose", "polymetis_version", "default_Kx", "default_Kxd")
    URDF_FILE_FIELD_NUMBER: _ClassVar[int]
    HZ_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_KQ_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_KQD_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_CONTROLLER_FIELD_NUMBER: _ClassVar[int]
    DOF_FIELD_NUMBER: _ClassVar[int]
    EE_LINK_NAME_FIELD_NUMBER: _ClassVar[int]
    EE_LINK_IDX_FIELD_NUMBER: _ClassVar[int]
    REST_POSE_FIELD_NUMBER: _ClassVar[int]
    POLYMETIS_VERSION_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_KX_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_KXD_FIELD_NUMBER: _ClassVar[int]
    urdf_file: str
    hz: int
    default_Kq: _containers.RepeatedScalarFieldContainer[float]
    default_Kqd: _containers.RepeatedScalarFieldContainer[float]
    default_controller: bytes
    dof: int
    ee_link_name: str
    ee_link_idx: int
    rest_pose: _containers.RepeatedScalarFieldContainer[float]
    polymetis_version: str
    default_Kx: _containers.RepeatedScalarFieldContainer[float]
    default_Kxd: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, urdf_file: _Optional[str] = ..., hz: _Optional[int] = ..., default_Kq: _Optional[_Iterable[float]] = ..., default_Kqd: _Optional[_Iterable[float]] = ..., default_controller: _Optional[bytes] = ..., dof: _Optional[int] = ..., ee_link_name: _Optional[str] = ..., ee_link_idx: _Optional[int] = ..., rest_pose: _Optional[_Iterable[float]] = ..., polymetis_version: _Optional[str] = ..., default_Kx: _Optional[_Iterable[float]] = ..., default_Kxd: _Optional[_Iterable[float]] = ...) -> None: ...

class GripperMetadata(_message.Message):
    __slots__ = ("polymetis_version", "hz", "max_width")
    POLYMETIS_VERSION_FIELD_NUMBER: _ClassVar[int]
    HZ_FIELD_NUMBER: _ClassVar[int]
    MAX_WIDTH_FIELD_NUMBER: _ClassVar[int]
    polymetis_version: str
    hz: int
    max_width: float
    def __init__(self, polymetis_version: _Optional[str] = ..., hz: _Optional[int] = ..., max_width: _Optional[float] = ...) -> None: ...

class GripperState(_message.Message):
    __slots__ = ("timestamp", "width", "is_grasped", "is_moving", "error_code", "prev_command_successful")
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    IS_GRASPED_FIELD_NUMBER: _ClassVar[int]
    IS_MOVING_FIELD_NUMBER: _ClassVar[int]
    ERROR_CODE_FIELD_NUMBER: _ClassVar[int]
    PREV_COMMAND_SUCCESSFUL_FIELD_NUMBER: _ClassVar[int]
    timestamp: _timestamp_pb2.Timestamp
    width: float
    is_grasped: bool
    is_moving: bool
    error_code: int
    prev_command_successful: bool
    def __init__(self, timestamp: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., width: _Optional[float] = ..., is_grasped: _Optional[bool] = ..., is_moving: _Optional[bool] = ..., error_code: _Optional[int] = ..., prev_command_successful: _Optional[bool] = ...) -> None: ...

class GripperCommand(_message.Message):
    __slots__ = ("timestamp", "width", "speed", "force", "grasp", "epsilon_inner", "epsilon_outer")
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    SPEED_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    GRASP_FIELD_NUMBER: _ClassVar[int]
    EPSILON_INNER_FIELD_NUMBER: _ClassVar[int]
    EPSILON_OUTER_FIELD_NUMBER: _ClassVar[int]
    timestamp: _timestamp_pb2.Timestamp
    width: float
    speed: float
    force: float
    grasp: bool
    epsilon_inner: float
    epsilon_outer: float
    def __init__(self, timestamp: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., width: _Optional[float] = ..., speed: _Optional[float] = ..., force: _Optional[float] = ..., grasp: _Optional[bool] = ..., epsilon_inner: _Optional[float] = ..., epsilon_outer: _Optional[float] = ...) -> None: ...
