"""What replacing the policy costs: turnaround and inference in blocks with and without swaps, the way from offer to motion.

A real run takes in generation after generation of its own policy, signed with keys made for the occasion. Afterwards every chunk is
chosen again with the weights of the generation it names. Beside the run, rebinding is timed against opening a new session.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from poco.artifact import Artifact, read_artifact
from poco.clock import monotonic_ns
from poco.errors import PocoError
from poco.runtime.benchmarks.hogs import hogs
from poco.runtime.benchmarks.kills import PERMUTATIONS, Block
from poco.runtime.benchmarks.live_run import LiveRun
from poco.runtime.benchmarks.offers import OfferMaker
from poco.runtime.benchmarks.outcome import Floats as Samples
from poco.runtime.benchmarks.outcome import Measurement, Outcome
from poco.runtime.benchmarks.swap_checks import Chooser, check_actions, check_names, episodes_of, ways_us
from poco.runtime.benchmarks.swap_pieces import SwapBlock, SwapPiece, join, read_pieces
from poco.runtime.run_folder import ChunkRecord, RunFolder
from poco.runtime.session import Session
from poco.runtime.weights import map_tensors
from poco.statistics import permutation_p

REBINDS = 200
BINDS = 20
SESSIONS = 2
BINDING_REPEATS = 5
KEEP_MINUTES = 120
SEED = 0


def run(
    host: str,
    policy: Path,
    repeats: int,
    block_s: float,
    shadow_chunks: int,
    busy: int,
    beside: Sequence[Path],
    pieces: Path | None,
) -> Outcome:
    """Alternate `repeats` blocks with and without swaps, an emulated arm at `host`, `busy` processes that never rest beside it.

    Rebinding is timed for the artifacts `policy` and `beside`. With `pieces` the run is added to those in that folder, and all of
    them are told of. Raises PocoError for a step that names a wrong generation.
    """
    artifact = read_artifact(policy)
    bindings = [binding_of(item) for item in (artifact, *map(read_artifact, beside))]
    piece = measure(artifact, host, policy, repeats, block_s, shadow_chunks, busy)
    together = [piece]
    if pieces is not None:
        piece.save(pieces)
        together = read_pieces(pieces)
    return outcome_of(join(together), len(together), bindings, block_s, shadow_chunks, busy)


def measure(
    artifact: Artifact, host: str, policy: Path, repeats: int, block_s: float, shadow_chunks: int, busy: int
) -> SwapPiece:
    """Make one run and hold every step and chunk of it to the generation that it names; raises PocoError."""
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        maker = OfferMaker(artifact, folder)
        spans = _alternate(maker, host, policy, folder / "run", repeats, block_s, shadow_chunks, busy)
        recorded = RunFolder.open(folder / "run")
        ticks, chunks, episodes = recorded.ticks(), recorded.chunks(), episodes_of(recorded)
    steps = check_names(episodes, chunks)
    checked, told_apart = check_actions(Chooser(artifact, maker.weights, SEED), episodes, chunks)
    received = ticks["state"]["received_ns"]
    received_ns = dict(zip(ticks["state"]["tick"].tolist(), received.tolist(), strict=True))
    moving_us, between_us = ways_us(maker.offered_ns, chunks, received_ns)
    if not len(moving_us) + len(between_us):
        raise PocoError(f"no generation came to drive in blocks of {block_s:g} s: give --block-s more time")
    blocks = [
        SwapBlock(
            swapping,
            Block(swapping, ticks[(received >= first) & (received < last)]).turnaround_us(),
            _inference_us(chunks, received_ns, first, last),
        )
        for swapping, first, last in spans
    ]
    parameters = parameters_of(artifact)
    return SwapPiece(parameters, blocks, moving_us, between_us, steps, len(chunks), checked, told_apart)


def outcome_of(
    piece: SwapPiece, runs: int, bindings: list[list[Measurement]], block_s: float, shadow_chunks: int, busy: int
) -> Outcome:
    """Return what `runs` runs, joined in `piece`, have shown; `bindings` is how long rebinding took."""
    swapping, quiet = piece.of(True), piece.of(False)
    measurements = [
        Measurement("swapping", [block.turnaround_us for block in swapping]),
        Measurement("quiet", [block.turnaround_us for block in quiet]),
        Measurement("inference_swapping", [block.inference_us for block in swapping]),
        Measurement("inference_quiet", [block.inference_us for block in quiet]),
        Measurement("offer_to_chunk", [np.concatenate([piece.moving_us, piece.between_us])]),
        *(
            Measurement(name, [samples])
            for name, samples in (("moving", piece.moving_us), ("between", piece.between_us))
            if len(samples)
        ),
        *(measurement for binding in bindings for measurement in binding),
    ]
    rates = [np.array([block.miss_rate for block in blocks]) for blocks in (swapping, quiet)]
    p = permutation_p(rates[0], rates[1], PERMUTATIONS)
    misses, ticked = (
        [sum(count(block) for block in blocks) for blocks in (swapping, quiet)]
        for count in (lambda block: block.misses, lambda block: len(block.turnaround_us))
    )
    notes = [
        f"{piece.swaps} swaps in {runs} runs under {piece.parameters} parameters, shadow over {shadow_chunks} chunks, {busy} busy "
        f"processes beside it; {piece.steps} steps, each names the generation of its chunk; {piece.checked} of {piece.chunks} "
        f"chunks chosen again with the weights of the generation they name, 0 different; {piece.told_apart} would have been with "
        "those of the one before",
        f"turnaround over 1 ms: {misses[0]} of {ticked[0]} ticks with swaps, {misses[1]} of {ticked[1]} without, p = {p:.3f} "
        f"(one-sided permutation test of {len(swapping)} + {len(quiet)} blocks)",
        "offer_to_chunk: from the offer in the gate's folder to the first published chunk of that generation; moving: with the arm "
        "at its task; between: the arm was on its way to the next episode",
        "rebind: the flip, one assignment; bind: weights in memory bound beside those in use; map: read from the store's file",
    ]
    pairs = [("swapping", "quiet"), ("inference_swapping", "inference_quiet")]
    pairs += [(binding[0].name, binding[-1].name) for binding in bindings]
    more = {
        "swaps": float(piece.swaps),
        "misses_p": p,
        "parameters": float(piece.parameters),
        "checked": float(piece.checked),
    }
    return Outcome("swap", f"Replacing the policy of a run, blocks of {block_s:g} s", measurements, pairs, notes, more)


def _alternate(
    maker: OfferMaker,
    host: str,
    policy: Path,
    folder: Path,
    repeats: int,
    block_s: float,
    shadow_chunks: int,
    busy: int,
) -> list[tuple[bool, int, int]]:
    """Run with and without swaps in turns; return for each block whether there were swaps, begin and end (ns)."""
    settings = {
        "trust": maker.trust,
        "store": maker.store.folder,
        "shadow_chunks": shadow_chunks,
        "probation_episodes": 0,
    }
    flags = [word for key, value in settings.items() for word in (f"--swap.{key}", str(value))]
    flags += ["--inference.weights", "inputs", "--keep-minutes", str(KEEP_MINUTES), "--seed", str(SEED)]
    spans: list[tuple[bool, int, int]] = []
    with LiveRun(host, policy, folder, flags=flags) as live, hogs(busy):
        for pair in range(repeats):
            for swapping in (pair % 2 == 1, pair % 2 == 0):
                live.wait_until_moving()
                spans.append((swapping, *_block(maker if swapping else None, block_s)))
    return spans


def _block(maker: OfferMaker | None, block_s: float) -> tuple[int, int]:
    first = monotonic_ns()
    last = first + round(block_s * 1e9)
    while maker is not None and monotonic_ns() < last:
        maker.swap()
    time.sleep(max(0.0, (last - monotonic_ns()) / 1e9))
    return first, monotonic_ns()


def _inference_us(chunks: Sequence[ChunkRecord], received_ns: dict[int, int], first: int, last: int) -> Samples:
    """Return the inference time (us) of the chunks observed from `first` to `last` (ns)."""
    inside = [chunk for chunk in chunks if first <= received_ns.get(chunk.observation_tick, 0) < last]
    return np.array([chunk.inference_ns / 1e3 for chunk in inside])


def parameters_of(artifact: Artifact) -> int:
    """Return how many numbers a swap of `artifact` replaces."""
    return sum(tensor.size for tensor in artifact.tensors.values())


def binding_of(artifact: Artifact) -> list[Measurement]:
    """Return what the flip costs, one assignment, what binding and mapping the weights do, and opening a new session (us)."""
    session = Session(artifact)
    bindings = [session.prepare(artifact.tensors) for _ in range(2)]
    (file,) = (artifact.path / item.file for item in artifact.manifest.tensors if item.role == "trained")
    acts: dict[str, tuple[int, Callable[[], object]]] = {
        "rebind": (REBINDS, lambda: session.rebind(bindings[0])),
        "bind": (BINDS, lambda: session.prepare(artifact.tensors)),
        "map": (BINDS, lambda: map_tensors(file)),
        "new_session": (SESSIONS, lambda: Session(artifact)),
    }
    found: dict[str, list[Samples]] = {name: [] for name in acts}
    for _ in range(BINDING_REPEATS):
        for name, (count, act) in acts.items():
            found[name].append(np.array([_timed_us(act) for _ in range(count)]))
    size = f"{parameters_of(artifact) / 1e6:.2g}M"
    return [Measurement(f"{name}_{size}", samples) for name, samples in found.items()]


def _timed_us(act: Callable[[], object]) -> float:
    before_ns = monotonic_ns()
    act()
    return (monotonic_ns() - before_ns) / 1e3
