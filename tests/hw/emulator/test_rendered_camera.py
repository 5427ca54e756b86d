"""A camera in the scene of the emulated arm shows, in another process, what the environment's own camera shows."""

from __future__ import annotations

import ctypes.util
from pathlib import Path

import msgspec
import numpy as np
import pytest
from fci_client import StartEmulator

from poco.errors import CameraError
from poco.hw.cameras import open_camera
from poco.hw.emulator.tasks.cameras import TaskCameras
from poco.hw.emulator.tasks.peg_in_hole import CAMERAS, EASY, PegInHole
from poco.hw.task_signals import EmulatorSignals
from poco.images import as_seen
from poco.observation import observe
from poco.records import ROBOT_STATE
from poco.settings import CameraSettings, read_settings
from poco.specification import read_specification

ROOT = Path(__file__).parents[3]
SPECIFICATION = read_specification(ROOT / "configs" / "peg_in_hole_specification.yaml")
SETTINGS = {camera.name: camera for camera in read_settings(ROOT / "configs" / "fr3_peg_in_hole.yaml", {}).cameras}

pytestmark = pytest.mark.skipif(
    ctypes.util.find_library("EGL") is None and ctypes.util.find_library("OSMesa") is None,
    reason="neither libegl1 nor libosmesa6 is installed",
)


@pytest.fixture(autouse=True)
def renderer_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rendering chooses a way for this process; later tests are to find none chosen."""
    for name in ("MUJOCO_GL", "PYOPENGL_PLATFORM"):
        monkeypatch.setenv(name, "")


def test_it_shows_what_the_environment_shows(start_emulator: StartEmulator) -> None:
    """For the same seed the tensors of both cameras are equal bit for bit; numbers and ticks grow, times are of this computer."""
    host, seed = "127.0.1.91", 11
    start_emulator(host)
    with EmulatorSignals(host) as signals:
        signals.place(seed)
        scene = signals.film("near")
    task = PegInHole(EASY, seed)
    task.arm.reset(np.array(scene.qpos[:7]))
    cameras = TaskCameras(task.arm, CAMERAS, 64, SPECIFICATION)
    state = np.zeros((), ROBOT_STATE)
    cameras.observe(state, task.signal(0), cameras.specification)
    wanted = cameras.views(()).images[0]
    cameras.close()
    for name, image in zip(CAMERAS, wanted, strict=True):
        source = open_camera(SETTINGS[name], f"emulator://{host}")
        exposures = [source.read(2.0) for _ in range(3)]
        seen = np.zeros_like(image)
        for before, exposure in zip([None, *exposures], exposures, strict=False):
            assert exposure is not None
            assert exposure.serial == name
            if before is not None:
                assert exposure.number == before.number + 1
                assert exposure.tick > before.tick
                assert exposure.t_ns > before.t_ns
                assert exposure.mark != before.mark
        assert exposures[-1] is not None
        as_seen(exposures[-1].pixels, 0, 0, 64, seen)
        np.testing.assert_array_equal(seen, image)
        source.close()
    assert observe(state, task.signal(0), cameras.specification).shape == (cameras.specification.observation_size,)


def test_what_cannot_be_rendered_gets_a_sentence(start_emulator: StartEmulator) -> None:
    """A camera the scene lacks, one larger than the scene is rendered, a scene without a task, sensors that are no emulator."""
    start_emulator("127.0.1.92")
    start_emulator("127.0.1.93", "--task", "none")
    camera = SETTINGS["near"]

    def refused(camera: CameraSettings, host: str, words: str) -> None:
        with pytest.raises(CameraError, match=words):
            open_camera(camera, host)

    refused(
        msgspec.structs.replace(camera, name="far"),
        "emulator://127.0.1.92",
        r"no camera far.*near.*wrist|no camera far",
    )
    refused(msgspec.structs.replace(camera, width=1280), "emulator://127.0.1.92", "make it smaller")
    refused(camera, "emulator://127.0.1.93", "without a task")
    refused(camera, "none", "no emulated arm's")
