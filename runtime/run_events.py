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
