"""The run folder gives back what was written, whole or cut short, and refuses what it cannot read."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from poco.errors import ArtifactError, UsageError
from poco.runtime.run_folder import CHUNKS, EVENTS, FACTS, TICKS, Dilation, EpisodeStarted, EventReader, RunFolder
from synthetic_run import EPISODE_TICKS, OUTCOMES, episode_chunks, episode_ticks, facts, latched, make_run


def test_round_trip(tmp_path: Path) -> None:
    """Facts, ticks, chunks and events are read as they were written."""
    folder = RunFolder.open(make_run(tmp_path).path)
    assert folder.facts() == facts()
    assert folder.ticks().tobytes() == b"".join(episode_ticks(episode).tobytes() for episode in range(len(OUTCOMES)))
    assert folder.chunks()[:8] == episode_chunks(0, 1000)
    events = folder.events()
    assert events[0] == EpisodeStarted(tick=1000, episode=0, seed=100)
    assert isinstance(events[-1], Dilation)
    assert folder.episodes.is_dir()


def test_event_carries_its_kind(tmp_path: Path) -> None:
    """A line of events.jsonl names its kind and keeps tick and content as plain JSON."""
    folder = RunFolder.create(tmp_path, facts())
    folder.append_event(latched("text"))
    line = msgspec.json.decode((tmp_path / EVENTS).read_bytes())
    assert line["kind"] == "fault"
    assert line["tick"] == 1


def test_cut_short(tmp_path: Path) -> None:
    """An incomplete record at the end of any file is left out, and all whole ones are kept."""
    folder = make_run(tmp_path)
    for name in (TICKS, CHUNKS, EVENTS):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:-5])
    assert len(folder.ticks()) == len(OUTCOMES) * EPISODE_TICKS - 1
    assert len(folder.chunks()) == len(OUTCOMES) * 8 - 1
    assert not isinstance(folder.events()[-1], Dilation)


def test_empty_run(tmp_path: Path) -> None:
    """A run that ended before motion has no ticks, chunks or events."""
    folder = RunFolder.create(tmp_path, facts())
    assert (len(folder.ticks()), folder.chunks(), folder.events()) == (0, [], [])


def test_events_are_read_as_they_come(tmp_path: Path) -> None:
    """A reader gets every event once, one that is half written only when it is whole, and names a line that is none."""
    folder = RunFolder.create(tmp_path, facts())
    reader = EventReader(folder)
    assert reader.new() == []
    folder.append_event(latched("first"))
    assert [event.tick for event in reader.new()] == [1]
    assert reader.new() == []
    line = msgspec.json.encode(Dilation(tick=7, total_s=1.0, longest_s=0.5)) + b"\n"
    with (tmp_path / EVENTS).open("ab", buffering=0) as stream:
        stream.write(line[:9])
        assert reader.new() == []
        stream.write(line[9:])
        assert [event.tick for event in reader.new()] == [7]
        stream.write(b"nonsense\n")
    with pytest.raises(ArtifactError, match="line 1 after byte"):
        reader.new()


def test_refuses_a_second_run(tmp_path: Path) -> None:
    """A folder that holds a run is not written into again."""
    RunFolder.create(tmp_path, facts())
    with pytest.raises(UsageError, match="already holds a run"):
        RunFolder.create(tmp_path, facts())


def test_refuses_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    """A path below a file is refused with the reason."""
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be made"):
        RunFolder.create(tmp_path / "file" / "run", facts())


def test_refuses_no_run(tmp_path: Path) -> None:
    """A folder without facts is no run."""
    with pytest.raises(UsageError, match="holds no run"):
        RunFolder.open(tmp_path)


@pytest.mark.parametrize("content", [b"{", b"{}", b"[]", b'{"\xff'])
def test_refuses_unreadable_facts(tmp_path: Path, content: bytes) -> None:
    """Facts that are not JSON or not whole are named."""
    folder = make_run(tmp_path)
    (tmp_path / FACTS).write_bytes(content)
    with pytest.raises(ArtifactError, match=FACTS):
        folder.facts()


def test_refuses_another_version(tmp_path: Path) -> None:
    """Facts of another version are refused, not guessed."""
    folder = make_run(tmp_path)
    (tmp_path / FACTS).write_bytes(msgspec.json.encode(msgspec.structs.replace(facts(), version=99)))
    with pytest.raises(ArtifactError, match="version 99"):
        folder.facts()


def test_refuses_an_unreadable_line(tmp_path: Path) -> None:
    """A whole line that is no event is named by its number."""
    folder = make_run(tmp_path)
    (tmp_path / EVENTS).write_text('{"kind":"dilation","tick":1,"total_s":0,"longest_s":0}\n{"kind":"nonsense"}\n')
    with pytest.raises(ArtifactError, match="line 2"):
        folder.events()


def test_ticks_are_appended(tmp_path: Path) -> None:
    """A recorder that starts again goes on behind what is there."""
    folder = RunFolder.create(tmp_path, facts())
    for episode in range(2):
        with folder.open_ticks() as stream:
            stream.write(episode_ticks(episode).tobytes())
    assert np.unique(folder.ticks()["state"]["tick"]).size == 2 * EPISODE_TICKS
