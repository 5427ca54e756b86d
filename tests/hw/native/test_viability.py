"""A way to stop always exists: random motion in the hard regions, stopped at any moment, never breaks a limit."""

from __future__ import annotations

import os

import numpy as np
import pytest
from driven_arm import DrivenArm, Tally, wander
from following_arm import wide_limits

from poco.limits import POSITION_MAX_RAD, POSITION_MIN_RAD, STEP_MARGINS

TICKS_PER_RUN = 5_000
PROOF_TICKS = int(os.environ.get("POCO_PROOF_TICKS", "10000000"))


def prove(ticks: int, seed: int, losses: bool) -> Tally:
    """Wander for at least `ticks` ticks from random poses and assert coverage and that nothing was violated."""
    tally, run = Tally(), 0
    inset = STEP_MARGINS.position_rad + 1e-3
    while tally.ticks < ticks:
        rng = np.random.default_rng([seed, run])
        q = rng.uniform(POSITION_MIN_RAD + inset, POSITION_MAX_RAD - inset)
        wander(DrivenArm(wide_limits(), q), rng, TICKS_PER_RUN, losses, tally)
        assert not tally.violations.total(), (seed, run, tally.violations)
        run += 1
        if run % 100 == 0:
            print(f"{tally.ticks} of {ticks} ticks, {tally.limited / tally.ticks:.0%} limited", flush=True)
    print(tally)
    assert tally.limited >= 0.5 * tally.ticks
    assert tally.near_position >= 0.05 * tally.ticks
    assert tally.near_envelope >= 0.004 * tally.ticks
    for name in ("chunk_ended", "velocity_limit", "acceleration_limit", "no_way_to_stop"):
        assert tally.events[name] > 0, name
    if losses:
        assert tally.losses >= ticks / 1000
        assert tally.events["gap_not_bridged"] > 0
    return tally


def test_stops_at_any_moment_stay_inside_the_step_margins() -> None:
    """700,000 ticks near joint limits and velocity envelope, stopped at any moment: 0 violations of the step's limits."""
    prove(700_000, seed=31, losses=False)


def test_losses_and_stops_at_any_moment_stay_inside_the_arms_limits() -> None:
    """300,000 ticks with losses of 1 to 19 commands, extrapolated by the arm: 0 violations of the arm's own limits."""
    prove(300_000, seed=32, losses=True)


@pytest.mark.proof
@pytest.mark.timeout(3600)
def test_ten_million_ticks_stay_inside_the_limits() -> None:
    """The same with ten million ticks (POCO_PROOF_TICKS for another number), seven tenths of them without losses."""
    prove(PROOF_TICKS * 7 // 10, seed=33, losses=False)
    prove(PROOF_TICKS * 3 // 10, seed=34, losses=True)
