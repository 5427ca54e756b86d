"""The RealSense source on the vendor's own library: recordings through the real pipeline, options on the real sensor object."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from camera_recording import PERIOD_US, SERIAL, record, software_sensor
from poco.clock import monotonic_ns
from poco.errors import CameraError
from poco.hw.cameras import Exposure, open_camera
from poco.images import as_seen, window_of
from poco.settings import CameraSettings

try:
    import pyrealsense2 as rs
except ImportError as error:
    pytest.skip(f"pyrealsense2 cannot be loaded ({error}): apt-get install libusb-1.0-0", allow_module_level=True)

from poco.hw.realsense import fix

HEIGHT, WIDTH, FRAMES, SIDE = 48, 64, 20, 32


def camera(file: Path, serial: str = SERIAL) -> CameraSettings:
    return CameraSettings(
        name="near",
        source=f"playback://{serial}@{file}",
        width=WIDTH,
        height=HEIGHT,
        rate_hz=30,
        crop=None,
        exposure_us=8000,
        white_balance_k=4500,
        age_max_s=0.1,
        repeats_max=5,
    )


@pytest.fixture(scope="module")
def pictures() -> list[npt.NDArray[np.uint8]]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8) for _ in range(FRAMES)]


@pytest.fixture(scope="module")
def recording(pictures: list[npt.NDArray[np.uint8]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("recording") / "near.db3"
    record(rs, file, pictures)
    return file


def seen(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """What the policy gets of a frame."""
    out = np.zeros((3, SIDE, SIDE), np.uint8)
    as_seen(np.ascontiguousarray(pixels), *window_of(None, HEIGHT, WIDTH, SIDE, "near"), out)
    return out


def test_a_recording_gives_the_very_tensors(recording: Path, pictures: list[npt.NDArray[np.uint8]]) -> None:
    """Frames come in order with their numbers and the times they were taken at, and what the policy gets is right to the bit.

    A reader that is slow is given the newest.
    """
    wanted = [seen(pixels) for pixels in pictures]
    source = open_camera(camera(recording), "none")
    exposures: list[Exposure] = []
    while (exposure := source.read(1.0)) is not None:
        assert (exposure.serial, exposure.tick) == (SERIAL, -1)
        np.testing.assert_array_equal(seen(exposure.pixels), wanted[exposure.number - 1])
        exposures.append(exposure)
    now_ns = monotonic_ns()
    numbers, stamps = (np.array([getattr(exposure, name) for exposure in exposures]) for name in ("number", "t_ns"))
    assert len(exposures) >= FRAMES / 2
    assert numbers[-1] == FRAMES
    assert np.all(np.diff(numbers) >= 1)
    assert np.all(stamps < now_ns)
    taken = stamps - PERIOD_US * 1000 * numbers
    assert np.ptp(taken[len(taken) // 2 :]) < 20e6
    assert len({exposure.mark for exposure in exposures}) == len(exposures)
    assert source.facts["serial"] == SERIAL
    source.close()


def test_the_wrong_camera_is_refused(recording: Path, tmp_path: Path) -> None:
    """Another serial number than the one asked for, a missing file, a size the camera does not have, no camera at all."""

    def refused(settings: CameraSettings, words: str) -> None:
        with pytest.raises(CameraError, match=words):
            open_camera(settings, "none")

    refused(camera(recording, "123"), f"has the serial number {SERIAL}, 123 was asked for")
    refused(camera(tmp_path / "none.db3"), "there is no recording")
    refused(msgspec.structs.replace(camera(recording), width=128), "does not give 128 x 48")
    refused(
        msgspec.structs.replace(camera(recording), source="realsense://123"), "no RealSense with the serial number 123"
    )


def test_exposure_and_white_balance_are_fixed() -> None:
    """What is automatic is off, the values are those asked for in the sensor's own units, and come back as the facts."""
    _device, sensor = software_sensor(rs)
    option = rs.option

    def add(which: rs.option, low: float, high: float, step: float, default: float) -> None:
        span = rs.option_range()
        span.min, span.max, span.step, span.default = low, high, step, default
        sensor.add_option(which, span, True)

    for automatic in (option.enable_auto_exposure, option.enable_auto_white_balance, option.global_time_enabled):
        add(automatic, 0.0, 1.0, 1.0, 1.0)
        sensor.set_option(automatic, 1.0)
    add(option.exposure, 1.0, 10_000.0, 1.0, 156.0)
    add(option.white_balance, 2800.0, 6500.0, 10.0, 4600.0)
    settings = camera(Path("near.db3"))
    facts = fix(rs, sensor, settings)
    assert facts == {"exposure_us": "8000", "white_balance_k": "4500"}
    assert sensor.get_option(option.exposure) == 80.0
    assert sensor.get_option(option.white_balance) == 4500.0
    for automatic in (option.enable_auto_exposure, option.enable_auto_white_balance, option.global_time_enabled):
        assert sensor.get_option(automatic) == 0.0
    with pytest.raises(CameraError, match="white_balance_k of camera near is 9000, its sensor takes 2800 to 6500"):
        fix(rs, sensor, msgspec.structs.replace(settings, white_balance_k=9000))
    bare = software_sensor(rs)
    assert fix(rs, bare[1], settings) == {"exposure_us": "not to be set", "white_balance_k": "not to be set"}
