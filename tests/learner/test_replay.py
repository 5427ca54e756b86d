"""The replay gives back what was recorded, as windows that respect the ends of episodes, within a fixed size."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from poco.episodes import Episode
from poco.errors import ArtifactError
from poco.learner.demonstrations import Recorded, windows
from poco.learner.replay import Replay
from poco.learner.replay_layout import EPISODES_FILE, HEADER_FILE, STEPS_FILE, episode_record
from poco.records import DISCARDED
from poco.specification import Specification
from recorded_episodes import BYTES, add, counted, end


def test_windows_hold_what_the_batch_says(specification: Specification, tmp_path: Path) -> None:
    """Every window of a success of 7 and a truncated episode of 4 steps, field by field; none crosses an end."""
    replay = Replay.create(tmp_path, specification, BYTES)
    lengths = (7, 4)
    add(replay, counted(specification, 0, 7, outcome="success", terminated=True, truncated=False))
    add(replay, counted(specification, 1, 4))
    assert (len(replay), replay.episodes, replay.watermark) == (11, 2, 2)
    batch = replay.windows(np.arange(11))
    for row in range(11):
        episode, step = (0, row) if row < 7 else (1, row - 7)
        length = lengths[episode]

        def value(at: int, episode: int = episode) -> float:
            return episode / 1000 + at / 100

        assert batch.observation[row].tolist() == pytest.approx([value(step)] * 6)
        for ahead in range(5):
            real = step + 1 + ahead < length
            assert bool(batch.valid[row, ahead]) == real
            assert float(batch.chunk[row, ahead, 0]) == pytest.approx(-value(step + 1 + ahead) if real else 0.0)
        for ahead in range(4):
            real = step + ahead < length
            assert bool(batch.known[row, ahead]) == real
            assert float(batch.actions[row, ahead, 3]) == pytest.approx(-value(step + ahead) if real else 0.0)
        paid = [float(episode == 0 and step + ahead == 6) for ahead in range(3)]
        assert batch.rewards[row].tolist() == paid
        assert batch.following[row].tolist() == pytest.approx([value(min(step + 3, length))] * 6)
        assert bool(batch.complete[row]) == (step + 3 <= length)
        assert bool(batch.last[row]) == (step + 3 >= length)
        assert bool(batch.terminated[row]) == (episode == 0 and step + 3 >= 7)
        assert float(batch.step[row]) == step
        assert bool(batch.success[row]) == (episode == 0)


def test_windows_are_those_of_behaviour_cloning(
    specification: Specification, demonstrations: tuple[Episode, ...], tmp_path: Path
) -> None:
    """Observation, chunk and validity are the training pairs that `windows` cuts from the same episodes."""
    replay = Replay.create(tmp_path, specification, BYTES)
    add(replay, *demonstrations)
    batch = replay.windows(np.arange(len(replay)))
    usable = batch.valid.any(-1)
    cut = windows(demonstrations, specification)
    for name in ("observation", "chunk", "valid"):
        np.testing.assert_array_equal(getattr(batch, name)[usable].numpy(), getattr(cut, name))


def test_sampling_is_uniform_over_all_steps(specification: Specification, tmp_path: Path) -> None:
    """11 stored steps of a long and a short episode are drawn equally often (chi-squared below its 99.9 % point)."""
    replay = Replay.create(tmp_path, specification, BYTES)
    add(replay, counted(specification, 0, 7), counted(specification, 1, 4))
    drawn = replay.sample(11_000, torch.Generator().manual_seed(0)).observation[:, 0].numpy()
    _, counts = np.unique(drawn, return_counts=True)
    assert len(counts) == 11
    assert float(((counts - 1000.0) ** 2 / 1000.0).sum()) < 29.6


def test_acted_windows_begin_where_a_chunk_was_chosen(specification: Specification, tmp_path: Path) -> None:
    """Every third step of each episode (execute_steps) begins a window, drawn as often as its chunk has steps; no other does."""
    replay = Replay.create(tmp_path, specification, BYTES)
    add(replay, counted(specification, 0, 7), counted(specification, 1, 4))
    batch = replay.sample(11_000, torch.Generator().manual_seed(0), acted=True)
    starts, counts = np.unique(batch.observation[:, 0].numpy(), return_counts=True)
    np.testing.assert_allclose(starts, [0.0, 0.001, 0.03, 0.031, 0.06], atol=1e-6)
    np.testing.assert_allclose(counts, [3000, 3000, 3000, 1000, 1000], rtol=0.1)


def test_columns_are_admitted_like_steps(
    specification: Specification, demonstrations: tuple[Episode, ...], tmp_path: Path
) -> None:
    """The same windows, and moments that are those of all observations; data of another specification stay out."""
    by_steps, by_columns = (Replay.create(tmp_path / name, specification, BYTES) for name in ("steps", "columns"))
    add(by_steps, *demonstrations)
    by_columns.begin_with([Recorded.of(episode) for episode in demonstrations])
    everything = np.arange(len(by_steps))
    for name in ("observation", "chunk", "rewards", "following", "terminated", "success"):
        assert torch.equal(getattr(by_columns.windows(everything), name), getattr(by_steps.windows(everything), name))
    seen = by_steps.windows(everything).observation
    mean, std = by_columns.observation_moments()
    torch.testing.assert_close(mean, seen.mean(0))
    torch.testing.assert_close(std, seen.std(0))
    with pytest.raises(ArtifactError, match="has specification"):
        by_columns.admit(
            replace(counted(specification, 77, 3), specification=msgspec.structs.replace(specification, name="other"))
        )


def test_demonstrations_that_do_not_fit_are_refused(
    specification: Specification, demonstrations: tuple[Episode, ...], tmp_path: Path
) -> None:
    """180 steps do not begin a replay of 100: nothing is silently left out."""
    with pytest.raises(ArtifactError, match=r"180 steps in 12 episodes.*raise replay_bytes"):
        Replay.create(tmp_path, specification, 6000).begin_with(demonstrations)


def test_a_demonstration_that_is_there_twice_is_refused(
    specification: Specification, demonstrations: tuple[Episode, ...], tmp_path: Path
) -> None:
    """Two files of one robot's episode would count as one: it is named."""
    with pytest.raises(ArtifactError, match=r"episode \w+/\d+/0 is among the demonstrations twice"):
        Replay.create(tmp_path, specification, BYTES).begin_with((*demonstrations, demonstrations[0]))


def test_size_is_capped_and_the_oldest_make_room(specification: Specification, tmp_path: Path) -> None:
    """400 episodes of random length against a list in memory: the newest stay, in order, unharmed, and the files never grow."""
    bytes_ = 20_000
    replay = Replay.create(tmp_path, specification, bytes_)
    size = sum(file.stat().st_size for file in tmp_path.glob("*.bin"))
    assert 0.9 * bytes_ < size <= bytes_
    random = np.random.default_rng(0)
    lengths: list[int] = []
    for episode in range(400):
        lengths.append(int(random.integers(1, 40)))
        add(replay, counted(specification, episode, lengths[-1]))
        kept = range(len(lengths) - replay.episodes, len(lengths))
        expected = [one / 1000 + step / 100 for one in kept for step in range(lengths[one])]
        stored = replay.windows(np.arange(len(replay))).observation[:, 0].numpy()
        np.testing.assert_allclose(stored, expected, atol=1e-6)
    again = Replay.open(tmp_path, specification)
    assert torch.equal(again.windows(np.arange(len(again))).observation[:, 0], torch.from_numpy(stored))
    assert sum(file.stat().st_size for file in tmp_path.glob("*.bin")) == size
    assert 5 < replay.episodes < 100
    assert replay.watermark == 400


def test_reopened_and_rewound(specification: Specification, tmp_path: Path) -> None:
    """A replay opened again holds the same; rewinding forgets what came after, and adding it again gives the same."""
    replay = Replay.create(tmp_path, specification, BYTES)
    episodes = [counted(specification, number, 6) for number in range(4)]
    add(replay, *episodes)
    everything = replay.windows(np.arange(24))
    replay.flush()
    again = Replay.open(tmp_path, specification)
    again.rewind(2)
    assert (again.episodes, len(again), again.watermark) == (2, 12, 2)
    add(again, *episodes[2:])
    for name in ("observation", "chunk", "rewards", "following"):
        assert torch.equal(getattr(again.windows(np.arange(24)), name), getattr(everything, name))


def test_relabelling_follows_the_highest_revision(specification: Specification, tmp_path: Path) -> None:
    """A higher revision changes outcome, ending and the sparse reward; an equal or lower one and an unknown episode do not."""
    replay = Replay.create(tmp_path, specification, BYTES)
    add(replay, counted(specification, 7, 5))
    success = end(7, 0.05, outcome="success", terminated=True, truncated=False, revision=2)
    assert replay.relabel(success)
    batch = replay.windows(np.array([2]))
    assert (float(batch.rewards[0, 2]), float(batch.terminated[0]), float(batch.success[0])) == (1.0, 1.0, 1.0)
    assert not replay.relabel(end(7, 0.05, revision=1))
    assert not replay.relabel(end(8, 0.05, revision=9))
    assert not replay.add(counted(specification, 7, 5).steps, end(7, 0.05, revision=3))
    batch = Replay.open(tmp_path, specification).windows(np.array([2]))
    assert (float(batch.rewards[0, 2]), float(batch.terminated[0]), float(batch.success[0])) == (0.0, 0.0, 0.0)
    assert (replay.episodes, len(replay)) == (1, 5)


def test_what_a_person_has_thrown_away_is_forgotten(specification: Specification, tmp_path: Path) -> None:
    """An episode labelled "discarded" is gone, also from the disk; the others stay, and new ones find room."""
    replay = Replay.create(tmp_path, specification, BYTES)
    for number in (7, 8, 9):
        add(replay, counted(specification, number, 5))
    assert replay.relabel(end(8, 0.05, outcome=DISCARDED, revision=1))
    assert not replay.relabel(end(8, 0.05, outcome=DISCARDED, revision=2))
    assert replay.relabel(end(9, 0.05, outcome=DISCARDED, revision=1))
    add(replay, counted(specification, 10, 5))
    for store in (replay, Replay.open(tmp_path, specification)):
        assert (store.episodes, len(store)) == (2, 10)
        assert [stored.episode for stored in store.after(0)] == [7, 10]


def test_the_number_of_a_discarded_episode_is_not_given_again(specification: Specification, tmp_path: Path) -> None:
    """A resumed run forgets what came after its checkpoint, also where the newest episode before that was thrown away."""
    replay = Replay.create(tmp_path, specification, BYTES)
    add(replay, counted(specification, 0, 7), counted(specification, 1, 4))
    checkpoint = replay.watermark
    assert replay.relabel(end(1, 0.0, outcome=DISCARDED, revision=1))
    add(replay, counted(specification, 2, 5))
    again = Replay.open(tmp_path, specification)
    again.rewind(checkpoint)
    assert (again.episodes, len(again), again.watermark) == (1, 7, checkpoint)
    add(again, counted(specification, 2, 5))
    assert (again.episodes, len(again), again.watermark) == (2, 12, checkpoint + 1)


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), 1e30])
@pytest.mark.parametrize("field", ["observation", "action_policy", "reward", "final_observation"])
def test_poisoned_episodes_stay_out(specification: Specification, tmp_path: Path, field: str, poison: float) -> None:
    """One value that is not finite or absurd, anywhere: a sentence, and the store is as it was."""
    replay = Replay.create(tmp_path, specification, BYTES)
    add(replay, counted(specification, 0, 5))
    bad = counted(specification, 1, 5)
    if field == "final_observation":
        bad = replace(bad, end=end(1, poison))
    else:
        value = poison if field == "reward" else [poison] * len(getattr(bad.steps[2], field))
        broken = msgspec.structs.replace(bad.steps[2], **{field: value})
        bad = replace(bad, steps=(*bad.steps[:2], broken, *bad.steps[3:]))
    with pytest.raises(ArtifactError, match="discard the episode"):
        replay.add(bad.steps, bad.end)
    assert (replay.episodes, len(replay)) == (1, 5)
    assert torch.isfinite(replay.windows(np.arange(5)).observation).all()


def test_misfits_are_refused(specification: Specification, tmp_path: Path) -> None:
    """Empty and endless episodes, wrong widths and an empty store give one sentence each; one shorter than a chunk is taken."""
    replay = Replay.create(tmp_path, specification, BYTES)
    with pytest.raises(ArtifactError, match="is empty"):
        replay.sample(4, torch.Generator())
    one = counted(specification, 0, 1)
    with pytest.raises(ArtifactError, match="has 0 steps"):
        replay.add((), one.end)
    with pytest.raises(ArtifactError, match="steps, the replay takes"):
        replay.add(one.steps * 100_000, one.end)
    wide = msgspec.structs.replace(one.steps[0], observation=[0.0] * 7)
    with pytest.raises(ArtifactError, match="expected"):
        replay.add((wide,), one.end)
    with pytest.raises(ArtifactError, match="different length"):
        replay.add((one.steps[0], wide), one.end)
    add(replay, one)
    batch = replay.sample(3, torch.Generator())
    assert batch.complete.sum() == batch.valid.sum() == 0


def test_files_that_do_not_fit_are_refused(specification: Specification, tmp_path: Path) -> None:
    """A second replay in one place, no room, too little room, another specification, a cut file and no replay at all."""
    folder = tmp_path / "replay"
    with pytest.raises(ArtifactError, match="no room"):
        Replay.create(folder, specification, 1 << 60)
    with pytest.raises(ArtifactError, match="must be at least"):
        Replay.create(folder, specification, 100)
    with pytest.raises(ArtifactError, match="not readable"):
        Replay.open(folder, specification)
    Replay.create(folder, specification, BYTES)
    with pytest.raises(ArtifactError, match="already holds"):
        Replay.create(folder, specification, BYTES)
    with pytest.raises(ArtifactError, match="start a new run"):
        Replay.open(folder, msgspec.structs.replace(specification, name="other"))
    payload = (folder / STEPS_FILE).read_bytes()
    (folder / STEPS_FILE).write_bytes(payload[:-1])
    with pytest.raises(ArtifactError, match="bytes, expected"):
        Replay.open(folder, specification)
    (folder / HEADER_FILE).write_bytes(b'{"form\xfft')
    with pytest.raises(ArtifactError, match="not readable"):
        Replay.open(folder, specification)


def test_a_disk_that_fills_while_it_is_made_is_one_sentence(specification: Specification, tmp_path: Path) -> None:
    """There was room when it was asked for, not when it was taken; with room again the same call makes it."""

    def make_with_no_room() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (BYTES // 2, BYTES // 2))
        try:
            Replay.create(tmp_path, specification, BYTES)
        except ArtifactError as error:
            os._exit(3 if "free space or lower replay_bytes" in str(error) else 4)

    process = multiprocessing.get_context("fork").Process(target=make_with_no_room)
    process.start()
    process.join()
    assert process.exitcode == 3
    assert len(Replay.create(tmp_path, specification, BYTES)) == 0


@pytest.mark.parametrize(("field", "value"), [("first", -1), ("steps", 1 << 62), ("number", 7), ("robot", b"\xff")])
def test_a_damaged_table_is_refused(
    specification: Specification, tmp_path: Path, field: str, value: int | bytes
) -> None:
    """An episode outside the steps, without end, in another's slot or of a name that is none: a sentence, no wrong windows."""
    replay = Replay.create(tmp_path, specification, BYTES)
    add(replay, counted(specification, 0, 7), counted(specification, 1, 4))
    replay.flush()
    table = np.memmap(tmp_path / EPISODES_FILE, episode_record(specification), "r+")
    table[1][field] = value
    table.flush()
    with pytest.raises(ArtifactError, match=r"episodes.bin is damaged.*start again"):
        Replay.open(tmp_path, specification)
