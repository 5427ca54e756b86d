"""When a learner publishes, what it keeps back, and that no number is given away twice whoever dies in between."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from poco.artifact import Artifact, Manifest
from poco.errors import ArtifactError
from poco.learner.networks import FlowPolicy
from poco.learner.publications import (
    OFFER_FILE,
    PUBLICATIONS_FILE,
    Cause,
    Publications,
    PublishSettings,
    read_publications,
)
from poco.learner.publish import Publisher, policy_of
from poco.offer import Offer

METRICS = {"online_episodes": 3.0, "online_steps": 60.0, "online_updates": 30.0, "roll_backs": 0.0}
KEY = Ed25519PrivateKey.generate()


def publications(folder: Path, artifact: Artifact, **settings: float) -> Publications:
    """Those of the run in `folder`, by a process that has just begun."""
    return Publications(folder, Publisher(artifact, KEY, 3600), msgspec.convert(settings, PublishSettings))


def made(own: Publications, policy: FlowPolicy, cause: Cause, floor: int = 0, roll_backs: int = 0) -> Offer:
    """The next generation, which is not withheld."""
    offer = own.make(policy, cause, floor, {**METRICS, "roll_backs": float(roll_backs)})
    assert offer is not None, own.last_withheld
    return offer


def generation(offer: Offer | None) -> int:
    assert offer is not None
    return msgspec.json.decode(offer.manifest, type=Manifest).generation


def test_after_enough_updates_or_enough_time(artifact: Artifact, tmp_path: Path) -> None:
    """Nothing without an update of the actor; then after so many, or, if there was one at all, after so long."""
    by_count = publications(tmp_path, artifact, updates=3, interval_s=0.0)
    dues = []
    for _ in range(3):
        dues.append(by_count.due(0, 0))
        by_count.learned()
    assert [*dues, by_count.due(0, 0)] == [None, None, None, "learned"]
    by_time = publications(tmp_path, artifact, updates=0, interval_s=1e-9)
    assert by_time.due(0, 0) is None
    by_time.learned()
    assert by_time.due(0, 0) == "learned"
    never = publications(tmp_path, artifact, updates=0, interval_s=0.0)
    never.learned()
    assert never.due(0, 0) is None


def test_a_robot_that_has_seen_more_and_the_guard(artifact: Artifact, tmp_path: Path) -> None:
    """What was published is published anew above a robot that is ahead; a roll-back is published once, after a kill too."""
    policy, own = policy_of(artifact), publications(tmp_path, artifact)
    assert own.due(9, 0) is None
    own.keep(first := made(own, policy, "learned"), "learned")
    assert (generation(first), own.due(2, 0), own.due(9, 0)) == (2, None, "floor")
    assert own.due(2, 1) == "rolled_back"
    again = publications(tmp_path, artifact)
    assert (again.generation, again.due(2, 1)) == (2, "rolled_back")
    offer = made(again, policy, "rolled_back", 9, 1)
    again.keep(offer, "rolled_back")
    assert (generation(offer), again.due(10, 1)) == (10, None)
    assert publications(tmp_path, artifact).due(10, 1) is None
    assert [(one.generation, one.parent, one.cause) for one in read_publications(tmp_path)] == [
        (2, 1, "learned"),
        (10, 2, "rolled_back"),
    ]


def test_withheld_is_counted_and_passes(artifact: Artifact, tmp_path: Path) -> None:
    """A policy that moved too far stays here, in words; the one before goes out by a roll-back, and a sound one as usual."""
    policy, own = policy_of(artifact), publications(tmp_path, artifact, updates=1)
    sound = {key: value.clone() for key, value in policy.state_dict().items()}
    with torch.no_grad():
        policy.velocity_layer.bias.add_(3.0)
    own.learned()
    assert own.make(policy, "learned", 0, METRICS) is None
    assert (own.withheld, own.published, own.generation, own.due(0, 0)) == (1, 0, 1, None)
    assert "the golden chunks moved by" in own.last_withheld
    returned = made(own, policy, "rolled_back")
    own.keep(returned, "rolled_back")
    with torch.no_grad():
        policy.velocity_layer.bias.fill_(float("nan"))
    assert own.make(policy, "rolled_back", 0, METRICS) is None
    policy.load_state_dict(sound)
    assert own.make(policy, "learned", 0, METRICS) is None
    back = made(own, policy, "rolled_back")
    assert (generation(returned), generation(back), own.withheld) == (2, 3, 3)


def test_killed_while_it_keeps_a_generation(artifact: Artifact, tmp_path: Path) -> None:
    """Noted but not kept, or half noted: that generation never was, its number is free, and what is kept descends as before."""
    policy, own = policy_of(artifact), publications(tmp_path, artifact)
    kept = made(own, policy, "learned")
    own.keep(kept, "learned")
    content = (tmp_path / OFFER_FILE).read_bytes()
    own.keep(made(own, policy, "learned"), "learned")
    (tmp_path / OFFER_FILE).write_bytes(content)
    with (tmp_path / PUBLICATIONS_FILE).open("ab") as stream:
        stream.write(b'{"generation":4,"par')
    again = publications(tmp_path, artifact)
    assert (again.generation, again.published) == (2, 1)
    assert again.newest is not None
    assert (again.newest.manifest, again.newest.files) == (kept.manifest, kept.files)
    assert [one.generation for one in read_publications(tmp_path)] == [2]
    assert generation(again.make(policy, "learned", 0, METRICS)) == 3


def test_generations_of_another_policy_are_refused(artifact: Artifact, tmp_path: Path) -> None:
    """A run goes on with the artifact it began with, and with one that can be improved at all."""
    own = publications(tmp_path, artifact)
    own.keep(made(own, policy_of(artifact), "learned"), "learned")
    for changes, reason in (({"graph_hash": "0" * 64}, "began with"), ({"swappable": False}, "weights as inputs")):
        manifest = msgspec.structs.replace(artifact.manifest, **changes)
        other = Artifact(artifact.path, manifest, artifact.graphs, artifact.tensors, artifact.golden)
        with pytest.raises(ArtifactError, match=reason):
            publications(tmp_path, other)
