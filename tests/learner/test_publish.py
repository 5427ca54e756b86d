"""What the learner publishes is what it learned, passes the robot's gate, and nothing unsound leaves."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from poco.artifact import Artifact, Manifest
from poco.errors import ArtifactError
from poco.learner.publish import Publisher, Withheld, chunks_of, policy_of
from poco.runtime.gate import judge
from workshop import Workshop


def test_three_updates_pass_the_gate_of_a_robot_that_is_ahead(artifact: Artifact, tmp_path: Path) -> None:
    """Generations count from the robot's floor, name their parents, and the robot's chunk is the learner's to 1e-5."""
    workshop = Workshop(artifact, tmp_path)
    assert judge(workshop.first(), workshop.store, workshop.trust, workshop.rules).reason == ""
    workshop.store.raise_floor(7, 1)
    policy, publisher = policy_of(artifact), Publisher(artifact, workshop.key, 3600)
    for generation, parent in ((8, 1), (9, 8), (10, 9)):
        with torch.no_grad():
            for parameter in policy.parameters():
                parameter.add_(0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(generation)))
        offer = publisher.publish(policy, workshop.store.floor.generation, time.time(), {"success": 0.5})
        manifest = msgspec.json.decode(offer.manifest, type=Manifest)
        assert (manifest.generation, manifest.parent, manifest.metrics["success"]) == (generation, parent, 0.5)
        verdict = judge(offer, workshop.store, workshop.trust, workshop.rules)
        assert verdict.reason == "", verdict.sentence
        offered = workshop.store.pointer("offered")
        assert offered is not None
        workshop.store.activate(offered)
    taken = workshop.store.boot()
    assert taken is not None
    observation, noise = taken.golden["observation"].astype(np.float32), taken.golden["noise"].astype(np.float32)
    difference = chunks_of(policy, observation, noise) - taken.golden["chunk"].astype(np.float32)
    assert float(np.abs(difference).max()) <= 1e-5


@pytest.mark.parametrize(("poison", "reason"), [(float("nan"), "magnitude nan"), (1e9, "magnitude"), (3.0, "moved by")])
def test_unsound_updates_are_withheld(artifact: Artifact, tmp_path: Path, poison: float, reason: str) -> None:
    """Weights that are not finite, huge or far away from the parent's do not leave, and the generation is not spent."""
    policy, publisher = policy_of(artifact), Publisher(artifact, Workshop(artifact, tmp_path).key, 3600)
    sound = {key: value.clone() for key, value in policy.state_dict().items()}
    with torch.no_grad():
        policy.velocity_layer.bias.add_(poison)
    with pytest.raises(Withheld, match=reason):
        publisher.publish(policy, 1, time.time(), {})
    policy.load_state_dict(sound)
    assert msgspec.json.decode(publisher.publish(policy, 1, time.time(), {}).manifest, type=Manifest).generation == 2


def test_an_artifact_without_its_network_cannot_be_trained(artifact: Artifact) -> None:
    """One sentence says what is missing, and another what does not fit."""
    for network, reason in (
        (None, "does not say what network"),
        ({**(artifact.manifest.network or {}), "hidden_sizes": (8, 8)}, "tensors of another network"),
        ({**(artifact.manifest.network or {}), "euler_steps": 3}, "differs from its golden chunks"),
    ):
        changed = msgspec.structs.replace(artifact.manifest, network=network)
        with pytest.raises(ArtifactError, match=reason):
            policy_of(Artifact(artifact.path, changed, artifact.graphs, artifact.tensors, artifact.golden))
