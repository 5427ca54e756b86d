"""What may happen in a run, as it is recorded: the kind of every event, and those of cameras. The others are in `run_folder`."""

from __future__ import annotations

import msgspec


class RunEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """Something that happened at robot tick `tick`, 0 where nobody knew it."""

    tick: int


class CameraOpened(RunEvent, frozen=True, kw_only=True, tag="camera_open"):
    """The process of `camera` opened it; `facts` say which device it is and what was fixed."""

    camera: str
    facts: dict[str, str]


class CameraCounted(RunEvent, frozen=True, kw_only=True, tag="camera_count"):
    """So many frames of `camera` came since its process began, so many were `lost` before, so many `repeated` the one before."""

    camera: str
    frames: int
    lost: int
    repeated: int


class CameraStale(RunEvent, frozen=True, kw_only=True, tag="camera_stale"):
    """What `camera` shows may not be acted on from now on, for `reason`: no new chunk, the arm brakes and holds."""

    camera: str
    reason: str


class CameraFresh(RunEvent, frozen=True, kw_only=True, tag="camera_fresh"):
    """What `camera` shows may be acted on again."""

    camera: str


class InferenceOpened(RunEvent, frozen=True, kw_only=True, tag="inference_open"):
    """The policy process computes with the backend that `facts` name; `remark` says so where it is not the one asked for."""

    facts: dict[str, str]
    remark: str


class WeightsCompared(RunEvent, frozen=True, kw_only=True, tag="weights_compared"):
    """An inference took `inputs_us` with weights as inputs, `compiled_us` with them compiled in (us, p50).

    In `faster` of `pairs` the latter was faster by the margin, so `chosen` are to serve on the computer that `facts` name.
    """

    chosen: str
    inputs_us: float
    compiled_us: float
    faster: int
    pairs: int
    facts: dict[str, str]


class WeightsMoved(RunEvent, frozen=True, kw_only=True, tag="weights"):
    """The `weights` of the active `generation`, as inputs or compiled in, went from `before` to `after` of the swap table."""

    generation: int
    weights: str
    before: str
    after: str
    reason: str


class GripperReady(RunEvent, frozen=True, kw_only=True, tag="gripper_ready"):
    """The gripper answers; `facts` say what it is and what homing found."""

    facts: dict[str, str]


class GripperTold(RunEvent, frozen=True, kw_only=True, tag="gripper_told"):
    """The gripper was told to `order` (grasp, move, stop), for a move with the width `width_m`."""

    order: str
    width_m: float


class GripperDone(RunEvent, frozen=True, kw_only=True, tag="gripper_done"):
    """`order` ended after `took_s` with `outcome` (done, missed, stopped, failed), the fingers `width_m` apart; `text` says why."""

    order: str
    outcome: str
    width_m: float
    took_s: float
    text: str


class GripperStale(RunEvent, frozen=True, kw_only=True, tag="gripper_stale"):
    """Nothing new is heard of the gripper, for `reason`: no new chunk, the arm brakes and holds."""

    reason: str


class GripperFresh(RunEvent, frozen=True, kw_only=True, tag="gripper_fresh"):
    """The gripper is heard of again."""
