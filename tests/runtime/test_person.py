"""What a person says is heard in order, counts where it was said, and never raises."""

from __future__ import annotations

import os

from poco.records import TaskSignal
from poco.runtime.line_reader import LineReader
from poco.runtime.person import Person

SIGNAL = TaskSignal(
    tick=1, target_position=(0.5, 0.0, 0.05), target_yaw=0.0, noise_m=0.0, noise_rad=0.0, outcome="running"
)


def test_the_first_verdict_on_an_episode_counts() -> None:
    """In an episode start and relabel mean nothing, the first verdict becomes the outcome, later ones change nothing."""
    lines: list[list[str]] = [[], ["command start", "command relabel"], ["command success", "command failure"], []]
    person = Person(lambda: lines.pop(0))
    person.begin_episode()
    assert [person.judge(SIGNAL).outcome for _ in range(4)] == ["running", "running", "success", "success"]
    assert person.labels == {"judge": "person"}
    person.end_episode()
    lines.append([])
    assert person.said() == []


def test_between_episodes_everything_is_kept_in_order() -> None:
    """What is said between episodes is handed out once, in order; an episode begins without it; quitting is remembered."""
    lines = [["command relabel", "command discard", "key w", "nonsense", "command dance"], [], ["command quit"], []]
    person = Person(lambda: lines.pop(0))
    assert person.said() == ["relabel", "discard"]
    assert person.keys() == ["w"]
    person.say(["start"])
    person.begin_episode()
    person.hear()
    assert (person.verdict, person.quits) == ("quit", True)
    assert person.judge(SIGNAL).outcome == "failure"


def test_lines_of_a_pipe_are_not_torn() -> None:
    """A line that has come in part waits for its rest, several in one piece are told apart, and the end is an empty line."""
    reads, writes = os.pipe()
    reader = LineReader(reads)
    os.write(writes, b"go\ncommand st")
    assert (reader.line(), reader.lines()) == ("go", [])
    os.write(writes, b"art\nkey w\nkey")
    assert reader.lines() == ["command start", "key w"]
    os.close(writes)
    assert (reader.lines(), reader.line()) == ([], "")
    os.close(reads)
