"""Turnaround of the servo with and without a process of the run killed, stopped or starved: alternating blocks of one run."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from poco.clock import monotonic_ns
from poco.errors import PocoError
from poco.runtime.benchmarks.live_run import LiveRun
from poco.runtime.benchmarks.mischief import KINDS, Mischief
from poco.runtime.benchmarks.outcome import Floats, Measurement, Outcome
from poco.runtime.misses import CAUSES, LATE_NS, count_misses, turnaround_ns
from poco.statistics import permutation_p

QUIET = "quiet"
STRIKE_AFTER_S = 0.5
PERMUTATIONS = 20_000


@dataclass(frozen=True, slots=True)
class Block:
    """TICK records [n] of one block, `struck` if the mischief was done in it."""

    struck: bool
    ticks: npt.NDArray[np.void]

    def turnaround_us(self) -> Floats:
        """Return the turnaround of its ticks [m] (us)."""
        spent = turnaround_ns(self.ticks)
        return spent[spent > 0] / 1e3

    def miss_rate(self) -> float:
        """Return the share of its ticks with a turnaround over 1 ms."""
        return float((turnaround_ns(self.ticks) > LATE_NS).mean())


def run(host: str, policy: Path, kinds: Sequence[str], repeats: int, block_s: float) -> Outcome:
    """Alternate `repeats` quiet and struck blocks for each of `kinds`, an emulated arm at `host`; what cannot be done is noted.

    Raises PocoError if nothing can be done or motion does not resume after a strike.
    """
    measurements: list[Measurement] = []
    pairs: list[tuple[str, str]] = []
    more: dict[str, float] = {}
    notes = [
        "a miss is a turnaround over 1 ms; motion resumed after every strike; p: one-sided permutation test of "
        f"{PERMUTATIONS} on the rates of misses of {repeats} + {repeats} blocks"
    ]
    for name in kinds:
        mischief = KINDS[name]()
        try:
            blocks = measure(mischief, host, policy, repeats, block_s)
        except PocoError as error:
            notes.append(f"{name} was not measured: {error}")
            continue
        for struck, subject in ((True, name), (False, f"{name}_{QUIET}")):
            measurements.append(
                Measurement(subject, [block.turnaround_us() for block in blocks if block.struck is struck])
            )
        pairs.append((name, f"{name}_{QUIET}"))
        figures, note = judge(name, blocks)
        more |= figures
        notes.append(note)
    if not pairs:
        raise PocoError(f"nothing was measured: {'; '.join(notes[1:])}")
    what = f"State received to command sent while a run is disturbed, blocks of {block_s:g} s"
    return Outcome("kills", what, measurements, pairs, notes, more)


def measure(mischief: Mischief, host: str, policy: Path, repeats: int, block_s: float) -> list[Block]:
    """Return the blocks of one run in order; of each pair the struck one is first every other time."""
    with tempfile.TemporaryDirectory() as folder, mischief.ready(Path(folder)) as (prefix, environment):
        spans: list[tuple[bool, int, int]] = []
        with LiveRun(host, policy, Path(folder) / "run", prefix, environment) as live:
            for pair in range(repeats):
                for struck in (pair % 2 == 1, pair % 2 == 0):
                    live.wait_until_moving()
                    spans.append((struck, *_block(live, mischief if struck else None, block_s)))
            live.wait_until_moving()
        ticks = live.ticks()
    received_ns = ticks["state"]["received_ns"]
    blocks = [Block(struck, ticks[(received_ns >= first) & (received_ns < last)]) for struck, first, last in spans]
    if not all(len(block.ticks) for block in blocks):
        raise PocoError("a block has no tick: give --block-s more")
    return blocks


def _block(live: LiveRun, mischief: Mischief | None, block_s: float) -> tuple[int, int]:
    first = monotonic_ns()
    if mischief is not None:
        time.sleep(STRIKE_AFTER_S)
        mischief.strike(live)
    time.sleep(max(0.0, block_s - (monotonic_ns() - first) / 1e9))
    return first, monotonic_ns()


def judge(name: str, blocks: Sequence[Block]) -> tuple[dict[str, float], str]:
    """Return the figures that are no percentiles, and the sentence that says them."""
    struck, quiet = ([block for block in blocks if block.struck is is_struck] for is_struck in (True, False))
    p = permutation_p(
        np.array([block.miss_rate() for block in struck]),
        np.array([block.miss_rate() for block in quiet]),
        PERMUTATIONS,
    )
    figures, parts = {f"{name}.p": p}, []
    for subject, some in ((name, struck), (f"{name}_{QUIET}", quiet)):
        ticks = np.concatenate([block.ticks for block in some])
        causes = count_misses(ticks)
        figures |= {f"{subject}.{cause}": float(causes[cause]) for cause in CAUSES}
        counted = ", ".join(f"{count} {cause}" for cause, count in causes.items())
        parts.append(f"{sum(causes.values())} misses of {len(ticks)} ticks ({counted})")
    return figures, f"{name}: {parts[0]}, quiet {parts[1]}, p = {p:.3f}"
