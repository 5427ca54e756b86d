"""Labels given afterwards: file, last reward, revision and event follow; what is thrown away is put aside."""

from __future__ import annotations

from pathlib import Path

import pytest

from poco.episodes import read_episode
from poco.records import EpisodeEnd, Step, StepKey
from poco.runtime.episode_book import EpisodeBook
from poco.runtime.journal_recorder import JournalRecorder
from poco.runtime.run_folder import EpisodeLabelled, RunFolder
from synthetic_run import facts, specification

SPECIFICATION = specification()
LENGTH = 4


def close(book: EpisodeBook, episode: int, outcome: str) -> None:
    """End an episode of four steps with `outcome`."""
    steps = [
        Step(
            key=StepKey("fr3", 1, episode, number),
            tick=50 * number,
            generation=0,
            chunk_id=number,
            observation=[0.0] * 7,
            action_policy=[0.1] * 7,
            action_executed=[0.1] * 7,
            reward=float(outcome == "success" and number == LENGTH - 1),
            intervened=True,
        )
        for number in range(LENGTH)
    ]
    end = EpisodeEnd(
        robot="fr3",
        boot_epoch=1,
        episode=episode,
        tick=50 * LENGTH,
        final_observation=[0.0] * 7,
        outcome=outcome,
        terminated=outcome == "success",
        truncated=outcome != "success",
        labels={"demonstration": "keyboard"},
    )
    book.close(steps, end, outcome if outcome == "success" else "truncated", 50 * LENGTH)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """An empty run folder."""
    return RunFolder.create(tmp_path / "run", facts())


@pytest.fixture
def book(folder: RunFolder) -> EpisodeBook:
    """The book of a run whose link process is not there; what it offers waits in memory."""
    return EpisodeBook(folder, JournalRecorder("nobody", "fr3", 1, 0, SPECIFICATION), SPECIFICATION)


def labels(folder: RunFolder) -> list[tuple[int, str]]:
    """Episode and outcome of every label so far."""
    return [(event.episode, event.outcome) for event in folder.events() if isinstance(event, EpisodeLabelled)]


def test_a_label_is_a_revision(book: EpisodeBook, folder: RunFolder) -> None:
    """The outcome, the sparse reward and the kind of ending change together, each time one revision higher; labels stay."""
    close(book, 0, "failure")
    assert book.obey(["success"]) is False
    episode = read_episode(folder.episodes / "000000.safetensors")
    assert (episode.end.outcome, episode.end.revision, episode.end.terminated) == ("success", 1, True)
    assert episode.end.labels == {"demonstration": "keyboard", "reason": "person"}
    assert episode.rewards.tolist() == [0.0, 0.0, 0.0, 1.0]
    book.obey(["success", "relabel"])
    episode = read_episode(folder.episodes / "000000.safetensors")
    assert (episode.end.outcome, episode.end.revision, episode.rewards.sum()) == ("failure", 2, 0.0)
    assert labels(folder) == [(0, "success"), (0, "failure")]


def test_what_is_thrown_away_is_put_aside(book: EpisodeBook, folder: RunFolder) -> None:
    """Only the last episode can be thrown away, once; it is no longer counted and lies where nobody reads it by mistake."""
    close(book, 0, "success")
    close(book, 1, "success")
    assert book.kept == 2
    assert book.obey(["discard", "discard", "relabel", "start"])
    assert book.kept == 1
    assert [file.name for file in folder.episodes.iterdir()] == ["000000.safetensors"]
    assert [file.name for file in (folder.path / "discarded").iterdir()] == ["000001.safetensors"]
    assert labels(folder) == [(1, "discarded")]


def test_nothing_to_label(book: EpisodeBook, folder: RunFolder) -> None:
    """Before the first episode commands do nothing, and start is start."""
    assert book.obey(["relabel", "success", "discard", "start"])
    assert folder.events() == []
