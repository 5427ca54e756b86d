"""Cameras as the camera process sees them: exposures one after the other, whatever takes them."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from poco.errors import CameraError
from poco.settings import RENDERED, CameraSettings

from .task_driver import EMULATOR

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Exposure:
    """One picture a camera took.

    `number` counts the frames of the device, `t_ns` is CLOCK_MONOTONIC in the middle of the exposure, `tick` the robot tick of an
    emulated one, -1 for a real one, `serial` what took it. Two exposures with the same `mark` are one and the same: a real sensor's
    noise never repeats. `pixels` [H, W, 3], red green blue, are valid until the next exposure.
    """

    number: int
    t_ns: int
    tick: int
    serial: str
    mark: int
    pixels: Pixels


class CameraSource(Protocol):
    """A camera that has been opened; its process alone uses it, from one thread."""

    @property
    def facts(self) -> dict[str, str]:
        """What device it is and what was fixed, for the record."""

    def read(self, timeout_s: float) -> Exposure | None:
        """Wait for the next exposure; None if there was none in `timeout_s`. Raises CameraError when the camera is gone."""

    def remarks(self) -> list[str]:
        """Return what has happened since the last call that a person should know; empty as a rule."""

    def close(self) -> None:
        """Give the device back."""


def open_camera(camera: CameraSettings, sensors: str) -> CameraSource:
    """Open what `camera` names; `sensors` is the address of the task's sensors, whose emulator renders a `rendered` one.

    Raises CameraError, SettingsError or AddressError with the remedy. The camera's process alone calls it.
    """
    if camera.source == RENDERED:
        if not sensors.startswith(EMULATOR):
            raise CameraError(
                f"camera {camera.name} is rendered, but task.sensors is {sensors}, no emulated arm's: name a camera that is there, "
                "such as realsense://SERIAL"
            )
        from .emulator.rendered_camera import RenderedCamera

        return RenderedCamera(camera, sensors.removeprefix(EMULATOR))
    from .realsense import RealSenseCamera

    return RealSenseCamera(camera)


def mark_of(pixels: Pixels) -> int:
    """Return what tells one picture from another: a checksum of every one of its `pixels`."""
    return zlib.crc32(np.ascontiguousarray(pixels).data)
