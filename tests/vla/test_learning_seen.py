"""A VLA that sees learns from the images that the robot saw: marks in observations name them, wherever they lie."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from poco.episodes import write_episode
from poco.errors import ArtifactError, UsageError
from poco.export.vla.exporting import export_vla
from poco.export.vla.options import Progress
from poco.learner.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from poco.learner.cloning_commands import clone
from poco.learner.demonstrations import Recorded
from poco.learner.learning import Learning, Run
from poco.learner.ranks import Ranks
from poco.learner.recipe import read_training_settings
from poco.learner.sight import encoded
from poco.learner.vla.eyes import MARK, EpisodeAlbum, Eyes
from poco.learner.vla.opening import open_vla
from poco.learner.vla.policy import VlaPolicy
from poco.learner.vla.prefixes import Prefixes
from poco.records import EpisodeEnd, Step, StepKey
from poco.runtime.vla_session import VlaSession
from poco.specification import Specification, read_specification
from poco.views import Shown, Views
from poco.vla import PolicyType
from vla import tiny
from vla.conftest import KINDS
from vla.learning_policies import network_of
from vla.tiny_artifact import options_of

SIDES = {"smolvla": 64, "pi0": 42, "pi05": 42}
CAMERAS = tiny.CAMERAS


def made_of(kind: PolicyType, folder: Path) -> tiny.Made:
    changes = {} if kind == "smolvla" else {"image_resolution": (SIDES[kind], SIDES[kind])}
    return tiny.make(kind, folder, specification=tiny.SEEN_SPECIFICATION, changes=changes)


def opened(made: tiny.Made, kind: PolicyType, cameras: tuple[str, ...] = ("near=near", "wrist=wrist")) -> VlaPolicy:
    """The policy of `made` as the learner has it."""
    network = msgspec.structs.replace(network_of(made, kind), cameras=cameras)
    with tiny.tiny_sizes(made):
        return open_vla(network, told())


def told() -> Specification:
    return read_specification(tiny.SEEN_SPECIFICATION)


def pictures(count: int, side: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, len(CAMERAS), 3, side, side), np.uint8)


def episode(number: int, steps: int, side: int) -> Recorded:
    """An episode of random steps with random images, one of a kind for each number."""
    draw, specification = np.random.default_rng(number), told()
    observations = draw.uniform(-1, 1, (steps + 1, specification.observation_size)).astype(np.float32)
    end = EpisodeEnd(
        robot="arm",
        boot_epoch=1,
        episode=number,
        tick=steps * specification.period_ticks,
        final_observation=observations[-1].tolist(),
        outcome="success",
        terminated=True,
        truncated=False,
    )
    actions = draw.uniform(-1, 1, (steps, specification.action_size)).astype(np.float32)
    rewards = np.zeros(steps, np.float32)
    rewards[-1] = 1.0
    views = Views(CAMERAS, pictures(steps + 1, side, number), np.zeros((steps + 1, 0), np.float32))
    return Recorded(specification, observations[:-1], actions, rewards, end, views)


@pytest.mark.parametrize("kind", KINDS)
def test_the_learner_sees_what_the_robot_sees(kind: PolicyType, tmp_path: Path) -> None:
    """Chunks of learner and robot agree to 1e-4 for the same images and state, and another image moves both."""
    made = made_of(kind, tmp_path)
    policy = opened(made, kind)
    options = replace(options_of(made, tmp_path / "artifact"), specification=tiny.SEEN_SPECIFICATION, chunk=False)
    with tiny.tiny_sizes(made):
        artifact = export_vla(options, Progress(lambda line: None))
    session, draw = VlaSession(artifact, tiny.TASK), np.random.default_rng(2)
    images, chunks = pictures(2, SIDES[kind]), []
    state = draw.uniform(-1, 1, told().observation_size).astype(np.float32)
    noise = draw.standard_normal(policy.noise_shape, np.float32)
    for seen in images:
        assert policy.eyes is not None
        observation = policy.eyes(torch.from_numpy(seen[None]), torch.from_numpy(state[None]))
        with torch.inference_mode():
            ours = policy(observation, torch.from_numpy(noise)[None])[0].numpy()
        theirs = session.run(state, noise, [np.ascontiguousarray(image.transpose(1, 2, 0)) for image in seen])
        np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=0.0)
        chunks.append(ours)
    assert np.abs(chunks[0] - chunks[1]).max() > 1e-3


def test_it_is_cloned_from_episode_files_with_images(tmp_path: Path) -> None:
    """`clone --start` goes on from an adopted policy with what `record --image-side` leaves: its expert learns, what sees stays."""
    made = made_of("pi0", tmp_path)
    policy, data, out = opened(made, "pi0"), tmp_path / "episodes", tmp_path / "cloned"
    write_checkpoint(tmp_path / "start", Checkpoint(policy.specification, policy, {}))
    data.mkdir()
    for number in range(3):
        one = episode(number, 8, SIDES["pi0"])
        assert one.views is not None
        rows = zip(one.observations.tolist(), one.actions_policy.tolist(), one.rewards.tolist(), strict=True)
        steps = [
            Step(
                key=StepKey("arm", 1, number, step),
                tick=step * one.specification.period_ticks,
                generation=0,
                chunk_id=step,
                observation=observation,
                action_policy=action,
                action_executed=action,
                reward=reward,
                intervened=True,
            )
            for step, (observation, action, reward) in enumerate(rows)
        ]
        write_episode(data / f"{number}.safetensors", one.specification, steps, one.end, one.views)
    with tiny.tiny_sizes(made):
        clone(data, out, tmp_path / "start", steps=2, batch=4)
        before, after = read_checkpoint(tmp_path / "start").policy, read_checkpoint(out).policy
    assert isinstance(before, VlaPolicy)
    assert isinstance(after, VlaPolicy)
    assert before.eyes is not None
    assert after.eyes is not None
    assert after.eyes.digest() == before.eyes.digest()
    old, new = before.state_dict(), after.state_dict()
    assert set(new) == set(old)
    assert not all(weight.equal(old[name]) for name, weight in new.items())


def test_an_image_that_is_not_there_is_masked_off(tmp_path: Path) -> None:
    """With marks of nothing the policy does what the same one does that has no cameras at all."""
    made = made_of("pi05", tmp_path)
    seeing, blind = opened(made, "pi05"), opened(made, "pi05", ())
    draw = torch.Generator().manual_seed(0)
    state = torch.rand(3, told().observation_size, generator=draw) * 2 - 1
    noise = torch.randn(3, *seeing.noise_shape, generator=draw)
    nothing = torch.zeros(3, MARK * len(CAMERAS))
    torch.testing.assert_close(seeing(torch.cat((nothing, state), dim=1), noise), blind(state, noise))


def test_learning_finds_the_images_in_the_replay(tmp_path: Path) -> None:
    """With no room for prefixes and the newest images forgotten, updates go on from the replay's; so does a resumed run."""
    made = made_of("pi0", tmp_path)
    policy = opened(made, "pi0")
    assert policy.eyes is not None
    episodes = tuple(encoded(episode(number, 12, 42), policy.eyes, policy.specification) for number in range(3))
    assert episodes[0].observations.shape[1] == told().observation_size + MARK * len(CAMERAS)
    write_checkpoint(tmp_path / "start", Checkpoint(policy.specification, policy, {}))
    recipe = read_training_settings(tiny.CONFIGS / "cpu" / "peg_in_hole_vla.yaml")
    agent = msgspec.structs.replace(recipe.agent, critic_reads="actions", candidates=4, posterior_states=4)
    settings = msgspec.structs.replace(recipe, batch=8, warm_up_steps=0, agent=agent)
    with tiny.tiny_sizes(made):
        start = read_checkpoint(tmp_path / "start")
        assert start.specification == policy.specification
        assert start.eyes is not None
        shown = Shown(cameras=CAMERAS, side=42, target_size=0)
        run = Run(settings, 0, tmp_path / "run", episodes, start)
        learning = Learning(run, policy.specification, "the test", shown=shown)
        eyes, acting = start.eyes, learning.policy
        assert isinstance(eyes, Eyes)
        assert isinstance(acting, VlaPolicy)
        acting.prefixes = Prefixes(limit_bytes=1)
        eyes._newest.clear()
        figures = learning.updates(2, "learning")
        assert len(figures) == 2
        assert all(np.isfinite(list(one.values())).all() for one in figures)
        assert acting.prefixes.made > 16
        learning.checkpoint()
        again = Run(settings, 0, tmp_path / "run", start=read_checkpoint(tmp_path / "run"))
        resumed = Learning(again, policy.specification, "the test", resume=True)
        assert len(resumed.updates(1, "learning")) == 1
        eyes.albums.clear()
        with pytest.raises(ArtifactError, match="names an image that is not there"):
            learning.updates(1, "learning")


def test_ranks_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    """A policy that sees by marks learns in one process; several are told so before a replay or networks are made."""
    policy = opened(made_of("pi0", tmp_path), "pi0")
    recipe = read_training_settings(tiny.CONFIGS / "cpu" / "peg_in_hole_vla.yaml")
    start = Checkpoint(policy.specification, policy, {})
    run = Run(recipe, 0, tmp_path / "run", start=start, ranks=Ranks(rank=1, count=2))
    with pytest.raises(UsageError, match="2 ranks cannot share"):
        Learning(run, policy.specification, "the test")
    assert not run.out.exists()


def test_cloning_finds_the_images_of_its_episodes(tmp_path: Path) -> None:
    """An album of episodes gives each image of theirs by its mark, the last ones included, and none that is not in them."""
    policy = opened(made_of("pi0", tmp_path), "pi0")
    assert policy.eyes is not None
    one = encoded(episode(0, 5, 42), policy.eyes, policy.specification)
    album = EpisodeAlbum(policy.eyes, [one])
    assert one.views is not None
    for row, images in zip([*one.observations, one.end.final_observation], one.views.images, strict=True):
        marks = np.array(row, np.float32)[: policy.eyes.size].reshape(len(CAMERAS), MARK)
        for mark, image in zip(marks, images, strict=True):
            np.testing.assert_array_equal(album.find(mark.tobytes()), image)
    assert album.find(np.ones(MARK, np.float32).tobytes()) is None
