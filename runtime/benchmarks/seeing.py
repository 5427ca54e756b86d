"""A policy that sees beside the servo, against one that is told: whole runs on the emulated arm, in alternating blocks."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from poco.clock import TICKS_PER_SECOND
from poco.runtime.benchmarks.live_run import LiveRun
from poco.runtime.benchmarks.outcome import Floats, Measurement, Outcome
from poco.runtime.run_events import CameraStale
from poco.runtime.run_folder import ChunkRecord, RunFolder

SETTLE_S = 3.0


@dataclass
class _Block:
    """What one run showed of its last seconds: turnarounds and stages (us), wall seconds and ticks that passed."""

    turnaround_us: Floats
    chunks: list[ChunkRecord]
    stale: int
    wall_s: float
    ticks: int
    execute_steps: int


@dataclass
class _Figures:
    """All blocks of one policy."""

    blocks: list[_Block] = field(default_factory=list)

    def column(self, name: str) -> list[Floats]:
        """Return the durations `name` of the chunks of every block (us)."""
        return [np.array([getattr(chunk, name) * 1e-3 for chunk in block.chunks]) for block in self.blocks]

    @property
    def looks_hz(self) -> float:
        """How often a second of the wall the policy observed, within episodes."""
        rates = []
        for block in self.blocks:
            pairs = zip(block.chunks, block.chunks[1:], strict=False)
            spans = [
                after.observation_tick - before.observation_tick
                for before, after in pairs
                if after.episode == before.episode
            ]
            period_ticks = float(np.median(spans)) / block.execute_steps
            rates.append(TICKS_PER_SECOND / period_ticks * block.ticks / (TICKS_PER_SECOND * block.wall_s))
        return float(np.median(rates))


def run(host: str, seeing: Path, told: Path, repeats: int, block_s: float) -> Outcome:
    """Alternate `repeats` runs of `block_s` of each policy at `host`; raises PocoError if the arm does not move."""
    figures = {"seeing": _Figures(), "told": _Figures()}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(repeats):
            for name, policy in (("seeing", seeing), ("told", told)):
                figures[name].blocks.append(_block(host, policy, Path(folder) / f"{name}{number}", block_s))
    eyes, ears = figures["seeing"], figures["told"]
    late = {name: sum(chunk.late for block in one.blocks for chunk in block.chunks) for name, one in figures.items()}
    return Outcome(
        "seeing",
        f"State received to command sent in whole runs in real time at {host}, blocks of {block_s:g} s",
        [
            *(Measurement(name, [block.turnaround_us for block in one.blocks]) for name, one in figures.items()),
            Measurement("images", eyes.column("image_ns")),
            Measurement("image_age", eyes.column("image_age_ns")),
            Measurement("chunk", eyes.column("total_ns")),
            Measurement("chunk_told", ears.column("total_ns")),
        ],
        [("seeing", "told")],
        [
            f"seeing is {seeing.name}, told is {told.name}; each block is a run of its own, begun anew",
            "images is taking, cutting and encoding all pictures once, image_age how old the oldest was when it was looked at, "
            "chunk the whole way from waking to a published chunk",
        ],
        {
            "seeing_looks_hz": eyes.looks_hz,
            "seeing_late_chunks": float(late["seeing"]),
            "told_late_chunks": float(late["told"]),
            "seeing_stale": float(sum(block.stale for block in eyes.blocks)),
        },
    )


def _block(host: str, policy: Path, folder: Path, block_s: float) -> _Block:
    with LiveRun(host, policy, folder) as live:
        live.wait_until_moving()
        time.sleep(SETTLE_S)
        first, began_s = len(live.ticks()), time.monotonic()
        time.sleep(block_s)
        ticks, wall_s = live.ticks()[first:], time.monotonic() - began_s
    recorded = RunFolder.open(folder)
    answered = ticks[ticks["sent_ns"] > 0]
    turnaround_us = (answered["sent_ns"] - answered["state"]["received_ns"]) * 1e-3
    begin, end = (int(ticks["state"]["tick"][row]) for row in (0, -1))
    return _Block(
        turnaround_us,
        [chunk for chunk in recorded.chunks() if begin <= chunk.observation_tick <= end],
        sum(isinstance(event, CameraStale) and begin <= event.tick <= end for event in recorded.events()),
        wall_s,
        end - begin,
        recorded.facts().specification.execute_steps,
    )
