"""The robot's artifacts outlive kills: it starts with the old generation or the new one, whole, or with none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from poco.artifact import Artifact
from poco.errors import ArtifactError
from poco.runtime.store import KEPT, ArtifactStore
from workshop import Workshop


@pytest.fixture
def workshop(artifact: Artifact, tmp_path: Path) -> Workshop:
    """A workshop whose robot has nothing yet."""
    return Workshop(artifact, tmp_path)


def take(workshop: Workshop, generation: int) -> Path:
    """Store and activate a generation without asking the gate."""
    offer = workshop.first() if generation == 1 else workshop.offer(generation)
    folder = workshop.store.add(offer.manifest, offer.signature, offer.files)
    workshop.store.activate(folder)
    return folder


def started(store: ArtifactStore) -> int:
    """The generation a robot starts with, 0 for none."""
    artifact = store.boot()
    return 0 if artifact is None else artifact.manifest.generation


def test_boot_order(workshop: Workshop) -> None:
    """Current, else previous, else nothing: a damaged current falls back to previous, two damaged ones to a hold."""
    store = workshop.store
    assert started(store) == 0
    folders = [take(workshop, generation) for generation in (1, 2)]
    assert started(store) == 2
    (folders[1] / "trained.safetensors").unlink()
    (folders[1] / "trained.safetensors").write_bytes(b"rot")
    assert started(store) == 1
    (folders[0] / "manifest.json").write_bytes(b"{")
    assert started(store) == 0


def test_floor_only_rises(workshop: Workshop) -> None:
    """The floor keeps the highest generation and trust revision over restarts, and damage to it is no reason to forget."""
    store = workshop.store
    store.raise_floor(5, 2)
    store.raise_floor(3, 3)
    again = ArtifactStore(store.folder)
    assert (again.floor.generation, again.floor.trust_revision) == (5, 3)
    (store.folder / "floor.json").write_bytes(b"rot")
    with pytest.raises(ArtifactError, match="is damaged"):
        _ = again.floor


def test_tidy_keeps_what_is_needed(workshop: Workshop) -> None:
    """Of eight generations those pointed at and the newest stay, and every file that is left belongs to one of them."""
    first = take(workshop, 1)
    for generation in range(2, 9):
        take(workshop, generation)
    store = workshop.store
    store.point("previous", first)
    store.tidy()
    kept = sorted(item.name[:6] for item in (store.folder / "generations").iterdir())
    assert kept == ["000001", *(f"{generation:06d}" for generation in range(9 - KEPT, 9))]
    linked = {file.stat().st_ino for folder in (store.folder / "generations").iterdir() for file in folder.iterdir()}
    assert {file.stat().st_ino for file in (store.folder / "files").iterdir()} <= linked
    assert started(store) == 8
    assert first.is_dir()


def test_a_generation_on_trial_outlives_newer_ones(workshop: Workshop) -> None:
    """However many are offered while one is on trial, it is still there to start with once it has become the active one."""
    store = workshop.store
    take(workshop, 1)
    for generation in range(2, KEPT + 4):
        offer = workshop.offer(generation)
        folder = store.add(offer.manifest, offer.signature, offer.files)
        store.point("offered", folder)
        if generation == 2:
            on_trial = folder
            store.trying(on_trial)
        store.tidy()
    store.want(on_trial)
    store.fulfil()
    assert started(store) == 2


def test_a_damaged_store_is_mended_by_adopting_the_same_policy(workshop: Workshop) -> None:
    """Rot in the store's only copy of a file and a torn manifest give way to what the operator has."""
    store = workshop.store
    store.adopt(workshop.artifact)
    (folder,) = (store.folder / "generations").iterdir()
    (folder / "trained.safetensors").write_bytes(b"rot")
    (folder / "manifest.json").write_bytes(b"{")
    assert started(store) == 0
    store.adopt(workshop.artifact)
    assert started(store) == 1


def test_what_the_operator_adopts_stays_current(workshop: Workshop) -> None:
    """What a policy process had made active before its store was damaged does not take the place of the operator's policy."""
    store = workshop.store
    damaged = take(workshop, 1)
    offer = workshop.offer(2)
    store.want(store.add(offer.manifest, offer.signature, offer.files))
    (damaged / "manifest.json").write_bytes(b"{")
    assert store.boot() is None
    store.adopt(workshop.artifact)
    store.fulfil()
    assert started(store) == workshop.artifact.manifest.generation == 1


def test_a_millionth_generation_is_newer(workshop: Workshop) -> None:
    """Generations are compared as numbers: one more digit makes a name that sorts before the others."""
    store = workshop.store
    first = workshop.first()
    for generation in (999_999, 1_000_000):
        offer = workshop.resign(first, partial(dict.update, generation=generation))
        folder = store.add(offer.manifest, offer.signature, offer.files)
        store.point("offered", folder)
        assert store.newer() == folder
        store.trying(folder)
        assert store.newer() is None


@pytest.mark.parametrize("reached", range(60))
def test_killed_anywhere_in_storing_and_activating(workshop: Workshop, reached: int) -> None:
    """A process that dies before its n-th change to the disk leaves the old generation or the new one, never a third thing."""
    take(workshop, 1)
    offer = workshop.offer(2)
    if child := os.fork():
        _, status = os.waitpid(child, 0)
        done = os.waitstatus_to_exitcode(status) == 0
    else:
        _die_after(reached)
        take_two = workshop.store.add(offer.manifest, offer.signature, offer.files)
        workshop.store.raise_floor(2, 1)
        workshop.store.activate(take_two)
        os._exit(0)
    again = ArtifactStore(workshop.store.folder)
    assert started(again) == (2 if done else started(again))
    assert started(again) in (1, 2)
    again.tidy()
    assert started(again) in (1, 2)
    folder = again.add(offer.manifest, offer.signature, offer.files)
    again.activate(folder)
    assert started(again) == 2


def _die_after(changes: int) -> None:
    """Let this process die when it is about to make change number `changes` to the disk."""
    left: Iterator[int] = iter(range(changes))

    def counted(function: object) -> object:
        def call(*values: object, **named: object) -> object:
            if next(left, None) is None:
                os._exit(9)
            return function(*values, **named)  # type: ignore[operator]

        return call

    for module, name in (
        (os, "fsync"),
        (os, "link"),
        (Path, "rename"),
        (Path, "mkdir"),
        (Path, "open"),
        (Path, "unlink"),
    ):
        setattr(module, name, counted(getattr(module, name)))
