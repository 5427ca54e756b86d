"""The eyes of a policy: which frames they take, in which order, what they remember, and how they wait in lockstep."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from poco.artifact import read_artifact
from poco.errors import CameraError, SettingsError
from poco.frames import Frame, FrameRing, ring_name
from poco.records import FRAME_HEAD, ROBOT_STATE, TaskSignal
from poco.runtime.encoder import Encoder
from poco.runtime.eyes import KEPT_LOOKS, Eyes, cameras_of
from poco.settings import CameraSettings, read_settings
from programs import ROOT

ARTIFACT = read_artifact(ROOT / "artifacts" / "peg_in_hole_seen")
SPECIFICATION = ARTIFACT.specification
CAMERAS = read_settings(ROOT / "configs" / "fr3_peg_in_hole.yaml", {}).cameras
SIGNAL = TaskSignal(
    tick=0, target_position=(0.5, 0.0, 0.1), target_yaw=0.0, noise_m=0.0, noise_rad=0.0, outcome="running"
)
MS = 1_000_000


class World:
    """Rings of two cameras and a clock that is set."""

    def __init__(self, lockstep: bool = False, cameras: tuple[CameraSettings, ...] = CAMERAS) -> None:
        self.name, self.now_ns = f"eyes-{os.getpid()}", 0
        self.told: list[tuple[int, str, str]] = []
        self.rings = [FrameRing(ring_name(self.name, camera.name), (camera.height, camera.width)) for camera in cameras]
        self.cameras, self.lockstep = cameras, lockstep

    def open(self) -> Eyes:
        """The eyes of the policy."""
        return Eyes(
            Encoder(ARTIFACT),
            self.cameras,
            self.name,
            self.lockstep,
            lambda *event: self.told.append(event),
            lambda: self.now_ns,
        )

    def show(self, number: int, level: int, tick: int = -1, t_ns: int | None = None) -> None:
        """Let camera `number` show one grey level."""
        head = np.zeros((), FRAME_HEAD)
        head["number"], head["tick"], head["serial"] = level, tick, self.cameras[number].serial
        head["t_ns"] = self.now_ns if t_ns is None else t_ns
        self.rings[number].publish(Frame(head, np.full((*self.rings[number].size, 3), level, np.uint8)))


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    for ring in made.rings:
        ring.unlink()


def look(eyes: Eyes, tick: int) -> npt.NDArray[np.float32]:
    state = np.zeros((), ROBOT_STATE)
    state["q"] = state["q_c"] = SPECIFICATION.rest_q
    state["tick"] = tick
    return eyes.look(state, SIGNAL, SPECIFICATION)


def test_every_image_is_in_its_place(world: World) -> None:
    """Images stand in the order of the specification's cameras, the features before what is told, the newest frame wins."""
    eyes = world.open()
    for level in (10, 20):
        world.show(0, level)
        world.show(1, level + 100)
    observation = look(eyes, 5)
    assert eyes.cameras == SPECIFICATION.cameras == ("near", "wrist")
    assert np.all(eyes.glance.images[0] == 20)
    assert np.all(eyes.glance.images[1] == 120)
    np.testing.assert_array_equal(
        observation, Encoder(ARTIFACT).run(eyes.glance.images, observation[-SPECIFICATION.told.observation_size :])
    )
    assert eyes.clear


def test_trouble_is_told_once_with_its_camera(world: World) -> None:
    """One stale camera is enough; it is told when it becomes stale and when it is trusted again."""
    eyes = world.open()
    for number in range(2):
        world.show(number, 1)
    look(eyes, 1)
    world.now_ns = 150 * MS
    world.show(0, 2)
    for tick in (2, 3):
        look(eyes, tick)
    assert not eyes.clear
    assert eyes.glance.age_ns == 150 * MS
    for level in range(3, 9):
        world.now_ns += 33 * MS
        world.show(0, level)
        world.show(1, level)
        look(eyes, level)
    assert eyes.clear
    assert [(tick, camera, bool(trouble)) for tick, camera, trouble in world.told] == [
        (2, "wrist", True),
        (5, "wrist", False),
    ]


def test_images_are_remembered_for_the_journal(world: World) -> None:
    """Of any recent tick the images of the newest look until then; the memory does not grow with a long hold."""
    eyes = world.open()
    for tick in range(0, 10 * (KEPT_LOOKS + 20), 10):
        world.show(0, tick // 10 % 256)
        world.show(1, 0)
        look(eyes, tick)
    last = 10 * (KEPT_LOOKS + 19)
    assert eyes.images_at(last)[0, 0, 0, 0] == (KEPT_LOOKS + 19) % 256
    assert eyes.images_at(last - 1)[0, 0, 0, 0] == (KEPT_LOOKS + 18) % 256
    assert len(eyes._seen) == KEPT_LOOKS


def test_in_lockstep_it_waits_for_the_very_tick() -> None:
    """The frame of an earlier tick is not taken while that of the asked one may still come; it counts however old it is."""
    world = World(lockstep=True)
    try:
        eyes = world.open()
        for number in range(2):
            world.show(number, 1, tick=49)

        def render() -> None:
            time.sleep(0.1)
            for number in range(2):
                world.show(number, 2, tick=50, t_ns=-(10**12))

        renderer = threading.Thread(target=render)
        renderer.start()
        look(eyes, 50)
        renderer.join()
        assert np.all(eyes.glance.images == 2)
        assert eyes.clear
        look(eyes, 100)
        assert not eyes.clear
    finally:
        for ring in world.rings:
            ring.unlink()


def test_what_is_missing_is_named(world: World) -> None:
    """A camera the settings lack, and frames that are smaller than what the policy sees."""
    with pytest.raises(CameraError, match="sees through the camera wrist, the settings have near"):
        cameras_of(SPECIFICATION.cameras, CAMERAS[:1])
    assert cameras_of(SPECIFICATION.cameras, CAMERAS[::-1]) == CAMERAS
    small = tuple(msgspec.structs.replace(camera, crop=(0, 0, 32)) for camera in CAMERAS)
    world.cameras = small
    with pytest.raises(SettingsError, match="the policy sees 64 x 64"):
        world.open()
