"""A camera that goes bad in any way, at any moment, brings the arm to a hold within its bound, and a good one lets it go on."""

from __future__ import annotations

import os
from dataclasses import dataclass

import msgspec
import numpy as np
import pytest

from bad_cameras import KINDS, LATENCY_TICKS, Injection, SightedPlant, SimulatedCamera
from poco.artifact import read_artifact
from poco.chunks import ChunkSequence
from poco.hw.emulator.tasks.peg_in_hole import GUARDS
from poco.limits import PLANNING_MARGINS, fr3_limits
from poco.rollout import Rollout
from poco.runtime.encoder import Encoder
from poco.runtime.eyes import Eyes
from poco.runtime.freshness import STEADY_FRAMES
from poco.settings import read_settings
from poco.trouble import Mode
from programs import ROOT

ARTIFACT = read_artifact(ROOT / "artifacts" / "peg_in_hole_seen")
SPECIFICATION = ARTIFACT.specification
CAMERAS = [
    msgspec.structs.replace(camera, source=f"realsense://{camera.name}7", exposure_us=8000, white_balance_k=4500)
    for camera in read_settings(ROOT / "configs" / "fr3_peg_in_hole.yaml", {}).cameras
]
PERIOD = SPECIFICATION.period_ticks
FRAME = 1000 // CAMERAS[0].rate_hz
BRAKE_TICKS = 200
"""A stop attaches at most one control period after it was asked for, and takes at most the rest of this from full speed."""

AFTER_TICKS = STEADY_FRAMES * FRAME + 2 * FRAME + LATENCY_TICKS + 2 * PERIOD
QUICK, LONG = 36, 950


@dataclass
class Held:
    """When the arm came to rest after an injection, when trust ended, when the first chunk after it was published."""

    rest_tick: int
    noticed_tick: int
    resumed_tick: int


def bound_ticks(injection: Injection) -> int:
    """How long after its onset an injection must have led to rest: noticed, looked at, and braked."""
    camera = CAMERAS[injection.camera]
    noticed = {
        "frozen": (camera.repeats_max + 1) * FRAME + LATENCY_TICKS,
        "swapped": FRAME + LATENCY_TICKS,
        "jumped": FRAME + LATENCY_TICKS,
    }.get(injection.kind, round(1000 * camera.age_max_s) + 1)
    return noticed + PERIOD + BRAKE_TICKS


def run(encoder: Encoder, seed: int, injection: Injection) -> Held:
    """Drive the arm to and fro while `injection` happens, as the policy process does, until it moves on for a while."""
    generator = np.random.default_rng(seed)
    name = f"bad-cameras-{os.getpid()}"
    cameras = [SimulatedCamera(camera, int(generator.integers(FRAME)), name) for camera in CAMERAS]
    plant = SightedPlant(SPECIFICATION, cameras, injection)
    told: list[tuple[int, str]] = []
    try:
        plant.wait(FRAME + LATENCY_TICKS + 1)
        eyes = Eyes(encoder, CAMERAS, name, False, lambda tick, _, trouble: told.append((tick, trouble)), plant.clock)
        sequence = ChunkSequence(SPECIFICATION, fr3_limits(PLANNING_MARGINS, GUARDS, SPECIFICATION.tip))
        rollout = Rollout(
            plant,
            sequence,
            robot="arm",
            boot_epoch=1,
            episode=0,
            episode_steps=10_000,
            look=eyes.look,
            clear=lambda: eyes.clear,
        )
        rollout.begin(plant.tick + 1)
        direction = 1.0
        while plant.tick < injection.last + 1200:
            if not eyes.clear:
                assert rollout.hold()[0] == "running"
                continue
            direction = -direction
            towards = 0.5 * direction * generator.uniform(0.3, 1.0, SPECIFICATION.action_size)
            chosen_tick = plant.tick
            newest = [camera.ring.newest() for camera in cameras]
            for camera, frame in zip(CAMERAS, newest, strict=True):
                assert frame is not None
                assert plant.clock() - int(frame.head["t_ns"]) <= camera.age_max_s * 1e9, f"stale at {chosen_tick}"
                assert int(frame.head["repeats"]) < camera.repeats_max
                assert frame.head["serial"].item().decode() == camera.serial
            outcome = rollout.step(np.tile(towards, (SPECIFICATION.chunk_steps, 1))).outcome
            assert outcome == "running"
        assert int(plant.report()["fault"]) == 0
    finally:
        plant.close()
    troubled = [tick for tick, trouble in told if trouble]
    cleared = [tick for tick, trouble in told if not trouble]
    assert len(troubled) == len(cleared) == 1, told
    moving = np.array([plant.moving[tick] for tick in range(injection.first, plant.tick)])
    rest = next(tick for tick in range(troubled[0], plant.tick) if not plant.moving[tick])
    resumed = next(tick for tick in plant.published if tick >= cleared[0])
    assert not moving[rest - injection.first : cleared[0] - injection.first].any(), "it moved while it was to hold"
    assert int(plant.report()["mode"]) in (Mode.FOLLOWING, Mode.HOLDING)
    assert moving[resumed - injection.first :].any()
    return Held(rest, troubled[0], resumed)


def prove(count: int, first_seed: int = 0) -> None:
    """Inject `count` faults, every kind alike often, and print how long they took at most."""
    encoder = Encoder(ARTIFACT)
    slowest: dict[str, int] = {}
    for seed in range(first_seed, first_seed + count):
        injection = Injection.drawn(seed, len(CAMERAS))
        injection = Injection(KINDS[seed % len(KINDS)], injection.camera, injection.first, injection.last)
        held = run(encoder, seed, injection)
        took = held.rest_tick - injection.first
        assert took <= bound_ticks(injection), (seed, injection, held)
        assert held.resumed_tick <= injection.last + AFTER_TICKS + 250, (seed, injection, held)
        assert held.resumed_tick > injection.last
        slowest[injection.kind] = max(slowest.get(injection.kind, 0), took)
    print(f"{count} injections, ticks from onset to rest at most: {slowest}")


def test_bad_cameras_end_in_a_hold_within_the_bound() -> None:
    """Frozen, slow, dropped, dead, swapped and with a clock that jumped: at rest in time, no chunk from what they showed."""
    prove(QUICK)


@pytest.mark.proof
def test_bad_cameras_at_length() -> None:
    """The same 950 times."""
    prove(LONG, first_seed=1000)
