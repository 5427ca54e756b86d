"""Device time becomes the time of this computer, whatever transfers, drift and resets do."""

from __future__ import annotations

import numpy as np
import pytest

from poco.hw.camera_clock import DRIFT, DeviceClock

MS = 1_000_000
PERIOD_NS = 33_333_333
OFFSET_NS = 77 * 10**9
FASTEST_NS = 4 * MS


@pytest.mark.parametrize("drift", [-1e-5, 0.0, 1e-5, 1e-4])
def test_stamps_are_late_by_the_fastest_transfer_alone(drift: float) -> None:
    """With transfers of 4 ms and rarely up to 60 ms more, the stamps of an hour are true to that within a millisecond."""
    generator = np.random.default_rng(1)
    clock = DeviceClock()
    errors = []
    for number in range(30 * 600):
        device_ns = 10**9 + number * PERIOD_NS
        true_ns = round(OFFSET_NS + device_ns * (1.0 + drift))
        late_ns = FASTEST_NS + round(generator.exponential(0.3 * MS)) + (60 * MS if generator.random() < 0.02 else 0)
        errors.append(clock.map(device_ns, true_ns + late_ns) - true_ns - FASTEST_NS)
    assert clock.locks == 1
    settled = np.array(errors[100:])
    assert settled.min() >= -0.01 * MS
    assert settled.max() < 1.0 * MS


def test_a_frame_that_waited_shows_its_age() -> None:
    """A delay of 200 ms is age: it does not make the frame young."""
    clock = DeviceClock()
    for number in range(50):
        clock.map(number * PERIOD_NS, number * PERIOD_NS + FASTEST_NS)
    stamp_ns = clock.map(50 * PERIOD_NS, 50 * PERIOD_NS + 200 * MS)
    assert abs(stamp_ns - 50 * PERIOD_NS - FASTEST_NS) < DRIFT * PERIOD_NS + 1


def test_a_reset_is_noticed_and_counted() -> None:
    """Device time that begins anew is locked again at the first frame; a leap ahead is followed at once."""
    clock = DeviceClock()
    for number in range(10):
        clock.map(10**12 + number * PERIOD_NS, number * PERIOD_NS + FASTEST_NS)
    assert clock.map(5 * MS, 11 * PERIOD_NS) == 11 * PERIOD_NS
    assert clock.locks == 2
    assert clock.map(10**13, 12 * PERIOD_NS) == 12 * PERIOD_NS
    assert clock.locks == 2
