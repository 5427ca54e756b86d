"""The mirror of a replay has the same windows after everything that can happen to the replay."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from poco.learner.replay import Replay
from poco.learner.replay_mirror import ReplayMirror
from poco.learner.windows import Batch
from poco.records import DISCARDED
from poco.specification import Specification
from recorded_episodes import BYTES, add, counted, end

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")),
]


def assert_same(replay: Replay, mirror: ReplayMirror, device: torch.device) -> None:
    mirror.refresh()
    index = torch.arange(len(replay))
    expected, found = replay.windows(index.numpy()), mirror.windows(index.to(device))
    for name in Batch.__slots__:
        assert torch.equal(getattr(found, name).cpu(), getattr(expected, name)), name


@pytest.mark.parametrize("device", DEVICES)
def test_the_mirror_follows(specification: Specification, tmp_path: Path, device: str) -> None:
    """New episodes, other labels, one thrown away, some that make room, a rewind: the windows are those of the replay."""
    place = torch.device(device)
    replay = Replay.create(tmp_path, specification, BYTES)
    mirror = ReplayMirror(replay, place)
    add(replay, counted(specification, 0, 7, outcome="success", terminated=True, truncated=False))
    assert_same(replay, mirror, place)
    add(replay, counted(specification, 1, 4), counted(specification, 2, 1))
    assert_same(replay, mirror, place)
    assert replay.relabel(end(1, 0.0, outcome="success", revision=1))
    assert_same(replay, mirror, place)
    assert replay.relabel(end(2, 0.0, outcome=DISCARDED, revision=1))
    add(replay, counted(specification, 3, 2))
    assert_same(replay, mirror, place)
    number = 4
    while replay.watermark == replay.episodes + 1:
        add(replay, counted(specification, number, 60 + number % 7))
        number += 1
    assert replay.episodes > 10
    assert_same(replay, mirror, place)
    replay.rewind(replay.watermark - 2)
    assert_same(replay, mirror, place)


def test_draws_are_uniform_and_of_its_own_generator(specification: Specification, tmp_path: Path) -> None:
    """Every stored step is drawn about as often as any other, where chunks were chosen if so wished, the same for the same seed."""
    replay = Replay.create(tmp_path, specification, BYTES)
    add(replay, counted(specification, 0, 7), counted(specification, 1, 4))
    mirror = ReplayMirror(replay, torch.device("cpu"))
    mirror.refresh()
    drawn = [mirror.sample(11_000, torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(drawn[0].observation, drawn[1].observation)
    places, counts = torch.unique(drawn[0].observation[:, 0], return_counts=True)
    assert len(places) == 11
    assert 850 < int(counts.min()) <= int(counts.max()) < 1150
    chosen = mirror.sample(1000, torch.Generator().manual_seed(3), acted=True)
    assert set(chosen.step.tolist()) == {0.0, 3.0, 6.0}
