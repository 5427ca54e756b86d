"""`poco-learner serve` begins with what fits together, says in one sentence what does not, and goes on where it was."""

from __future__ import annotations

import dataclasses
import shutil
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from learning_toys import SMALL
from link_run import keys_for
from poco.artifact import MANIFEST, Artifact
from poco.errors import AddressError, ArtifactError, PocoError, UsageError
from poco.learner import serving_commands
from poco.learner.learning import Run
from poco.learner.link_server import LinkServer
from poco.learner.rollouts import make_environment
from poco.learner.serving_commands import serve
from poco.learner.trained_policy import flow_policy
from poco.learner.training import Learner
from poco.learner.training_state import read_state, write_state
from poco.trust import write_private_key
from recipes import reach_recipe
from toy_vla import Toy, altered


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def flags(artifact: Artifact, tmp_path: Path) -> dict[str, Any]:
    """Flags that fit together."""
    write_private_key(tmp_path / "learner.key", Ed25519PrivateKey.generate())
    return {
        "artifact": artifact.path,
        "out": tmp_path / "served",
        "config": written(tmp_path / "recipe.yaml"),
        "bind": "tcp://127.0.18.55:0",
        "signing_key": tmp_path / "learner.key",
    }


def written(file: Path, **changes: Any) -> Path:
    """A recipe with some of its values replaced, as a file."""
    file.write_text(yaml.safe_dump(msgspec.to_builtins(reach_recipe(bf16_sampling="off", **changes))))
    return file


def begin(monkeypatch: pytest.MonkeyPatch, flags: dict[str, Any]) -> None:
    """Serve for no longer than it takes to begin and to end well."""
    with monkeypatch.context() as patch:
        patch.setattr(serving_commands, "_work", lambda served, *_: served.checkpoint())
        serve(**flags)


def test_what_does_not_fit_is_one_sentence(flags: dict[str, Any], tmp_path: Path) -> None:
    """Key, recipe, method, addresses and folders: what is wrong, and what to do about it."""
    greedy = written(tmp_path / "greedy.yaml", agent=msgspec.structs.replace(SMALL, method="qc"))
    cases: list[tuple[dict[str, Any], type[PocoError], str]] = [
        ({"signing_key": tmp_path / "none.key"}, ArtifactError, "poco-trust init"),
        ({"config": None}, UsageError, "--config is missing"),
        ({"config": greedy}, UsageError, "choose poco in the recipe"),
        ({"bind": "tcp://192.0.2.1:7766"}, AddressError, "poco-keys init"),
        ({"status": "0.0.0.0:0"}, AddressError, "one of this computer's own"),
        ({"status": "127.0.0.1:99999"}, AddressError, "one of this computer's own"),
        ({"start": tmp_path / "nowhere"}, ArtifactError, "no checkpoint of a training run"),
        ({"threads": 0}, UsageError, "--threads is 0"),
    ]
    for changes, kind, sentence in cases:
        with pytest.raises(kind, match=sentence):
            serve(**{**flags, **changes})
    assert not (tmp_path / "served" / "replay").exists()


@pytest.mark.parametrize(("width", "height"), [(640, 480), (1025, 1025), (8, 8)])
def test_images_that_robots_cannot_send_are_refused_before_anything_is_begun(
    flags: dict[str, Any], tmp_path: Path, width: int, height: int
) -> None:
    """An artifact says whether its policy looks at squares of a size that a journal takes; where it does, serving goes on."""
    toy = Toy()
    cameras = tuple(msgspec.structs.replace(camera, width=width, height=height) for camera in toy.vla.cameras)
    made = altered(toy.write(tmp_path / "vla"), cameras=cameras)
    (made.path / MANIFEST).write_bytes(msgspec.json.encode(made.manifest))
    adopted = {**flags, "artifact": made.path, "adopted": tmp_path / "adopted"}
    with pytest.raises(ArtifactError) as refused:
        serve(**adopted)
    limit = f"sees images of {width} x {height} pixels, robots send squares of at most 1024 x 1024: train its checkpoint with"
    assert (limit in str(refused.value)) == (width != 8)
    assert (str(tmp_path / "adopted") in str(refused.value)) == (width == 8)
    assert not (tmp_path / "served").exists()


def test_a_taken_address_gives_everything_back(flags: dict[str, Any], tmp_path: Path) -> None:
    """A learner with keys that finds its address taken says so and leaves inbox, context and authenticator to the next one."""
    keys, _ = keys_for(tmp_path, "arm")
    first = LinkServer(tmp_path / "first", "", "tcp://127.0.18.55:0", None)
    try:
        for _ in range(2):
            with pytest.raises(AddressError, match="cannot be bound"):
                serve(**{**flags, "bind": first.address, "keys": keys})
    finally:
        first.close()
    assert not any(thread.name.startswith("Thread-") and thread.is_alive() for thread in threading.enumerate())


def test_a_run_is_begun_once_and_resumed(
    flags: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, artifact: Artifact
) -> None:
    """--resume begins a run that is not there yet, also where a kill left only its replay; without it a run is left alone.

    A run whose states are lost is none that is not there yet: its replay stays.
    """
    out = tmp_path / "served"
    begin(monkeypatch, {**flags, "resume": True})
    shutil.rmtree(out / "states")
    with pytest.raises(ArtifactError, match="no state to go on from"):
        serve(**{**flags, "resume": True})
    assert (out / "replay").is_dir()
    (out / "policy.safetensors").unlink()
    begin(monkeypatch, {**flags, "resume": True, "seed": 5})
    with pytest.raises(ArtifactError, match="already holds a replay"):
        serve(**flags)
    slower = written(tmp_path / "slower.yaml", publish={"updates": 7})
    begin(monkeypatch, {**flags, "resume": True, "config": slower})
    state = read_state(out / "states")
    assert (state.identity.seed, state.identity.settings.publish.updates) == (5, 7)
    for key, value in artifact.tensors.items():
        assert torch.equal(state.tensors[f"actor.{key}"], torch.from_numpy(value.copy())), key
    with pytest.raises(ArtifactError, match="other settings"):
        serve(**{**flags, "resume": True, "config": written(tmp_path / "other.yaml", batch=4)})


def test_a_lost_inbox_is_noticed(flags: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint that has learned from more than the inbox ever held would skip what comes: it is refused."""
    begin(monkeypatch, flags)
    states = tmp_path / "served" / "states"
    write_state(states, dataclasses.replace(read_state(states), inbox_position=9))
    with pytest.raises(ArtifactError, match="put the inbox back"):
        serve(**{**flags, "resume": True})


def test_a_run_begins_with_the_critic_of_another(
    flags: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--start takes actor, critics, moments and the guard's level over; other layers or another critic are refused."""
    recipe = reach_recipe(bf16_sampling="off", episodes=4, evaluation_interval=0)
    before = Learner(Run(recipe, 1, tmp_path / "before"), make_environment(recipe.task))
    for _ in before.episodes():
        pass
    begin(monkeypatch, {**flags, "start": tmp_path / "before"})
    ours, theirs = (read_state(folder / "states") for folder in (tmp_path / "served", tmp_path / "before"))
    assert ours.progress.guard.measured
    assert ours.progress.guard.baseline == theirs.progress.guard.baseline
    assert (ours.progress.updates, ours.progress.steps) == (0, 0)
    for key, value in theirs.tensors.items():
        if not key.startswith(("best.", "generator")):
            assert torch.equal(ours.tensors[key], value), key
    wider = msgspec.structs.replace(SMALL, critic_hidden_sizes=(8, 8))
    config = written(tmp_path / "wider.yaml", agent=wider)
    with pytest.raises(ArtifactError, match="has a critic with critic_hidden_sizes"):
        serve(**{**flags, "out": tmp_path / "new", "start": tmp_path / "before", "config": config})
    narrow = Learner(
        Run(msgspec.structs.replace(recipe, actor_hidden_sizes=(8, 8)), 1, tmp_path / "narrow"),
        make_environment(recipe.task),
    )
    assert flow_policy(narrow.policy).architecture.hidden_sizes == (8, 8)
    with pytest.raises(ArtifactError, match="start from a run that began with this policy"):
        serve(**{**flags, "out": tmp_path / "new", "start": tmp_path / "narrow"})
