"""The table of states: whatever happens in whatever order, one sound generation drives, and every move is one of the table's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from poco.artifact import Artifact
from poco.runtime.actors import ChunkFigures
from poco.runtime.run_flags import PACKAGED_CONFIG
from poco.runtime.session import Session
from poco.runtime.swap import NEXT, Moved, Slot, SlotState, Swap
from poco.runtime.weights import map_tensors
from poco.settings import SwapSettings, read_settings
from workshop import Workshop

SETTINGS = msgspec.structs.replace(
    read_settings(PACKAGED_CONFIG, {}).swap,
    shadow_chunks=10,
    baseline_episodes=0,
    probation_episodes=3,
    late_max=1,
    holds_max=1,
)
GOOD = ChunkFigures(stretched=False, stopped_first=False, late=False, interrupted=False)


@dataclass(frozen=True)
class Token:
    """Stands for the weights of a generation where nothing is inferred."""

    generation: int
    compiled: bool = False

    @property
    def artifact(self) -> SimpleNamespace:
        """Its golden chunks are exact to 1e-4."""
        return SimpleNamespace(manifest=SimpleNamespace(golden_tolerance=1e-4))


class Bench:
    """A Swap whose session is a variable and whose record is a list."""

    def __init__(self, settings: SwapSettings = SETTINGS) -> None:
        self.bound: Token = Token(1)
        self.moves: list[Moved] = []
        self.swap = Swap(settings, self.slot(1), self._use, self.moves.append)
        self.random = np.random.default_rng(0)

    def slot(self, generation: int) -> Slot:
        return Slot(generation, Path(f"{generation:06d}"), Token(generation))  # type: ignore[arg-type]

    def compiled(self) -> Slot:
        """The active generation with its weights compiled in."""
        active = self.swap.active
        token = Token(active.generation, compiled=True)
        return Slot(active.generation, active.folder, token, inputs=active)  # type: ignore[arg-type]

    def _use(self, bound: object) -> None:
        assert isinstance(bound, Token)
        self.bound = bound

    def shadow(
        self, change: float = 0.01, seconds: float = 0.001, stretched: bool = False, frozen: bool = False
    ) -> None:
        """One shadow inference on a fresh observation."""
        live = self.random.uniform(-1.0, 1.0, (5, 4)).astype(np.float32)
        candidate = np.full((5, 4), 0.1, np.float32) if frozen else live + np.float32(change)
        self.swap.shadowed(candidate, live, seconds, stretched=stretched, live_stretched=False)

    def through_shadow(self) -> None:
        while self.swap.wants_shadow:
            self.shadow()

    @property
    def last(self) -> Moved:
        return self.moves[-1]


def test_a_good_generation_goes_all_the_way() -> None:
    """Shadow, flip, three episodes, active; the one before is retired and an operator can return to it."""
    bench = Bench()
    bench.swap.load(bench.slot(2))
    bench.through_shadow()
    assert bench.bound == Token(2)
    assert bench.swap.driver.generation == 2
    for _ in range(3):
        bench.swap.chunk(GOOD)
        bench.swap.episode(success=True, fault=False)
    assert [(move.generation, move.after.value) for move in bench.moves] == [
        (2, "loaded"),
        (2, "shadow"),
        (2, "probation"),
        (2, "active"),
        (1, "retired"),
    ]
    assert bench.swap.roll_back()
    assert bench.bound == Token(1)
    assert bench.swap.active.generation == 1
    assert not bench.swap.roll_back()


def test_compiled_weights_need_no_probation_and_leave_the_way_back() -> None:
    """However slow they seem beside a busy arm, alike they serve; the generation before stays the one to return to."""
    bench = Bench()
    bench.swap.load(bench.slot(2))
    bench.through_shadow()
    for _ in range(3):
        bench.swap.episode(success=True, fault=False)
    bench.swap.load(bench.compiled())
    while bench.swap.wants_shadow:
        bench.shadow(1e-5, seconds=0.5)
    assert bench.bound == Token(2, compiled=True)
    assert [(one.after.value, one.weights) for one in bench.moves[-5:]] == [
        ("loaded", "compiled"),
        ("shadow", "compiled"),
        ("probation", "compiled"),
        ("active", "compiled"),
        ("retired", "inputs"),
    ]
    assert bench.swap.roll_back()
    assert bench.bound == Token(1)


def test_compiled_weights_that_say_something_else_stay_out() -> None:
    """What a new generation might do, the same weights may not: further away than golden chunks may be, they are refused."""
    bench = Bench()
    bench.swap.load(bench.compiled())
    while bench.swap.wants_shadow:
        bench.shadow(1e-3)
    assert bench.last.reason.startswith("distance")
    assert bench.bound == Token(1)


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ({"change": float("nan")}, "not finite"),
        ({"change": 0.9}, "distance"),
        ({"seconds": 0.5}, "slow"),
        ({"stretched": True}, "limits"),
        ({"frozen": True}, "frozen"),
    ],
)
def test_what_is_bad_in_shadow_never_drives(behaviour: dict[str, float], reason: str) -> None:
    """Each fault in shadow is refused with its name, and the live weights stay bound all the time."""
    bench = Bench()
    bench.swap.load(bench.slot(2))
    while bench.swap.wants_shadow:
        bench.shadow(**behaviour)  # type: ignore[arg-type]
        assert bench.bound == Token(1)
    assert bench.last.after == SlotState.REJECTED
    assert bench.last.reason.startswith(reason)


@pytest.mark.parametrize(
    ("chunks", "success", "fault", "reason"),
    [
        ([ChunkFigures(False, False, True, False)] * 2, True, False, "late"),
        ([ChunkFigures(False, False, False, True)] * 2, True, False, "holds"),
        ([ChunkFigures(True, False, False, False)] * 6, True, False, "limits"),
        ([GOOD], True, True, "fault"),
        ([GOOD], False, False, "success"),
    ],
)
def test_what_is_bad_on_probation_loses_the_arm(
    chunks: list[ChunkFigures], success: bool, fault: bool, reason: str
) -> None:
    """Each fault on probation returns the arm to the generation before within the call that reports it."""
    bench = Bench()
    for _ in range(20):
        bench.swap.chunk(GOOD)
        bench.swap.episode(success=True, fault=False)
    bench.swap.load(bench.slot(2))
    bench.through_shadow()
    for _ in range(10):
        for figures in chunks:
            if bench.swap.candidate:
                bench.swap.chunk(figures)
        if bench.swap.candidate:
            bench.swap.episode(success, fault)
    assert bench.last.reason.startswith(reason)
    assert bench.bound == Token(1)
    assert bench.swap.driver.generation == 1


def test_the_arm_is_given_to_nobody_before_it_is_known_what_is_usual() -> None:
    """A candidate waits in shadow, run no more, until the active generation has ended its tenth episode, whole or not."""
    bench = Bench(msgspec.structs.replace(SETTINGS, baseline_episodes=10))
    bench.swap.load(bench.slot(2))
    bench.through_shadow()
    for _ in range(10):
        assert bench.swap.driver.generation == 1
        bench.swap.chunk(GOOD)
        bench.swap.episode(success=True, fault=False)
    assert bench.swap.driver.generation == 2
    assert bench.last.after == SlotState.PROBATION


class AnyOrder(RuleBasedStateMachine):
    """Offers, compiled weights, shadows, chunks, failures, episodes, vetoes and rollbacks in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.bench, self.newest = Bench(), 1

    @rule()
    def offer(self) -> None:
        self.newest += 1
        self.bench.swap.load(self.bench.slot(self.newest))

    @rule()
    def compile(self) -> None:
        swap = self.bench.swap
        if swap.candidate is None and swap.active.inputs is None:
            swap.load(self.bench.compiled())

    @rule()
    def fail(self) -> None:
        swap = self.bench.swap
        had_another = swap.driver is not swap.active or swap.active.inputs is not None
        assert swap.unusable("failed") == had_another

    @rule(change=st.sampled_from([0.0, 0.1, 0.9, float("nan")]), stretched=st.booleans())
    def shadow(self, change: float, stretched: bool) -> None:
        if self.bench.swap.wants_shadow:
            self.bench.shadow(change, stretched=stretched)

    @rule(flags=st.lists(st.booleans(), min_size=4, max_size=4))
    def chunk(self, flags: list[bool]) -> None:
        self.bench.swap.chunk(ChunkFigures(*flags))

    @rule(success=st.booleans(), fault=st.booleans())
    def episode(self, success: bool, fault: bool) -> None:
        self.bench.swap.episode(success, fault)

    @rule()
    def veto(self) -> None:
        self.bench.swap.veto()

    @rule()
    def roll_back(self) -> None:
        self.bench.swap.roll_back()

    @invariant()
    def bound_is_the_driver(self) -> None:
        driver = self.bench.swap.driver
        assert self.bench.bound == Token(driver.generation, driver.inputs is not None)

    @invariant()
    def inputs_stay_bound(self) -> None:
        swap = self.bench.swap
        assert swap.active.plain.inputs is None
        assert swap.previous is None or swap.previous.inputs is None
        assert swap.candidate is None or swap.candidate.inputs in (None, swap.active)

    @invariant()
    def rejected_never_drives(self) -> None:
        moves = [move for move in self.bench.moves if move.weights is None]
        rejected = {move.generation for move in moves if move.after == SlotState.REJECTED}
        assert self.bench.swap.driver.generation not in rejected

    @invariant()
    def moves_are_in_the_table(self) -> None:
        assert all(move.after in NEXT[move.before] for move in self.bench.moves)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = hypothesis_settings(max_examples=100, stateful_step_count=60, deadline=None)


def test_mapped_weights_are_those_of_the_file_and_run(artifact: Artifact, tmp_path: Path) -> None:
    """A file mapped into memory binds without a copy and gives the chunk that its golden vectors say."""
    workshop = Workshop(artifact, tmp_path)
    offer = workshop.offer(2)
    file = tmp_path / "trained.safetensors"
    file.write_bytes(offer.files["trained.safetensors"])
    mapped = map_tensors(file)
    for key, tensor in workshop.trained(2).items():
        np.testing.assert_array_equal(mapped[key], tensor)
        assert not mapped[key].flags.owndata
    session = Session(artifact)
    session.rebind(session.prepare(mapped))
    golden = workshop.golden(workshop.trained(2))
    np.testing.assert_array_equal(session.run(golden["observation"][0], golden["noise"][0]), golden["chunk"][0])
