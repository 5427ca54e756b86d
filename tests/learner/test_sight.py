"""A policy that sees: images are recorded, cloned from, encoded once and measured, by the commands that a user has."""

from __future__ import annotations

import ctypes.util
import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from poco.errors import ArtifactError, UsageError
from poco.learner import environments, rollouts
from poco.learner.acting import chunk_actor
from poco.learner.checkpoint import Checkpoint, read_checkpoint
from poco.learner.cloning_commands import clone
from poco.learner.data_commands import make_data
from poco.learner.demonstrations import Demonstrations, read_demonstrations
from poco.learner.encoder import with_features
from poco.learner.environment_pool import EnvironmentPool
from poco.learner.environment_process import Parameters
from poco.learner.image_cloning import ImageCloningSettings, clone_images
from poco.learner.image_policy import EncoderArchitecture, ImageEncoder
from poco.learner.recipe import read_training_settings
from poco.learner.replay import Replay
from poco.learner.rollouts import Actor
from poco.learner.sight import ENCODED_BYTES, Seeing, encode, encoded
from poco.learner.training_commands import TASK, evaluate, train
from recipes import reach_recipe

EPISODES, SIDE, STEPS = 8, 64, 60
pytestmark = pytest.mark.skipif(
    ctypes.util.find_library("EGL") is None and ctypes.util.find_library("OSMesa") is None,
    reason="neither libegl1 nor libosmesa6 is installed",
)


@pytest.fixture(scope="module", autouse=True)
def renderer_left_as_it_was() -> Iterator[None]:
    """Rendering chooses a way for this process and its children; later tests are to find none chosen."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MUJOCO_GL", "PYOPENGL_PLATFORM"):
            patch.setenv(name, os.environ.get(name, ""))
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Demonstrations with images, by the command."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("seen")
    make_data(folder, episodes=EPISODES, noise=0.2, image_side=SIDE)
    return folder


@pytest.fixture(scope="module")
def demonstrations(data: Path) -> Demonstrations:
    return read_demonstrations(data)


@pytest.fixture(scope="module")
def folder(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint cloned from them, by the command."""
    out = tmp_path_factory.mktemp("seeing")
    clone(data, out, steps=STEPS, batch=32, hidden_sizes=(64, 64), features=8, width=4)
    return out


@pytest.fixture(scope="module")
def seeing(folder: Path) -> Checkpoint:
    return read_checkpoint(folder)


def encoder_of(checkpoint: Checkpoint) -> ImageEncoder:
    assert checkpoint.encoder is not None
    return checkpoint.encoder


def actor_of(checkpoint: Checkpoint) -> Actor:
    return chunk_actor(checkpoint.policy, None, checkpoint.specification, 1, 5)


def test_recorded_images_belong_to_their_steps(demonstrations: Demonstrations) -> None:
    """Every step has an image of both cameras and the end one more; where the target is stands beside it and is not observed."""
    assert not any("target" in field.name for field in demonstrations.specification.observation)
    for episode in demonstrations.episodes:
        views = episode.views
        assert views is not None
        assert views.cameras == ("near", "wrist")
        assert views.images.shape == (len(episode.rewards) + 1, 2, 3, SIDE, SIDE)
        assert views.images.dtype == np.uint8
        assert views.target.shape == (len(episode.rewards) + 1, 8)
        assert np.abs(views.target).max() <= 1.0
        assert np.ptp(views.images[:, 1].astype(int), axis=0).max() > 100
        assert np.abs(views.target[0, :3]).max() > np.abs(views.target[-1, :2]).max()


def test_a_policy_learns_to_see(folder: Path) -> None:
    """On scenes never seen the error of the target's pose and the flow loss fall; the command leaves figures and a picture."""
    assert {item.name for item in folder.iterdir()} >= {"policy.safetensors", "training.json", "loss.png"}
    curve = json.loads((folder / "training.json").read_text())["curve"]
    assert [point["step"] for point in curve] == [0, STEPS]
    assert curve[-1]["pose"] < 0.7 * curve[0]["pose"]
    assert curve[-1]["flow"] < 0.95 * curve[0]["flow"]


def test_cloning_again_gives_the_same_policy(demonstrations: Demonstrations) -> None:
    """The same settings and data give the same encoder and flow policy bit for bit, another seed does not."""
    few = Demonstrations(demonstrations.specification, demonstrations.episodes[:2])
    settings = [ImageCloningSettings(steps=2, batch=4, features=2, width=2, seed=seed) for seed in (1, 1, 2)]
    digests = [clone_images(few, one).policy.encoder.digest() for one in settings]
    assert digests[0] == digests[1] != digests[2]


def test_evaluation_renders_what_the_policy_sees(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`evaluate` finds out by itself that images are needed, and keeps the figure with policy and encoder."""
    before = encoder_of(read_checkpoint(folder)).digest()
    evaluate(folder, episodes=1)
    figures = json.loads(capsys.readouterr().out)
    after = read_checkpoint(folder)
    assert figures["episodes"] == 1
    assert after.metrics["success_easy"] == figures["rate"]
    assert encoder_of(after).digest() == before


def test_images_are_encoded_once(seeing: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """An episode of n steps encodes n + 1 images of each camera, and its steps hold what their own images give."""
    encoder, counted = encoder_of(seeing), []
    forward = encoder.forward

    def count(images: Tensor, state: Tensor) -> Tensor:
        counted.append(len(images))
        return forward(images, state)

    monkeypatch.setattr(encoder, "forward", count)
    environment = Seeing(rollouts.make_environment(TASK, image_side=SIDE, episode_steps=17), encoder)
    assert environment.specification == seeing.specification
    (rolled,) = rollouts.roll(environment, actor_of(seeing), range(1), 3)
    environment.close()
    assert rolled.views is not None
    assert len(rolled.steps) == 17
    assert sum(counted) == 18
    seen = np.array([*(step.observation for step in rolled.steps), rolled.end.final_observation], np.float32)
    size = encoder.architecture.size
    again = encode(encoder, rolled.views.images, seen[:, size:])
    np.testing.assert_allclose(again, seen, atol=1e-5)
    assert np.abs(seen).max() <= 1.0
    assert np.ptp(seen[:, :size], axis=0).max() > 0.01


@pytest.mark.parametrize("side", [64, 512])
def test_images_of_any_size_are_encoded_within_the_same_memory(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large images go through the encoder few at a time, small ones many, and each observation is that of its own images."""
    encoder = ImageEncoder(EncoderArchitecture(cameras=("near",), side=side, features=2, width=2)).freeze()
    count = 3 * ENCODED_BYTES // (3 * side * side) // 2
    images = np.random.default_rng(side).integers(0, 256, (count, 1, 3, side, side), np.uint8)
    blocks, forward = [], encoder.forward

    def noted(images: Tensor, state: Tensor) -> Tensor:
        blocks.append(images.nbytes)
        return forward(images, state)

    monkeypatch.setattr(encoder, "forward", noted)
    state = np.linspace(-1, 1, count, dtype=np.float32)[:, None]
    seen = encode(encoder, images, state)
    assert sum(blocks) == images.nbytes
    assert ENCODED_BYTES - 3 * side * side < max(blocks) <= ENCODED_BYTES
    np.testing.assert_array_equal(seen[:, -1], state[:, 0])
    for place in (0, -1):
        np.testing.assert_allclose(seen[place], encode(encoder, images[[place]], state[[place]])[0], atol=1e-5)


def test_images_from_other_processes_are_the_same(seeing: Checkpoint, tmp_path: Path) -> None:
    """An environment in a process of its own gives the episodes that one in this process gives, images and all."""
    encoder = encoder_of(seeing)
    parameters: Parameters = {"image_side": SIDE, "episode_steps": 6}
    with environments.one_environment(TASK, parameters, tmp_path, None, encoder) as environment:
        here = list(rollouts.roll(environment, actor_of(seeing), range(2), 3))
        specification, shown = rollouts.specification_of(environment), rollouts.shown_by(environment)
    with environments.environment_processes(1, TASK, parameters, tmp_path, None, encoder) as processes:
        assert (processes[0].specification, processes[0].shown) == (specification, shown)
        there = list(EnvironmentPool(processes, lambda: actor_of(seeing), 3).roll(range(2)))
    assert there == here
    for one, other in zip(here, there, strict=True):
        assert one.views is not None
        assert other.views is not None
        assert np.array_equal(one.views.images, other.views.images)
        assert np.array_equal(one.views.target, other.views.target)
        assert len(one.views.images) == 7


def test_without_a_pose_the_flow_alone_teaches_to_see(demonstrations: Demonstrations) -> None:
    """Images of a robot come without a target: the encoder learns from the actions, and what it makes depends on the images."""
    bare = tuple(
        dataclasses.replace(
            episode,
            views=dataclasses.replace(episode.views, target=np.zeros((len(episode.rewards) + 1, 0), np.float32)),
        )
        for episode in demonstrations.episodes
        if episode.views is not None
    )
    settings = ImageCloningSettings(steps=6, batch=16, hidden_sizes=(32,), features=4, width=2, validation_interval=3)
    cloned = clone_images(Demonstrations(demonstrations.specification, bare), settings)
    assert cloned.policy.architecture.pose_size == 0
    assert cloned.metrics["validation_pose_error"] == 0.0
    assert np.isfinite(cloned.metrics["validation_loss"])
    assert bare[0].views is not None
    state = np.zeros((2, demonstrations.specification.observation_size), np.float32)
    seen = encode(cloned.policy.encoder, bare[0].views.images[[0, -1]], state)
    assert not np.array_equal(seen[0], seen[1])


def test_recorded_episodes_are_seen_as_they_happened(seeing: Checkpoint, demonstrations: Demonstrations) -> None:
    """Encoding a recorded episode changes its observations and nothing else, and takes no other cameras or sizes."""
    encoder, episode = encoder_of(seeing), demonstrations.episodes[0]
    specification = with_features(demonstrations.specification, encoder)
    assert specification == seeing.specification
    seen = encoded(episode, encoder, specification)
    size = encoder.architecture.size
    assert seen.observations.shape == (len(episode.rewards), specification.observation_size)
    assert np.array_equal(seen.observations[:, size:], episode.observations)
    assert np.array_equal(seen.actions_policy, episode.actions_policy)
    assert seen.end.final_observation[size:] == pytest.approx(episode.end.final_observation)
    changes: list[tuple[dict[str, Any], str]] = [
        ({"side": 32}, "--image-side 32"),
        ({"cameras": ("a", "b")}, "cameras a, b"),
    ]
    for change, says in changes:
        other = ImageEncoder(msgspec.structs.replace(encoder.architecture, **change))
        with pytest.raises(ArtifactError, match=says):
            encoded(episode, other, specification)


def test_images_and_policies_that_do_not_fit_are_refused(
    data: Path, folder: Path, demonstrations: Demonstrations, tmp_path: Path
) -> None:
    """An environment without images for a policy that sees, images for one that does not, data of two kinds, foreign weights."""
    blind = rollouts.make_environment(TASK)
    encoder = ImageEncoder(EncoderArchitecture(cameras=("near", "wrist"), side=SIDE, features=2, width=2))
    with pytest.raises(UsageError, match="gives no images"):
        Seeing(blind, encoder)
    make_data(tmp_path / "blind", episodes=2)
    with pytest.raises(UsageError, match="holds no images"):
        clone(tmp_path / "blind", tmp_path / "out", steps=1, image_weights=tmp_path / "weights.safetensors")
    make_data(tmp_path / "smaller", episodes=1, image_side=32)
    name = next(iter((tmp_path / "smaller").iterdir())).name
    (data / name).rename(tmp_path / "kept")
    try:
        (tmp_path / "smaller" / name).rename(data / name)
        with pytest.raises(ArtifactError, match="differ in what cameras saw"):
            read_demonstrations(data)
    finally:
        (tmp_path / "kept").rename(data / name)
    with pytest.raises(UsageError, match="image_side is 7"):
        rollouts.make_environment(TASK, image_side=7)


def recipe(file: Path, **changes: Any) -> Path:
    """Write a recipe of short episodes to `file`."""
    settings = reach_recipe(
        task=TASK,
        environment={"variant": "easy", "episode_steps": 10},
        warm_up_steps=15,
        evaluation_interval=0,
        replay_bytes=15_000_000,
        **changes,
    )
    file.write_text(yaml.safe_dump(msgspec.to_builtins(settings)))
    return file


def test_the_policy_behind_the_encoder_is_improved(
    data: Path, folder: Path, seeing: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`train` changes the flow policy and nothing of the encoder, and a run that was broken off ends as an unbroken one does."""
    config, whole, broken = recipe(tmp_path / "recipe.yaml"), tmp_path / "whole", tmp_path / "broken"
    train(whole, config, data, folder, episodes=3)
    train(broken, config, data, folder, episodes=2)
    train(broken, episodes=3, resume=True)
    first, second = read_checkpoint(whole), read_checkpoint(broken)
    assert first.specification == seeing.specification
    assert encoder_of(first).digest() == encoder_of(second).digest() == encoder_of(seeing).digest()
    before, one, two = (checkpoint.policy.state_dict() for checkpoint in (seeing, first, second))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(before["velocity_layer.weight"], one["velocity_layer.weight"])
    replay = Replay.open(whole / "replay", seeing.specification)
    assert replay.episodes == EPISODES + 3
    for recorded, kept in zip(read_demonstrations(data).episodes, replay.recorded(), strict=False):
        assert recorded.views is not None
        assert kept.views is not None
        assert np.array_equal(recorded.views.images, kept.views.images)
    clone(whole, tmp_path / "again", steps=1, batch=4, features=2, width=2)
    again = encoder_of(read_checkpoint(tmp_path / "again"))
    assert again.architecture.cameras == encoder_of(seeing).architecture.cameras
    assert again.digest() != encoder_of(seeing).digest()
    evaluate(whole, episodes=1, best_of=2)
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["best_of"] == 2


def test_training_refuses_what_does_not_fit(data: Path, folder: Path, tmp_path: Path) -> None:
    """Images without a policy that sees, and data without images."""
    config = recipe(tmp_path / "recipe.yaml")
    make_data(tmp_path / "blind", episodes=1)
    with pytest.raises(ArtifactError, match="there are images of none"):
        train(tmp_path / "b", config, tmp_path / "blind", folder)
    shown = read_training_settings(config)
    shown = msgspec.structs.replace(shown, environment={**shown.environment, "image_side": SIDE})
    config.write_text(yaml.safe_dump(msgspec.to_builtins(shown)))
    with pytest.raises(UsageError, match="no policy that sees"):
        train(tmp_path / "c", config, data)
