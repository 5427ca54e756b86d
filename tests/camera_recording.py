"""Recordings of a RealSense camera that never was: the vendor's software device, recorded by the vendor's recorder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

SERIAL = "815412070341"
PERIOD_US = 33_333
FIRST_US = 5_000_000


def software_sensor(rs: Any, colour: bool = True) -> tuple[Any, Any]:
    """A software device with one sensor; the sensor lives as long as the device."""
    device = rs.software_device()
    device.register_info(rs.camera_info.serial_number, SERIAL)
    device.register_info(rs.camera_info.name, "Intel RealSense D435")
    return device, device.add_sensor("RGB Camera" if colour else "Stereo Module")


def record(rs: Any, file: Path, frames: Sequence[npt.NDArray[np.uint8]]) -> None:
    """Record `frames` [H, W, 3] at 30 Hz, the middle of each exposure in its metadata; a player keeps the pace of this call."""
    height, width, _ = frames[0].shape
    device, sensor = software_sensor(rs)
    stream, lens = rs.video_stream(), rs.intrinsics()
    lens.width, lens.height, lens.ppx, lens.ppy, lens.fx, lens.fy = width, height, width / 2, height / 2, 60.0, 60.0
    lens.model, lens.coeffs = rs.distortion.none, [0.0] * 5
    stream.type, stream.index, stream.uid, stream.fps = rs.stream.color, 0, 1, 30
    stream.width, stream.height, stream.bpp, stream.fmt, stream.intrinsics = width, height, 3, rs.format.rgb8, lens
    profile = sensor.add_video_stream(stream)
    recorder = rs.recorder(str(file), device)
    recorded, queue = recorder.query_sensors()[0], rs.frame_queue(len(frames))
    recorded.open(profile)
    recorded.start(queue)
    began_s = time.monotonic()
    for number, pixels in enumerate(frames):
        middle_us = FIRST_US + number * PERIOD_US
        frame = rs.software_video_frame()
        frame.stride, frame.bpp, frame.pixels = 3 * width, 3, np.ascontiguousarray(pixels)
        frame.timestamp, frame.domain = (middle_us + 12_000) / 1000.0, rs.timestamp_domain.hardware_clock
        frame.frame_number, frame.profile = number + 1, profile.as_video_stream_profile()
        sensor.set_metadata(rs.frame_metadata_value.sensor_timestamp, middle_us)
        due_s = began_s + number * PERIOD_US * 1e-6
        time.sleep(max(0.0, due_s - time.monotonic()))
        sensor.on_video_frame(frame)
    time.sleep(0.2)
    recorded.stop()
    recorded.close()
