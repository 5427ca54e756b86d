"""What a policy sees: newest frames of all its cameras, cut to size, encoded or whole, and whether they may be acted on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from poco.clock import monotonic_ns
from poco.errors import CameraError
from poco.frames import Frame, FrameRing, Pixels, ring_name
from poco.images import Crop, as_seen, window_of
from poco.observation import observe
from poco.records import TaskSignal
from poco.runtime.encoder import Encoder, Images
from poco.runtime.freshness import Stream
from poco.settings import CameraSettings, Settings
from poco.specification import Specification

KEPT_LOOKS = 256
"""More than the steps of one chunk, which are journaled when it is over."""

LOCKSTEP_POLL_S = 0.0005
LOCKSTEP_PATIENCE_S = 1.5
LOCKSTEP_STALE_NS = 10_000_000_000


def cameras_of(names: Sequence[str], cameras: Sequence[CameraSettings]) -> tuple[CameraSettings, ...]:
    """Return the settings of the cameras `names` that are looked through, in order; raises CameraError naming a missing one."""
    known = {camera.name: camera for camera in cameras}
    missing = [name for name in names if name not in known]
    if missing:
        raise CameraError(
            f"the run sees through the camera {missing[0]}, the settings have {', '.join(known) or 'none'}: add it under cameras"
        )
    return tuple(known[name] for name in names)


def check_frames(names: Sequence[str], side: int, settings: Settings) -> None:
    """Raise PocoError unless `settings` have the cameras `names`, with frames large enough for images of `side` pixels."""
    for camera in cameras_of(names, settings.cameras):
        window_of(camera.crop, camera.height, camera.width, side, camera.name)


@dataclass(slots=True)
class Glance:
    """What the newest observation was made from: images [cameras, 3, side, side], age of the oldest and time it took (ns)."""

    images: Images
    age_ns: int = 0
    took_ns: int = 0


@dataclass(slots=True)
class _Eye:
    ring: FrameRing
    stream: Stream
    window: Crop | None
    frame: Frame | None = field(default=None)

    @property
    def pixels(self) -> Pixels:
        pixels = np.zeros((*self.ring.size, 3), np.uint8) if self.frame is None else self.frame.pixels
        if self.window is None:
            return pixels
        top, left, length = self.window
        return pixels[top : top + length, left : left + length]


class Eyes:
    """The cameras of a run with the encoder behind them, or without one: then frames go whole to who chooses, or with a `side`
    become images of so many pixels that are only kept. Policy process only.

    Of an arm in lockstep, whose time stands still meanwhile, they wait for the frames of the very tick; else the newest are taken.
    `told` hears of every camera whose frames may no longer be acted on, and, with "", of one whose frames may be again.
    """

    def __init__(
        self,
        encoder: Encoder | None,
        cameras: Sequence[CameraSettings],
        run_name: str,
        lockstep: bool,
        told: Callable[[int, str, str], None],
        clock: Callable[[], int] = monotonic_ns,
        side: int = 0,
    ) -> None:
        """Map the frames of `cameras`; raises PocoError if they are not there, SettingsError if they are too small."""
        self._encoder, self._lockstep, self._told, self._clock = encoder, lockstep, told, clock
        self._eyes: list[_Eye] = []
        self.cameras = tuple(camera.name for camera in cameras)
        self.side = side if encoder is None else encoder.side
        for camera in cameras:
            ring = FrameRing(ring_name(run_name, camera.name))
            window = (
                None
                if not self.side and camera.crop is None
                else window_of(camera.crop, *ring.size, self.side, camera.name)
            )
            self._eyes.append(_Eye(ring, Stream(camera), window))
        self._seen: dict[int, Glance] = {}
        self.glance = Glance(np.zeros((len(self._eyes), 3, self.side, self.side), np.uint8))

    @property
    def clear(self) -> bool:
        """Whether the newest observation may be acted on."""
        return not any(eye.stream.trouble for eye in self._eyes)

    @property
    def frames(self) -> tuple[Pixels, ...]:
        """The frames [H, W, 3] of the newest observation, cut where the settings say so, black before the first; empty where they
        become images. Valid until the next `look`."""
        return () if self.side else tuple(eye.pixels for eye in self._eyes)

    def images_at(self, tick: int) -> Images:
        """Return the images of the newest observation made until `tick`, as far as the last KEPT_LOOKS reach back."""
        seen = [looked for looked in self._seen if looked <= tick]
        return self._seen[max(seen)].images if seen else self.glance.images

    def look(
        self, state: npt.NDArray[np.void], signal: TaskSignal, specification: Specification
    ) -> npt.NDArray[np.float32]:
        """Return the observation [O] made of the newest images and what is told; `clear` says whether it counts."""
        began_ns = self._clock()
        tick = int(state["tick"])
        if self._lockstep:
            self._await(tick)
        images, ages_ns = np.zeros_like(self.glance.images), [0]
        for eye, image in zip(self._eyes, images, strict=True):
            eye.frame = eye.ring.newest()
            now_ns = self._now_ns(eye, tick)
            self._judge(eye, tick, now_ns)
            if eye.frame is not None:
                if eye.window is not None and self.side:
                    as_seen(eye.frame.pixels, *eye.window, image)
                ages_ns.append(now_ns - int(eye.frame.head["t_ns"]))
        observation = observe(state, signal, specification.told)
        if self._encoder is not None:
            observation = self._encoder.run(images, observation)
        self.glance = self._seen[tick] = Glance(images, max(ages_ns), self._clock() - began_ns)
        while len(self._seen) > KEPT_LOOKS:
            del self._seen[min(self._seen)]
        return observation

    def _judge(self, eye: _Eye, tick: int, now_ns: int) -> None:
        head, before = None if eye.frame is None else eye.frame.head, eye.stream.trouble
        trouble = eye.stream.look(head, now_ns)
        if bool(trouble) != bool(before):
            self._told(tick, eye.stream.camera.name, trouble)

    def _now_ns(self, eye: _Eye, tick: int) -> int:
        """Return the time to judge the frame of `eye` by; in lockstep one of `tick` is new however long ago it was taken."""
        if not self._lockstep or eye.frame is None or int(eye.frame.head["tick"]) < tick:
            return self._clock() + self._lockstep * LOCKSTEP_STALE_NS
        return int(eye.frame.head["t_ns"])

    def _await(self, tick: int) -> None:
        """Wait until every camera shows `tick`, as long as that may take before it counts as stale."""
        deadline_s = time.monotonic() + LOCKSTEP_PATIENCE_S
        for eye in self._eyes:
            while (frame := eye.ring.newest()) is None or int(frame.head["tick"]) < tick:
                if time.monotonic() > deadline_s:
                    return
                time.sleep(LOCKSTEP_POLL_S)
