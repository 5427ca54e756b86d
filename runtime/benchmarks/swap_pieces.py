"""What runs with swaps have shown, piece by piece on disk, so that many short runs make one statistic."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from poco.errors import PocoError
from poco.runtime.benchmarks.outcome import Floats
from poco.runtime.misses import LATE_NS

LATE_US = LATE_NS / 1e3


@dataclass(frozen=True, slots=True)
class SwapBlock:
    """One block of a run: whether there were swaps, turnaround of its ticks [n] and inference of its chunks [m] (us)."""

    swapping: bool
    turnaround_us: Floats
    inference_us: Floats

    @property
    def misses(self) -> int:
        """Ticks with a turnaround over 1 ms."""
        return int((self.turnaround_us > LATE_US).sum())

    @property
    def miss_rate(self) -> float:
        """Share of the ticks with a turnaround over 1 ms."""
        return self.misses / max(1, len(self.turnaround_us))


@dataclass(frozen=True, slots=True)
class SwapPiece:
    """One run or several: blocks in order, and the ways from offer to first chunk (us) of the generations that drove.

    `moving_us`: taken in while the arm was at its task; `between_us`: the arm was on its way to the next episode. Counted are
    recorded steps, chunks, those chosen again, and those of them that the generation before would have chosen otherwise.
    """

    parameters: int
    blocks: list[SwapBlock]
    moving_us: Floats
    between_us: Floats
    steps: int
    chunks: int
    checked: int
    told_apart: int

    @property
    def swaps(self) -> int:
        """Generations that came to drive."""
        return len(self.moving_us) + len(self.between_us)

    def of(self, swapping: bool) -> list[SwapBlock]:
        """Return the blocks with swaps, or those without."""
        return [block for block in self.blocks if block.swapping is swapping]

    def save(self, folder: Path) -> None:
        """Add this piece to those in `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(
            folder / f"piece-{time.time_ns()}.npz",
            parameters=self.parameters,
            swapping=[block.swapping for block in self.blocks],
            ticks=[len(block.turnaround_us) for block in self.blocks],
            inferences=[len(block.inference_us) for block in self.blocks],
            turnaround_us=np.concatenate([block.turnaround_us for block in self.blocks]),
            inference_us=np.concatenate([block.inference_us for block in self.blocks]),
            moving_us=self.moving_us,
            between_us=self.between_us,
            counts=[self.steps, self.chunks, self.checked, self.told_apart],
        )


def read_pieces(folder: Path) -> list[SwapPiece]:
    """Return the pieces in `folder` in the order in which they were made."""
    return [_read(file) for file in sorted(folder.glob("piece-*.npz"))]


def _read(file: Path) -> SwapPiece:
    with np.load(file) as found:
        turnaround_us, inference_us = (
            np.split(found[name], np.cumsum(found[lengths])[:-1])
            for name, lengths in (("turnaround_us", "ticks"), ("inference_us", "inferences"))
        )
        blocks = [
            SwapBlock(bool(one), *rest)
            for one, *rest in zip(found["swapping"], turnaround_us, inference_us, strict=True)
        ]
        counts = [int(count) for count in found["counts"]]
        return SwapPiece(int(found["parameters"]), blocks, found["moving_us"], found["between_us"], *counts)


def join(pieces: Sequence[SwapPiece]) -> SwapPiece:
    """Return all `pieces` as one; raises PocoError where they replaced policies of different sizes."""
    if len({piece.parameters for piece in pieces}) > 1:
        raise PocoError("the pieces replaced policies of different sizes: give each policy a folder of its own")
    return SwapPiece(
        pieces[0].parameters,
        [block for piece in pieces for block in piece.blocks],
        np.concatenate([piece.moving_us for piece in pieces]),
        np.concatenate([piece.between_us for piece in pieces]),
        *(sum(getattr(piece, name) for piece in pieces) for name in ("steps", "chunks", "checked", "told_apart")),
    )
