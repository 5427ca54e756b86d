"""What replacing the policy costs: turnaround and inference in blocks with and without swaps, the way from offer to motion.

A real run takes in generation after generation of its own policy, signed with keys made for the occasion. Beside it rebinding is
timed against opening a new session of the same artifact.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from poco.artifact import Artifact, read_artifact
from poco.clock import monotonic_ns
from poco.episodes import read_episode
from poco.errors import PocoError
from poco.runtime.benchmarks.kills import PERMUTATIONS, Block
from poco.runtime.benchmarks.live_run import LiveRun
from poco.runtime.benchmarks.outcome import Floats as Samples
from poco.runtime.benchmarks.outcome import Measurement, Outcome
from poco.runtime.incoming import leave_offer
from poco.runtime.misses import LATE_NS, turnaround_ns
from poco.runtime.run_folder import ChunkRecord, RunFolder
from poco.runtime.session import Session
from poco.runtime.store import ArtifactStore
from poco.statistics import permutation_p
from poco.succession import Floats, Successor, next_generation
from poco.trust import FORMAT, VERSION, Publisher, TrustList, public_key, write_trust

LIFETIME_S = 86_400
TAKEN_LIMIT_S = 10.0
LOOK_S = 0.002
REBINDS = 200
SESSIONS = 5
GENERATIONS_MAX = 1_000_000


class OfferMaker:
    """Signs generation after generation of one artifact and leaves them in the store of the run."""

    def __init__(self, artifact: Artifact, folder: Path) -> None:
        self._artifact, self._key = artifact, Ed25519PrivateKey.generate()
        self.trust, self.store = folder / "trust", ArtifactStore(folder / "store")
        publisher = Publisher(
            name="bench",
            key=public_key(self._key),
            expires_unix_s=int(time.time()) + LIFETIME_S,
            generation_max=GENERATIONS_MAX,
        )
        listed = TrustList(format=FORMAT, version=VERSION, revision=1, publishers=(publisher,))
        write_trust(self.trust, listed, Ed25519PrivateKey.generate())
        self._session, self._parent = Session(artifact), artifact.manifest
        self._random = np.random.default_rng(0)
        self.offered_ns: dict[int, int] = {}
        self._next = self._make()

    def swap(self) -> None:
        """Offer the next generation and wait until the run has taken it up; raises PocoError if it does not."""
        generation = self._parent.generation
        self.offered_ns[generation] = monotonic_ns()
        leave_offer(self.store.folder, self._next)
        self._next = self._make()
        deadline_s = time.monotonic() + TAKEN_LIMIT_S
        while not self._taken(generation):
            if time.monotonic() > deadline_s:
                raise PocoError(
                    f"generation {generation} was not taken up within {TAKEN_LIMIT_S:g} s: see the run's gate.log"
                )
            time.sleep(LOOK_S)

    def _taken(self, generation: int) -> bool:
        folder = self.store.pointer("offered")
        return folder is not None and int(folder.name.split("-")[0]) >= generation and self.store.newer() is None

    def _make(self) -> bytes:
        """Return the next generation: the artifact with every weight moved by a thousandth of its size."""
        trained: dict[str, Floats] = {
            key: (tensor.astype(np.float64) * (1.0 + 1e-3 * self._random.standard_normal(tensor.shape))).astype(
                np.float32
            )
            for key, tensor in self._artifact.tensors.items()
        }
        self._session.rebind(self._session.prepare(dict(trained)))
        observation, noise = (self._artifact.golden[name].astype(np.float32) for name in ("observation", "noise"))
        chunk = np.stack([self._session.run(*case) for case in zip(observation, noise, strict=True)])
        successor = Successor(
            trained=trained,
            golden={"observation": observation, "noise": noise, "chunk": chunk},
            generation=self._parent.generation + 1,
            expires_unix_s=int(time.time()) + LIFETIME_S,
            metrics={},
        )
        offer = next_generation(self._parent, successor, self._key)
        self._parent = msgspec.structs.replace(self._parent, generation=successor.generation)
        return offer.pack()


def run(host: str, policy: Path, repeats: int, block_s: float, shadow_chunks: int) -> Outcome:
    """Alternate `repeats` blocks with and without swaps, an emulated arm at `host`; raises PocoError for a mixed generation."""
    artifact = read_artifact(policy)
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        maker = OfferMaker(artifact, folder)
        settings = {
            "trust": maker.trust,
            "store": maker.store.folder,
            "shadow_chunks": shadow_chunks,
            "probation_episodes": 0,
        }
        flags = [word for key, value in settings.items() for word in (f"--swap.{key}", str(value))]
        spans: list[tuple[bool, int, int]] = []
        with LiveRun(host, policy, folder / "run", flags=flags) as live:
            for pair in range(repeats):
                for swapping in (pair % 2 == 1, pair % 2 == 0):
                    live.wait_until_moving()
                    spans.append((swapping, *_block(maker if swapping else None, block_s)))
        recorded = RunFolder.open(folder / "run")
        ticks, chunks = recorded.ticks(), recorded.chunks()
        steps = check_names(recorded, chunks)
    received_ns = dict(zip(ticks["state"]["tick"].tolist(), ticks["state"]["received_ns"].tolist(), strict=True))
    way_us = ways_us(maker.offered_ns, chunks, received_ns)
    blocks = [
        Block(struck, ticks[(ticks["state"]["received_ns"] >= first) & (ticks["state"]["received_ns"] < last)])
        for struck, first, last in spans
    ]
    measurements = [
        Measurement("swapping", [block.turnaround_us() for block in blocks if block.struck]),
        Measurement("quiet", [block.turnaround_us() for block in blocks if not block.struck]),
        *inference_of(spans, chunks, received_ns),
        *binding_of(artifact, repeats),
        Measurement("offer_to_chunk", [way_us]),
    ]
    rates = [np.array([block.miss_rate() for block in blocks if block.struck is struck]) for struck in (True, False)]
    p = permutation_p(rates[0], rates[1], PERMUTATIONS)
    misses = [
        sum(int((turnaround_ns(block.ticks) > LATE_NS).sum()) for block in blocks if block.struck is struck)
        for struck in (True, False)
    ]
    parameters = sum(tensor.size for tensor in artifact.tensors.values())
    notes = [
        f"{len(way_us)} swaps under {parameters} parameters, shadow over {shadow_chunks} chunks; {steps} steps, each names the "
        "generation of its chunk, 0 mixed",
        f"turnaround over 1 ms: {misses[0]} with swaps, {misses[1]} without, p = {p:.3f} (one-sided permutation test of blocks)",
        "offer_to_chunk: from the offer in the gate's folder to the first published chunk of that generation",
    ]
    pairs = [("swapping", "quiet"), ("inference_swapping", "inference_quiet"), ("rebind", "new_session")]
    more = {"swaps": float(len(way_us)), "misses_p": p, "parameters": float(parameters)}
    return Outcome("swap", f"Replacing the policy of a run, blocks of {block_s:g} s", measurements, pairs, notes, more)


def _block(maker: OfferMaker | None, block_s: float) -> tuple[int, int]:
    first = monotonic_ns()
    last = first + round(block_s * 1e9)
    while maker is not None and monotonic_ns() < last:
        maker.swap()
    time.sleep(max(0.0, (last - monotonic_ns()) / 1e9))
    return first, monotonic_ns()


def check_names(folder: RunFolder, chunks: Sequence[ChunkRecord]) -> int:
    """Return the number of recorded steps; raises PocoError if one does not name its chunk's generation, or generations go back."""
    of = {chunk.chunk_id: chunk.generation for chunk in chunks}
    generations = [chunk.generation for chunk in chunks]
    if generations != sorted(generations):
        raise PocoError(
            "a chunk was made by an older generation than the one before it: this is a defect of poco, report it"
        )
    steps = [step for path in sorted(folder.episodes.glob("*.safetensors")) for step in read_episode(path).steps]
    mixed = [step for step in steps if step.chunk_id and step.generation != of[step.chunk_id]]
    if mixed:
        raise PocoError(
            f"step {mixed[0].key} names generation {mixed[0].generation}, not its chunk's: report this defect"
        )
    return len(steps)


def ways_us(offered_ns: dict[int, int], chunks: Sequence[ChunkRecord], received_ns: dict[int, int]) -> Samples:
    """Return for each generation that drove how long it took from its offer to its first published chunk (us)."""
    first = {chunk.generation: chunk for chunk in reversed(chunks)}
    return np.array(
        [
            (received_ns[chunk.observation_tick] + chunk.total_ns - offered_ns[generation]) / 1e3
            for generation, chunk in sorted(first.items())
            if generation in offered_ns and chunk.observation_tick in received_ns
        ]
    )


def inference_of(
    spans: Sequence[tuple[bool, int, int]], chunks: Sequence[ChunkRecord], received_ns: dict[int, int]
) -> list[Measurement]:
    """Return the inference time (us) of the chunks observed in blocks with swaps and in those without."""
    found: dict[bool, list[Samples]] = {True: [], False: []}
    for swapping, first, last in spans:
        inside = [chunk for chunk in chunks if first <= received_ns.get(chunk.observation_tick, 0) < last]
        found[swapping].append(np.array([chunk.inference_ns / 1e3 for chunk in inside]))
    return [Measurement("inference_swapping", found[True]), Measurement("inference_quiet", found[False])]


def binding_of(artifact: Artifact, repeats: int) -> list[Measurement]:
    """Return what the flip costs, one assignment, and what opening a new session of the same artifact does (us)."""
    session = Session(artifact)
    bindings = [session.prepare(artifact.tensors) for _ in range(2)]
    flips, opened = [], []
    for _ in range(repeats):
        flips.append(np.array([_timed_us(lambda: session.rebind(bindings[0])) for _ in range(REBINDS)]))
        opened.append(np.array([_timed_us(lambda: Session(artifact)) for _ in range(SESSIONS)]))
    return [Measurement("rebind", flips), Measurement("new_session", opened)]


def _timed_us(act: Callable[[], object]) -> float:
    before_ns = monotonic_ns()
    act()
    return (monotonic_ns() - before_ns) / 1e3
