"""A simulated arm whose cameras go bad at a moment of their own, on a clock that is the arm's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from poco.frames import Frame, FrameRing, ring_name
from poco.hw.emulator.tasks.peg_in_hole import EASY, GUARDS, PegInHole
from poco.hw.emulator.tasks.plant import SimulatedPlant
from poco.limits import STEP_MARGINS, fr3_limits
from poco.records import FRAME_HEAD
from poco.settings import CameraSettings
from poco.specification import Specification

TICK_NS = 1_000_000
LATENCY_TICKS = 12
SLOW_TICKS = 250
JUMP_NS = 5_000_000_000

Kind = Literal["frozen", "slow", "dropped", "dead", "swapped", "jumped"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Injection:
    """What `camera` (its number) suffers from, in ticks from `first` to `last`."""

    kind: Kind
    camera: int
    first: int
    last: int

    @classmethod
    def drawn(cls, seed: int, cameras: int) -> Injection:
        """Draw one of any kind at any phase of frames and periods."""
        generator = np.random.default_rng(seed)
        first = int(generator.integers(300, 900))
        return cls(
            KINDS[int(generator.integers(len(KINDS)))],
            int(generator.integers(cameras)),
            first,
            first + int(generator.integers(450, 1200)),
        )


@dataclass
class SimulatedCamera:
    """Publishes a frame of noise every period of its camera, `phase` ticks after the clock's zero, LATENCY_TICKS after exposure."""

    camera: CameraSettings
    phase: int
    run_name: str
    ring: FrameRing = field(init=False)
    last_good_tick: int = 0
    last_fresh_tick: int = 0

    def __post_init__(self) -> None:
        self.ring = FrameRing(ring_name(self.run_name, self.camera.name), (self.camera.height, self.camera.width))
        self._generator = np.random.default_rng(self.phase)
        self._head = np.zeros((), FRAME_HEAD)
        self._pixels = self._noise()

    def _noise(self) -> npt.NDArray[np.uint8]:
        return self._generator.integers(0, 256, (self.camera.height, self.camera.width, 3), np.uint8)

    def live(self, tick: int, other: str, fault: Kind | None) -> None:
        """Be at `tick`; publish what a camera with `fault` would, swapped with the camera of the serial `other`."""
        period = 1000 // self.camera.rate_hz
        exposed = tick - LATENCY_TICKS
        if exposed % period != self.phase or exposed < 0 or fault in ("dropped", "dead"):
            return
        head = self._head
        head["number"] += 1
        if fault == "slow" and exposed - self.last_fresh_tick < SLOW_TICKS:
            return
        self.last_fresh_tick = exposed
        if fault == "frozen":
            head["repeats"] += 1
        else:
            head["repeats"], self._pixels = 0, self._noise()
        if fault is None:
            self.last_good_tick = exposed
        head["t_ns"] = exposed * TICK_NS + (JUMP_NS if fault == "jumped" else 0)
        head["tick"] = -1
        head["serial"] = other if fault == "swapped" else self.camera.serial
        self.ring.publish(Frame(head, self._pixels))


class SightedPlant(SimulatedPlant):
    """The simulated arm with cameras that live through every one of its ticks."""

    def __init__(self, specification: Specification, cameras: list[SimulatedCamera], injection: Injection) -> None:
        super().__init__(PegInHole(EASY), fr3_limits(STEP_MARGINS, GUARDS, specification.tip))
        self.cameras, self.injection = cameras, injection
        self.published: list[int] = []
        self.moving: dict[int, bool] = {}
        self.reset(np.array(specification.rest_q))

    def publish(self, spline: npt.NDArray[np.void]) -> None:
        """Offer a CHUNK_SPLINE record to the servo, and note when."""
        self.published.append(self.tick)
        super().publish(spline)

    @property
    def clock(self) -> Callable[[], int]:
        """The time of cameras and of whoever judges them (ns)."""
        return lambda: max(self.tick, 0) * TICK_NS

    def _live(self) -> None:
        super()._live()
        tick, injection = self.tick, self.injection
        self.moving[tick] = bool(np.any(self._command["dq"]))
        serials = [camera.camera.serial for camera in self.cameras]
        for number, camera in enumerate(self.cameras):
            suffers = number == injection.camera and injection.first <= tick < injection.last
            camera.live(tick, serials[number - 1], injection.kind if suffers else None)

    def close(self) -> None:
        """Remove the frames."""
        for camera in self.cameras:
            camera.ring.unlink()
