"""The process of one camera: its frames reach the policy's eyes, from a recording as from the scene, and it opens it again."""

from __future__ import annotations

import ctypes.util
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from poco.artifact import read_artifact
from poco.errors import CameraError
from poco.frames import Frame, FrameRing, ring_name
from poco.records import ROBOT_STATE, TaskSignal
from poco.runtime.cli import parse, prepare
from poco.runtime.encoder import Encoder
from poco.runtime.eyes import Eyes, Glance, cameras_of
from poco.runtime.run_events import CameraOpened
from poco.runtime.run_flags import options_of
from poco.runtime.run_folder import RunFolder
from poco.runtime.run_options import RunOptions
from poco.settings import CameraSettings
from programs import PATIENCE_S, ROOT, StartProgram

try:
    import pyrealsense2 as rs

    from camera_recording import SERIAL, record
except ImportError as error:
    pytest.skip(f"pyrealsense2 cannot be loaded ({error}): apt-get install libusb-1.0-0", allow_module_level=True)

SEEING = read_artifact(ROOT / "artifacts" / "peg_in_hole_seen")
SIGNAL = TaskSignal(
    tick=0, target_position=(0.5, 0.0, 0.1), target_yaw=0.0, noise_m=0.0, noise_rad=0.0, outcome="running"
)
FRAMES = 12


class Cameras:
    """The camera processes of a run that has nothing else."""

    def __init__(self, folder: Path, host: str, change: Callable[[CameraSettings], CameraSettings]) -> None:
        options = options_of(*parse(["--robot", "sim", "--robot.host", host, "--policy", str(SEEING.path)]))
        cameras = tuple(change(camera) for camera in options.settings.cameras)
        settings = msgspec.structs.replace(options.settings, cameras=cameras)
        name = f"camera-process-{os.getpid()}-{folder.name}"
        self.options: RunOptions = msgspec.structs.replace(
            options, settings=settings, folder=str(folder), run_name=name
        )
        self.folder = prepare(self.options, SEEING)
        self.cameras = cameras_of(SEEING.specification.cameras, cameras)
        self.rings = [FrameRing(ring_name(name, camera.name), (camera.height, camera.width)) for camera in cameras]
        words = [sys.executable, "-m", "poco.runtime.camera", "--options", str(folder / "options.json"), "--camera"]
        self.processes = [
            subprocess.Popen([*words, camera.name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for camera in cameras
        ]

    def frame(self, number: int, wanted: Callable[[Frame], bool] = lambda frame: True) -> Frame:
        """Wait for a frame of camera `number`."""
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            frame = self.rings[number].newest()
            if frame is not None and wanted(frame):
                return frame
            assert self.processes[number].poll() is None, self.processes[number].communicate()[1]
            assert time.monotonic() < deadline_s
            time.sleep(0.002)

    def glance(self) -> tuple[Glance, npt.NDArray[np.float32]]:
        """What the policy would see now, and what its encoder makes of it."""
        eyes = Eyes(Encoder(SEEING), self.cameras, self.options.run_name, False, lambda tick, camera, trouble: None)
        state = np.zeros((), ROBOT_STATE)
        state["q"] = state["q_c"] = SEEING.specification.rest_q
        observation = eyes.look(state, SIGNAL, SEEING.specification)
        return eyes.glance, observation

    def end(self) -> list[str]:
        """End the processes and return what they printed."""
        for process in self.processes:
            process.terminate()
        for ring in self.rings:
            ring.unlink()
        return [process.communicate()[0] for process in self.processes]


@pytest.fixture
def cameras() -> Iterator[Callable[..., Cameras]]:
    """Start camera processes; they are ended after the test."""
    running: list[Cameras] = []

    def start(*arguments: object) -> Cameras:
        running.append(Cameras(*arguments))  # type: ignore[arg-type]
        return running[-1]

    yield start
    for item in running:
        item.end()


@pytest.mark.skipif(
    ctypes.util.find_library("EGL") is None and ctypes.util.find_library("OSMesa") is None,
    reason="neither libegl1 nor libosmesa6 is installed",
)
def test_recording_and_scene_give_the_same_tensor(
    start: StartProgram, cameras: Callable[..., Cameras], tmp_path: Path
) -> None:
    """Pictures rendered in one process, recorded and played through the vendor's pipeline in another, are equal to the bit."""
    host = "127.0.2.58"
    program = start("poco-emulator", "--host", host)
    program.until(lambda: "ready" in program.out)
    rendered = cameras(tmp_path / "rendered", host, lambda camera: camera)
    pictures = [rendered.frame(number).pixels.copy() for number in range(2)]
    glance, observation = rendered.glance()
    assert not np.array_equal(pictures[0], pictures[1])
    rendered.end()
    for camera, pixels in zip(rendered.cameras, pictures, strict=True):
        record(rs, tmp_path / f"{camera.name}.db3", [pixels] * FRAMES)

    def from_recording(camera: CameraSettings) -> CameraSettings:
        return msgspec.structs.replace(camera, source=f"playback://{SERIAL}@{tmp_path}/{camera.name}.db3")

    played = cameras(tmp_path / "played", host, from_recording)
    for number in range(2):
        assert played.frame(number).head["serial"].item().decode() == SERIAL
    again, same = played.glance()
    np.testing.assert_array_equal(again.images, glance.images)
    np.testing.assert_array_equal(same, observation)
    assert again.images.any()


def test_it_opens_again_what_was_lost(cameras: Callable[..., Cameras], tmp_path: Path) -> None:
    """When frames end it says so, opens the camera again, and frames go on in the same place; both openings are recorded."""
    generator = np.random.default_rng(0)
    pictures = [generator.integers(0, 256, (64, 64, 3), np.uint8) for _ in range(FRAMES)]
    record(rs, tmp_path / "near.db3", pictures)
    source = f"playback://{SERIAL}@{tmp_path}/near.db3"
    run = cameras(tmp_path / "run", "127.0.2.59", lambda camera: msgspec.structs.replace(camera, source=source))
    run.frame(0, lambda frame: int(frame.head["number"]) == FRAMES)
    frame = run.frame(0, lambda frame: int(frame.head["number"]) < FRAMES)
    np.testing.assert_array_equal(frame.pixels, pictures[int(frame.head["number"]) - 1])
    said = run.end()[0]
    assert re.search(r"ready\nnote camera near gave no frame for 2 s.*it is opened again\n", said)
    opened = [event for event in RunFolder.open(run.folder.path).events() if isinstance(event, CameraOpened)]
    assert len([event for event in opened if event.camera == "near"]) >= 2
    assert {event.facts["serial"] for event in opened} == {SERIAL}


def test_a_camera_that_is_not_there_ends_with_a_sentence(cameras: Callable[..., Cameras], tmp_path: Path) -> None:
    """The first opening has to succeed: the process leaves with the code of cameras and says what is connected."""
    change = {"source": "realsense://123456", "exposure_us": 8000, "white_balance_k": 4500}
    run = cameras(tmp_path / "run", "127.0.2.60", lambda camera: msgspec.structs.replace(camera, **change))
    for process in run.processes:
        _, said = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == CameraError.exit_code
        assert re.fullmatch(r"error: camera \w+: no RealSense with the serial number 123456, connected are .*\n", said)
