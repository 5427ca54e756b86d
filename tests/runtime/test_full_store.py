"""A store whose disk takes nothing more, or nothing at all, while the arm moves: the policy drives on, the record says why."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import pytest

from full_disk import full_disk
from poco.artifact import Artifact
from poco.runtime.swap import Moved, SlotState
from poco.runtime.swapping import SwappingActor
from read_only import read_only
from workshop import Workshop, seen


@dataclass
class Robot:
    """A policy process that drives with generation 1; what is offered goes on probation at once."""

    workshop: Workshop
    moves: list[Moved] = field(default_factory=list)

    def __post_init__(self) -> None:
        first = self.workshop.first()
        store = self.workshop.store
        store.activate(store.add(first.manifest, first.signature, first.files))
        trial = {"shadow_chunks": 0, "baseline_episodes": 0, "probation_episodes": 1}
        settings = msgspec.structs.replace(self.workshop.options.settings.swap, **trial)
        self.actor = SwappingActor(store, settings, 3, self.moves.append)

    def offer(self, generation: int) -> Path:
        """Let `generation` have passed the gate; its folder in the store."""
        offer, store = self.workshop.offer(generation), self.workshop.store
        folder = store.add(offer.manifest, offer.signature, offer.files)
        store.point("offered", folder)
        return folder

    def drive(self) -> int:
        """Choose a chunk; the generation that did."""
        observation = np.zeros(self.actor.specification.observation_size, np.float32)
        self.actor.choose(seen(1, 1, observation))
        return self.actor.generation


@pytest.fixture
def robot(artifact: Artifact, tmp_path: Path) -> Robot:
    """A robot whose disk still has room."""
    return Robot(Workshop(artifact, tmp_path))


def test_what_cannot_be_remembered_as_tried_is_not_tried(robot: Robot) -> None:
    """It might end the process again and again; one rejection with the reason, no second look, and the next one is taken."""
    robot.offer(2)
    with full_disk():
        assert [robot.drive() for _ in range(3)] == [1, 1, 1]
    assert [(moved.generation, moved.after) for moved in robot.moves] == [(2, SlotState.REJECTED)]
    assert "File too large" in robot.moves[0].reason
    assert robot.drive() == 1
    robot.offer(3)
    assert robot.drive() == 3


def test_what_became_active_drives_on_and_is_remembered_once_there_is_room(robot: Robot) -> None:
    """Nothing is raised when the disk cannot remember it; the record says so, and the robot starts with it as soon as it can."""
    folder, store = robot.offer(2), robot.workshop.store
    assert robot.drive() == 2
    with full_disk():
        while robot.moves[-1].after is SlotState.PROBATION:
            robot.actor.episode(success=True, fault=False)
        assert robot.drive() == 2
        store.fulfil()
    active, retired = robot.moves[-2:]
    assert (active.after, retired.after) == (SlotState.ACTIVE, SlotState.RETIRED)
    assert active.reason.startswith("not yet what the robot starts with (File too large): free space in ")
    assert store.pointer("wanted") is None
    assert robot.drive() == 2
    assert store.pointer("wanted") == folder
    store.fulfil()
    assert store.pointer("current") == folder


def test_an_operator_is_heard_once_where_the_request_cannot_be_taken_away(robot: Robot) -> None:
    """A veto that stays in the store throws out one generation and raises nothing; the next request is heard again."""
    store = robot.workshop.store
    robot.offer(2)
    assert robot.drive() == 2
    store.ask("veto")
    with read_only(store.folder):
        assert [robot.drive() for _ in range(3)] == [1, 1, 1]
    thrown_out = robot.moves[-1]
    assert (thrown_out.generation, thrown_out.after) == (2, SlotState.REJECTED)
    assert thrown_out.reason == f"operator, whose request stays (Permission denied): repair the disk of {store.folder}"
    robot.offer(3)
    assert robot.drive() == 3
    store.ask("veto")
    assert robot.drive() == 1
    assert (robot.moves[-1].generation, robot.moves[-1].reason) == (3, "operator")
    assert not (store.folder / "request").exists()
