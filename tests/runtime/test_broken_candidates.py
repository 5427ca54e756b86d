"""A generation whose graph fails while it runs is rejected with the reason, whatever its trial; the one before it goes on."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from poco.artifact import Artifact, graph_hash, read_artifact, sha256
from poco.noise import NoiseSource
from poco.offer import Offer
from poco.runtime import swapping
from poco.runtime.allowance import allowed_s, bytes_of
from poco.runtime.session import Session
from poco.runtime.store import ArtifactStore
from poco.runtime.swap import Moved, SlotState
from poco.runtime.swapping import OPENING_S, SwappingActor
from programs import ARTIFACT
from workshop import Workshop, seen

SEED = 3
BREAKS = "mean"
"""The tensor of which the first number, in thousands, is the index into a table of one row."""


def breakable() -> Artifact:
    """The committed policy, whose graph ONNX Runtime gives up at run time for weights that index outside a table."""
    artifact = read_artifact(ARTIFACT)
    (listed,) = artifact.manifest.graphs
    model = onnx.load_model_from_string(artifact.graphs[listed.name])
    graph, chunk = model.graph, listed.outputs[0].name
    for node in graph.node:
        node.output[:] = [f"{name}_before" if name == chunk else name for name in node.output]
    constants = {"row": np.zeros(1, np.float32), "thousand": np.array([1e3], np.float32), "first": np.array([0])}
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    graph.node.extend(
        [
            helper.make_node("Gather", [BREAKS, "first"], ["number"]),
            helper.make_node("Div", ["number", "thousand"], ["thousands"]),
            helper.make_node("Cast", ["thousands"], ["index"], to=TensorProto.INT64),
            helper.make_node("Gather", ["row", "index"], ["nothing"]),
            helper.make_node("Add", [f"{chunk}_before", "nothing"], [chunk]),
        ]
    )
    payload = model.SerializeToString()
    named = msgspec.structs.replace(listed, sha256=sha256(payload))
    manifest = msgspec.structs.replace(
        artifact.manifest, graphs=(named,), graph_hash=graph_hash({listed.name: payload})
    )
    return replace(artifact, manifest=manifest, graphs={listed.name: payload})


class Robot:
    """A policy process that drives with a breakable policy and was offered a broken one, which no gate looked at."""

    def __init__(self, folder: Path, **trial: int) -> None:
        workshop = Workshop(breakable(), folder)
        store = workshop.store
        store.activate(self.stored(store, workshop.first()))
        settings = msgspec.structs.replace(workshop.options.settings.swap, baseline_episodes=0, **trial)
        self._store, self._settings = store, settings
        self.begin()
        tensors = {key: np.array(tensor, np.float32) for key, tensor in workshop.artifact.tensors.items()}
        tensors[BREAKS][0] = 5e3
        broken = workshop.offer(2, trained=tensors, golden=dict(workshop.artifact.golden))
        store.point("offered", self.stored(store, broken))
        self._alone, self._noise = Session(workshop.artifact), NoiseSource(SEED)

    def begin(self) -> None:
        """Start the policy process, again if there was one."""
        self.moves: list[Moved] = []
        self.actor = SwappingActor(self._store, self._settings, SEED, self.moves.append)

    @staticmethod
    def stored(store: ArtifactStore, offer: Offer) -> Path:
        """The folder of `offer` in the store, as if it had passed the gate."""
        return store.add(offer.manifest, offer.signature, offer.files)

    def drive(self, chunk: int) -> None:
        """Choose one chunk: it is what the first policy alone would have chosen."""
        observation = np.full(self.actor.specification.observation_size, 0.1 * chunk, np.float32)
        actions = self.actor.choose(seen(1, chunk, observation))
        noise = self._noise.sample(1, chunk, self._alone.noise_shape)
        np.testing.assert_array_equal(actions, self._alone.run(observation, noise))


def rehearse(actions: object) -> None:
    """Not reached: what a candidate never chose cannot be planned."""
    pytest.fail("a chunk that was never chosen is planned")


@pytest.mark.parametrize(
    ("trial", "states"),
    [
        ({"shadow_chunks": 3}, [SlotState.LOADED, SlotState.SHADOW, SlotState.REJECTED]),
        ({"shadow_chunks": 0, "probation_episodes": 5}, [SlotState.LOADED, SlotState.PROBATION, SlotState.REJECTED]),
        (
            {"shadow_chunks": 0, "probation_episodes": 0},
            [
                SlotState.LOADED,
                SlotState.PROBATION,
                SlotState.ACTIVE,
                SlotState.RETIRED,
                SlotState.REJECTED,
                SlotState.ACTIVE,
            ],
        ),
    ],
)
def test_one_that_fails_is_rejected(trial: dict[str, int], states: list[SlotState], tmp_path: Path) -> None:
    """What ONNX Runtime said is the reason, every chunk is the first policy's, and nothing is raised, even without any trial."""
    robot = Robot(tmp_path, **trial)
    for chunk in range(3):
        robot.drive(chunk)
        robot.actor.meanwhile(rehearse, None)  # type: ignore[arg-type]
    assert [moved.after for moved in robot.moves] == states
    assert robot.moves[-1].reason.startswith("failed: ")
    assert "Gather" in robot.moves[-1].reason
    assert robot.actor.generation == 1


def test_one_that_ends_the_process_while_it_loads_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed for memory or for its silence at that moment, the next policy process drives on without looking at it again."""
    robot = Robot(tmp_path, shadow_chunks=3)
    with monkeypatch.context() as dying:
        dying.setattr(swapping, "map_generation", lambda *_: sys.exit("killed"))
        with pytest.raises(SystemExit):
            robot.drive(0)
    robot.begin()
    robot.drive(0)
    assert robot.moves == []


def test_another_graph_is_opened_at_rest_and_its_time_announced(tmp_path: Path) -> None:
    """While the arm moves such a generation waits; before its graph is opened the process says how long that may take."""
    workshop, other = Workshop(read_artifact(ARTIFACT), tmp_path), Workshop(breakable(), tmp_path / "other")
    store, moves, silences = workshop.store, list[Moved](), list[float]()
    store.activate(Robot.stored(store, workshop.first()))
    settings = msgspec.structs.replace(workshop.options.settings.swap, shadow_chunks=3)
    actor = SwappingActor(store, settings, SEED, moves.append, silent_for=silences.append)
    sound = other.offer(2)
    offered = Robot.stored(store, Offer(sound.manifest, sound.signature, {**other.graph_files(), **sound.files}))
    store.point("offered", offered)
    observation = np.zeros(actor.specification.observation_size, np.float32)
    actor.choose(seen(1, 1, observation))
    assert (moves, silences) == ([], [])
    actor.choose(seen(2, 0, observation))
    assert [moved.after for moved in moves] == [SlotState.LOADED, SlotState.SHADOW]
    assert silences == [allowed_s(OPENING_S, bytes_of([offered])), 0.0]
    assert silences[0] > OPENING_S
