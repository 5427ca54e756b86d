"""A RealSense camera, or a recording of one, through the vendor's library."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from poco.clock import monotonic_ns
from poco.errors import CameraError
from poco.settings import PLAYBACK, CameraSettings

from .camera_clock import DeviceClock
from .cameras import Exposure, mark_of

if TYPE_CHECKING:
    import pyrealsense2 as rs

COLOUR_EXPOSURE_UNIT_US = 100
"""A colour sensor counts its exposure in these; one that also measures depth (D405) counts in microseconds."""


class RealSenseCamera:
    """The colour stream of one camera by its serial number, exposure and white balance fixed; its process alone uses it.

    With `playback://SERIAL@FILE.db3` the same pipeline plays a recording, at the pace at which it was made.
    """

    def __init__(self, camera: CameraSettings) -> None:
        """Open it; raises CameraError with the remedy if library or camera is missing or takes none of the settings."""
        self._camera = camera
        self._rs = library(camera.name)
        self._pipeline = self._rs.pipeline()
        self._clock = DeviceClock()
        self._locks = 1
        self._frame: rs.video_frame | None = None
        config = self._config()
        config.enable_stream(self._rs.stream.color, camera.width, camera.height, self._rs.format.rgb8, camera.rate_hz)
        try:
            self._device = self._pipeline.start(config).get_device()
            self._serial = self._device.get_info(self._rs.camera_info.serial_number)
            self._facts = self._open()
        except RuntimeError as error:
            raise CameraError(
                f"camera {camera.name} ({camera.source}) does not give {camera.width} x {camera.height} at {camera.rate_hz} Hz "
                f"({error}): choose what realsense-viewer offers for it, or end what else uses it"
            ) from error

    @property
    def facts(self) -> dict[str, str]:
        """Device, serial number, firmware, and what exposure and white balance were set to."""
        return self._facts

    def read(self, timeout_s: float) -> Exposure | None:
        """Wait for the next frame; None if there was none in `timeout_s`. Raises CameraError when the device is gone."""
        try:
            arrived, frames = self._pipeline.try_wait_for_frames(round(1000 * timeout_s))
            arrival_ns = monotonic_ns()
            if not arrived or not (frame := frames.get_color_frame()):
                return None
            self._frame = frame
            pixels = np.asanyarray(frame.get_data())
        except RuntimeError as error:
            raise CameraError(f"camera {self._camera.name} is gone ({error}): look at its cable") from error
        t_ns = self._clock.map(_middle_ns(self._rs, frame), arrival_ns)
        return Exposure(frame.get_frame_number(), t_ns, -1, self._serial, mark_of(pixels), pixels)

    def remarks(self) -> list[str]:
        """Return a sentence where the camera's clock began anew and was locked on again."""
        before, self._locks = self._locks, max(self._locks, self._clock.locks)
        if self._locks == before:
            return []
        return [f"the clock of camera {self._camera.name} began anew and was locked on again"]

    def close(self) -> None:
        """Stop the stream."""
        self._frame = None
        try:
            self._pipeline.stop()
        except RuntimeError:
            return  # the device went first

    def _config(self) -> rs.config:
        config = self._rs.config()
        if self._camera.source.startswith(PLAYBACK):
            file = self._camera.source.partition("@")[2]
            if not Path(file).is_file():
                raise CameraError(
                    f"camera {self._camera.name}: there is no recording {file}: give playback://SERIAL@FILE.db3"
                )
            config.enable_device_from_file(file, repeat_playback=False)
            return config
        known = [device.get_info(self._rs.camera_info.serial_number) for device in self._rs.context().query_devices()]
        if self._camera.serial not in known:
            raise CameraError(
                f"camera {self._camera.name}: no RealSense with the serial number {self._camera.serial}, connected are "
                f"{', '.join(known) or 'none'}: look at its cable or correct its source"
            )
        config.enable_device(self._camera.serial)
        return config

    def _open(self) -> dict[str, str]:
        """Fix what may be fixed and return what was found; raises CameraError for another device than the one named."""
        if self._serial != self._camera.serial:
            raise CameraError(
                f"camera {self._camera.name} has the serial number {self._serial}, {self._camera.serial} was asked for: correct "
                "its source"
            )
        info = self._rs.camera_info
        facts = {
            "device": self._device.get_info(info.name),
            "serial": self._serial,
            "size": f"{self._camera.width}x{self._camera.height}",
            "rate_hz": str(self._camera.rate_hz),
        }
        if self._device.supports(info.firmware_version):
            facts["firmware"] = self._device.get_info(info.firmware_version)
        if self._device.is_playback():
            self._device.as_playback().set_real_time(True)
            return facts
        return facts | fix(self._rs, self._device.first_color_sensor(), self._camera)


def library(name: str) -> Any:
    """Return the vendor's library; raises CameraError naming the packages if it is missing. Camera process only."""
    try:
        import pyrealsense2
    except ImportError as error:
        raise CameraError(
            f"camera {name} is a RealSense and pyrealsense2 cannot be loaded ({error}): pip install 'poco-robot[realsense]', "
            "apt-get install libusb-1.0-0"
        ) from error
    return pyrealsense2


def fix(rs: Any, sensor: rs.sensor, camera: CameraSettings) -> dict[str, str]:
    """Fix exposure and white balance of `sensor` as `camera` says, and return them as the sensor reports them.

    Automatic exposure, automatic white balance and what lowers the rate in the dark are switched off where the sensor has them, and
    time stamps are left in the device's own clock. Raises CameraError for a value that is outside the sensor's range.
    """
    option = rs.option
    for automatic in (
        option.enable_auto_exposure,
        option.enable_auto_white_balance,
        option.auto_exposure_priority,
        option.global_time_enabled,
    ):
        if sensor.supports(automatic):
            sensor.set_option(automatic, 0.0)
    unit_us = 1 if sensor.is_depth_sensor() else COLOUR_EXPOSURE_UNIT_US
    assert camera.exposure_us is not None
    assert camera.white_balance_k is not None
    facts = {}
    for name, which, wanted, unit in (
        ("exposure_us", option.exposure, camera.exposure_us, unit_us),
        ("white_balance_k", option.white_balance, camera.white_balance_k, 1),
    ):
        if not sensor.supports(which):
            facts[name] = "not to be set"
            continue
        span = sensor.get_option_range(which)
        value = span.min + round((wanted / unit - span.min) / span.step) * span.step
        if not span.min <= value <= span.max:
            raise CameraError(
                f"{name} of camera {camera.name} is {wanted}, its sensor takes {span.min * unit:g} to {span.max * unit:g}: choose "
                "a value in between"
            )
        sensor.set_option(which, value)
        facts[name] = f"{sensor.get_option(which) * unit:g}"
    return facts


def _middle_ns(rs: Any, frame: rs.frame) -> int:
    """Return the device time of the middle of the exposure (ns).

    The device says it itself where the system passes frame metadata on; else the time stamp less half an exposure stands in for it.
    """
    metadata = rs.frame_metadata_value
    if frame.supports_frame_metadata(metadata.sensor_timestamp):
        return int(frame.get_frame_metadata(metadata.sensor_timestamp)) * 1000
    stamp_ns: int = round(1e6 * frame.get_timestamp())
    if frame.supports_frame_metadata(metadata.actual_exposure):
        stamp_ns -= int(frame.get_frame_metadata(metadata.actual_exposure)) * 500
    return stamp_ns
