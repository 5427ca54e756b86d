"""What every device shares: deflections stay in their bounds whatever comes, and a dead zone has no edge."""

from __future__ import annotations

import numpy as np

from poco.hw.devices.device import Reading, beyond, bounded


def test_whatever_comes_is_bounded() -> None:
    """Not a number and infinite count as rest, what is too much as full deflection."""
    np.testing.assert_array_equal(bounded([np.nan, np.inf, -7.0, 0.25]), [0.0, 0.0, -1.0, 0.25])
    assert Reading().deflection.tolist() == [0.0] * 4


def test_the_dead_zone_begins_at_rest() -> None:
    """Within the dead zone nothing moves, just beyond it hardly anything, at the end everything; the sign stays."""
    values = beyond(np.array([0.1, -0.1, 0.10001, -0.55, 1.0]), 0.1)
    np.testing.assert_allclose(values, [0.0, 0.0, 0.0, -0.5, 1.0], atol=2e-5)
