"""Windows pair what was seen with what was done delay_steps later, inside one episode of one specification."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from poco.episodes import Episode, read_episode, write_episode
from poco.errors import ArtifactError
from poco.learner.demonstrations import read_demonstrations, windows
from poco.specification import Specification
from poco.views import Views


def write_all(folder: Path, episodes: tuple[Episode, ...]) -> None:
    for episode in episodes:
        write_episode(
            folder / f"{episode.end.episode:06d}.safetensors", episode.specification, episode.steps, episode.end
        )


@pytest.mark.parametrize("delay_steps", [0, 1, 2])
def test_windows_hold_the_actions_after_the_delay(
    specification: Specification, demonstrations: tuple[Episode, ...], delay_steps: int
) -> None:
    """Window k of an episode of 15 steps: observation k, actions k + delay and on, zero and invalid beyond the end."""
    delayed = msgspec.structs.replace(specification, delay_steps=delay_steps)
    cut = windows(demonstrations[:2], delayed)
    per_episode = 15 - delay_steps
    assert len(cut) == 2 * per_episode
    for number, episode in enumerate(demonstrations[:2]):
        for step in range(per_episode):
            row = number * per_episode + step
            np.testing.assert_array_equal(cut.observation[row], episode.observations[step])
            real = min(5, 15 - delay_steps - step)
            first = step + delay_steps
            np.testing.assert_array_equal(cut.chunk[row, :real], episode.actions_policy[first : first + real])
            np.testing.assert_array_equal(cut.chunk[row, real:], 0.0)
            np.testing.assert_array_equal(cut.valid[row], np.arange(5) < real)


def test_joint_positions_are_padded_with_the_last_one(
    specification: Specification, demonstrations: tuple[Episode, ...]
) -> None:
    """Zero motion of absolute joint targets is the last target."""
    joints = msgspec.structs.replace(
        specification,
        action_space="joint_position",
        delta_base="none",
        action=(msgspec.structs.replace(specification.action[0], low=(-1.0,) * 7, high=(1.0,) * 7),),
    )
    steps = tuple(
        msgspec.structs.replace(step, action_policy=[0.1 * step.key.step] * 7) for step in demonstrations[0].steps
    )
    cut = windows([replace(demonstrations[0], specification=joints, steps=steps)], joints)
    np.testing.assert_allclose(cut.chunk[-1], 1.4, rtol=1e-6)
    assert cut.valid[-1].sum() == 1


def test_episodes_too_short_for_the_delay_are_refused(
    specification: Specification, demonstrations: tuple[Episode, ...]
) -> None:
    """An episode of one step has no action after the delay; alone it is an error, beside others it is left out."""
    short = replace(demonstrations[0], steps=demonstrations[0].steps[:1])
    with pytest.raises(ArtifactError, match="record longer episodes"):
        windows([short], specification)
    assert len(windows([short, demonstrations[1]], specification)) == 14


def test_a_folder_is_read_in_order(tmp_path: Path, demonstrations: tuple[Episode, ...]) -> None:
    """All files come back in the order of their names."""
    write_all(tmp_path, demonstrations)
    read = read_demonstrations(tmp_path)
    assert [episode.end.episode for episode in read.episodes] == list(range(12))
    assert read.specification == demonstrations[0].specification


def test_mixed_specifications_and_empty_folders_are_refused(
    tmp_path: Path, demonstrations: tuple[Episode, ...]
) -> None:
    """One folder holds one specification; none at all is said too."""
    with pytest.raises(ArtifactError, match="no episode files"):
        read_demonstrations(tmp_path)
    (tmp_path / "episodes").mkdir()
    with pytest.raises(ArtifactError, match=f"no episode files .* in {tmp_path}: give {tmp_path}/episodes"):
        read_demonstrations(tmp_path)
    other = msgspec.structs.replace(demonstrations[0].specification, rate_hz=10.0)
    write_all(tmp_path, (demonstrations[0], replace(demonstrations[1], specification=other)))
    with pytest.raises(ArtifactError, match="different specifications"):
        read_demonstrations(tmp_path)


def test_views_are_kept_with_their_episode(demonstrations: tuple[Episode, ...], tmp_path: Path) -> None:
    """Images and target come back as they were; a file without them is as it always was, and images of other steps are refused."""
    episode, file = demonstrations[0], tmp_path / "episode.safetensors"
    random, count = np.random.default_rng(0), len(demonstrations[0].steps) + 1
    images = random.integers(0, 256, (count, 2, 3, 8, 8), dtype=np.uint8)
    target = random.uniform(-1.0, 1.0, (count, 3)).astype(np.float32)
    views = Views(("left", "right"), images, target)
    write_episode(file, episode.specification, episode.steps, episode.end, views)
    read = read_episode(file)
    assert read == episode
    assert read.views is not None
    assert read.views.cameras == ("left", "right")
    assert np.array_equal(read.views.images, images)
    assert np.array_equal(read.views.target, target)
    payload = file.read_bytes()
    write_episode(file, episode.specification, episode.steps, episode.end)
    assert read_episode(file).views is None
    assert b"cameras" not in file.read_bytes()
    for wrong in (
        replace(views, images=images[1:]),
        replace(views, images=images[:, :1]),
        replace(views, target=target[1:]),
    ):
        with pytest.raises(ArtifactError, match="do not belong"):
            write_episode(file, episode.specification, episode.steps, episode.end, wrong)
    file.write_bytes(
        payload.replace(b'["left","right"]', b'["left"]        ').replace(
            b'[\\"left\\",\\"right\\"]', b'[\\"left\\"]          '
        )
    )
    with pytest.raises(ArtifactError, match="does not hold"):
        read_episode(file)


def test_consecutive_views_are_joined_where_they_meet() -> None:
    """What ends one stretch begins the next and is there once."""
    rows = np.arange(7)
    images = np.broadcast_to(rows.astype(np.uint8)[:, None, None, None, None], (7, 1, 3, 2, 2))
    target = rows.astype(np.float32)[:, None]
    parts = [Views(("one",), images[part], target[part]) for part in (slice(0, 3), slice(2, 3), slice(2, 7))]
    joined = Views.joined(parts)
    assert np.array_equal(joined.images, images)
    assert np.array_equal(joined.target, target)
