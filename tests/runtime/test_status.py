"""What a person sees while a run goes on."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from poco.runtime.run_folder import EVENTS, EpisodeEnded, EpisodeLabelled, EpisodeStarted, RunFolder
from poco.runtime.status import Status
from poco.shm import RunMemory
from synthetic_run import facts


@pytest.fixture
def memory() -> Iterator[RunMemory]:
    """Shared memory of a run of which nothing moves."""
    made = RunMemory.create(f"status-{os.getpid()}")
    yield made
    made.unlink()


def test_a_torn_record_ends_no_run(memory: RunMemory, tmp_path: Path) -> None:
    """A line that a full disk has cut short is said once, whatever comes after it, and showing the run goes on."""
    folder = RunFolder.create(tmp_path / "run", facts())
    said = io.StringIO()
    status = Status(folder, 2, Console(file=said, width=1000))
    folder.append_event(EpisodeStarted(tick=1, episode=0, seed=0))
    folder.append_event(EpisodeEnded(tick=2, episode=0, outcome="success", steps=1, ticks=1))
    status.close(memory)
    assert said.getvalue().startswith("episode 0 (1 of 2): success")
    with (folder.path / EVENTS).open("ab") as stream:
        stream.write(b'{"kind":"episode_st')
    folder.append_event(EpisodeStarted(tick=3, episode=1, seed=1))
    for _ in range(3):
        status.close(memory)
    assert said.getvalue().count("is not readable") == 1


def test_episodes_have_the_numbers_of_their_files(memory: RunMemory, tmp_path: Path) -> None:
    """Ended, labelled or running, an episode is called by what its file and other commands call it."""
    folder = RunFolder.create(tmp_path / "run", facts())
    said = io.StringIO()
    console = Console(file=said, width=200, force_terminal=True, color_system=None)
    status = Status(folder, 5, console)
    for episode in (0, 1):
        folder.append_event(EpisodeStarted(tick=1, episode=episode, seed=0))
        folder.append_event(EpisodeEnded(tick=2, episode=episode, outcome="success", steps=1, ticks=1))
    folder.append_event(EpisodeLabelled(tick=2, episode=1, outcome="discarded"))
    folder.append_event(EpisodeStarted(tick=3, episode=2, seed=0))
    status.close(memory)
    for words in ("episode 1: discarded, says the person", "1 of 5 ended, 1 succeeded", "episode 2 runs"):
        assert words in said.getvalue()
