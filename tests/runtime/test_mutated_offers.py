"""Thousands of damaged offers, half of them signed after the damage: none is loaded, and the policy in use never notices."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from mutations import NEW_GRAPHS, ON_THE_WAY, SIGNED_AGAIN, Mutation
from poco.artifact import Artifact, read_artifact
from poco.noise import NoiseSource
from poco.offer import Offer
from poco.refusal import Reason
from poco.runtime.gate import judge_packed, read_verdicts
from poco.runtime.incoming import leave_offer
from poco.runtime.session import Session
from poco.runtime.swap import Moved
from poco.runtime.swapping import SwappingActor
from programs import ARTIFACT
from runs import assert_undisturbed
from watched import Watched
from workshop import Workshop, seen

SEED = 0
GRAPH_EVERY = 16
"""One in so many of the offers that were signed again has a new graph; each of those costs a child process."""

PACKED_EVERY = 20
LIST_EVERY = 21


class Driven:
    """A robot whose policy drives while offers come: each chunk must be what the first policy alone would have chosen."""

    def __init__(self, workshop: Workshop) -> None:
        workshop.store.adopt(workshop.artifact)
        self.moves: list[Moved] = []
        self.actor = SwappingActor(workshop.store, workshop.options.settings.swap, SEED, self.moves.append)
        self._alone, self._noise = Session(workshop.artifact), NoiseSource(SEED)
        self._observation = workshop.artifact.golden["observation"].astype(np.float32)
        self.chunks = 0

    def drive(self) -> None:
        """One chunk more."""
        observation = self._observation[self.chunks % len(self._observation)]
        expected = self._alone.run(observation, self._noise.sample(1, self.chunks, self._alone.noise_shape))
        np.testing.assert_array_equal(self.actor.choose(seen(1, self.chunks, observation)), expected)
        self.chunks += 1


def tries(signed: bool) -> Iterator[tuple[str, Mutation, frozenset[Reason]]]:
    """Every kind in turn without end: as made by somebody on the way, or by somebody with the key."""
    kinds, graphs = (SIGNED_AGAIN, NEW_GRAPHS) if signed else (ON_THE_WAY, {})
    number = 0
    while True:
        graph = bool(graphs) and number % GRAPH_EVERY == 0
        turn, table = (number // GRAPH_EVERY, graphs) if graph else (number, kinds)
        kind = list(table)[turn % len(table)]
        yield kind, *table[kind]
        number += 1


def refuse(workshop: Workshop, count: int, seed: int) -> Counter[str]:
    """Judge `count` damaged offers as the gate process does while a policy drives; return the refusals by reason."""
    driven, sound, told = Driven(workshop), workshop.offer(2), Counter[str]()
    trust, replayed = workshop.list_publishers("trust", 2), workshop.list_publishers("replayed", 1)
    workshop.store.raise_floor(1, 2)
    kinds = {signed: islice(tries(signed), seed % 1000, None) for signed in (False, True)}
    for number in range(count):
        signed, random = number % 2 == 1, np.random.default_rng([seed, number])
        folder = trust
        if not signed and number % LIST_EVERY == 0:
            kind, packed, reasons, folder = "old list", sound.pack(), frozenset({Reason.OLD_TRUST}), replayed
        elif not signed and number % PACKED_EVERY == 0:
            whole = sound.pack()
            kind, packed, reasons = (
                "cut short",
                whole[: int(random.integers(len(whole)))],
                frozenset({Reason.MALFORMED}),
            )
        else:
            kind, mutate, reasons = next(kinds[signed])
            packed = mutate(workshop, sound, random).pack()
        said = judge_packed(packed, workshop.store, folder, workshop.rules)
        assert said.reason in reasons, f"{kind}, seed {seed}, number {number}: {said.reason} {said.sentence}"
        assert "\n" not in said.sentence
        told[said.reason] += 1
        driven.drive()
    assert workshop.store.floor.generation == 1
    assert driven.moves == []
    assert driven.actor.generation == 1
    accepted(workshop, sound, driven)
    return told


def accepted(workshop: Workshop, sound: Offer, driven: Driven) -> None:
    """The offer that all of them were made from is taken, so nothing but the damage was refused."""
    assert judge_packed(sound.pack(), workshop.store, workshop.folder / "trust", workshop.rules).reason == ""
    driven.drive()
    assert [move.generation for move in driven.moves] == [2, 2]


@pytest.fixture
def workshop(artifact: Artifact, tmp_path: Path) -> Workshop:
    """A small policy and the keys that publish it."""
    return Workshop(artifact, tmp_path)


def test_hundreds_of_damaged_offers(workshop: Workshop) -> None:
    """None of 240 is loaded; every stage refuses some."""
    told = refuse(workshop, 240, 0)
    assert told.total() == 240
    assert set(told) == set(Reason)


@pytest.mark.proof
@pytest.mark.timeout(3600)
def test_damaged_offers_beside_a_moving_arm(tmp_path: Path) -> None:
    """POCO_COUNT (2,000) of them for the gate of a run: every chunk and tick is the first policy's, nothing holds the arm."""
    count, seed = int(os.environ.get("POCO_COUNT", "2000")), int(os.environ.get("POCO_SEED", "1000"))
    workshop = Workshop(read_artifact(ARTIFACT), tmp_path)
    watched = Watched(workshop, "127.0.44.3")
    store, sound, told = workshop.store.folder, workshop.offer(watched.first + 1), Counter[str]()
    kinds = {signed: tries(signed) for signed in (False, True)}
    try:
        for number in range(count):
            _, mutate, reasons = next(kinds[number % 2 == 1])
            leave_offer(store, mutate(workshop, sound, np.random.default_rng([seed, number])).pack())
            watched.until(lambda: len(read_verdicts(store)) > number)  # noqa: B023
            said = read_verdicts(store)[-1]
            assert said.reason in reasons, said.sentence
            told[said.reason] += 1
    finally:
        watched.program.end()
    folder = watched.folder
    generations = {chunk.generation for chunk in folder.chunks()} | {
        int(generation) for generation in np.unique(folder.ticks()["command"]["generation"])
    }
    assert generations <= {0, watched.first}
    assert_undisturbed(watched.path)
    chunks = len(folder.chunks())
    print(f"\n{count} damaged offers, 0 loaded, beside {chunks} chunks of a moving arm, all undisturbed: {dict(told)}")


@pytest.mark.proof
@pytest.mark.timeout(7200)
def test_a_hundred_thousand_damaged_offers(workshop: Workshop) -> None:
    """POCO_COUNT (100,000) from POCO_SEED, every second one signed after the damage: each stage refuses 1 % or more."""
    count, seed = int(os.environ.get("POCO_COUNT", "100000")), int(os.environ.get("POCO_SEED", "1000"))
    told = refuse(workshop, count, seed)
    print(f"\n{told.total()} damaged offers from seed {seed}, 0 loaded, {count} chunks of the old policy: {dict(told)}")
    assert all(told[stage] >= count // 100 for stage in Reason)
