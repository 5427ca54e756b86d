"""Demonstrations on the emulated arm, by scripted hands and by keys of a terminal: whole, labelled, clonable; the arm stops."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pytest
import yaml
from PIL import Image

from oracle import Share, judge
from poco.episodes import Episode, read_episode
from poco.learner.cloning import CloningSettings, clone
from poco.learner.demonstrations import read_demonstrations
from poco.learner.journal_files import JournalFiles
from poco.runtime.contact_sheet import CONTACT_SHEET
from poco.runtime.run_flags import PACKAGED_CONFIG
from poco.runtime.run_folder import EpisodeEnded, EpisodeLabelled, EpisodeStarted, RunFolder
from poco.runtime.run_options import OPERATOR_SPECIFICATION
from poco.specification import read_specification
from programs import ARTIFACT, Program
from runs import SPEED_MAX_M_S, assert_came_to_rest, report_of
from terminal_session import Session, seen, sitting

SPECIFICATION = read_specification(OPERATOR_SPECIFICATION)
KEPT = 3


def journaled(folder: Path) -> list[Episode]:
    """The whole episodes in the journal of the run in `folder`, with their newest labels."""
    return list(JournalFiles(folder.parent / "journal-fr3").episodes(SPECIFICATION))


def files(folder: Path) -> list[Episode]:
    """The episodes of a folder, in order."""
    return [read_episode(file) for file in sorted(folder.glob("*.safetensors"))]


@dataclass(frozen=True)
class Recorded:
    """A run of scripted hands: its folder and what it printed."""

    folder: Path
    out: str


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Three demonstrations by scripted hands that tremble; whether the peg is in they say themselves, the emulator does not."""
    folder = tmp_path_factory.mktemp("recorded")
    flags = ["--robot", "sim", "--robot.host", "127.0.19.1", "--emulator.pacing", "lockstep", "--task.outcome", "none"]
    flags += ["--task", "peg_in_hole", "--hands", "scripted", "--noise", "0.1"]
    flags += ["--only-successes", "--episodes", str(KEPT), "--out", str(folder / "run")]
    program = Program("poco-runtime", "record", *flags, folder=folder)
    try:
        assert (program.wait(), program.err) == (0, "")
        return Recorded(folder / "run", program.out)
    finally:
        program.end()


def test_the_episodes_are_whole(recorded: Recorded) -> None:
    """Steps without gaps, all by a person, asked as executed where the limits allow; success said by the person; journal alike."""
    kept = files(recorded.folder / "episodes")
    assert len(kept) == KEPT
    for episode in kept:
        assert episode.specification == SPECIFICATION
        assert [step.key.step for step in episode.steps] == list(range(len(episode.steps)))
        assert all(step.intervened and step.generation == 0 for step in episode.steps)
        labels = {"reason": "success", "demonstration": "scripted", "judge": "person"}
        assert (episode.end.outcome, episode.end.labels, episode.end.terminated) == ("success", labels, True)
        assert [step.reward for step in episode.steps] == [0.0] * (len(episode.steps) - 1) + [1.0]
        executed = np.array([step.action_executed for step in episode.steps])
        np.testing.assert_allclose(episode.actions_policy, executed, atol=1e-3)
    thrown = files(recorded.folder / "discarded")
    in_journal = {episode.end.episode: episode for episode in journaled(recorded.folder)}
    assert [in_journal[episode.end.episode] for episode in kept] == kept
    assert {in_journal[episode.end.episode].end.outcome for episode in thrown} <= {"discarded"}
    assert len(in_journal) == len(kept) + len(thrown)


def test_hands_look_often(recorded: Recorded) -> None:
    """A new chunk every two control periods, none late, and no command outside the arm's limits."""
    chunks = RunFolder.open(recorded.folder).chunks()
    steps = sum(len(episode.steps) for part in ("episodes", "discarded") for episode in files(recorded.folder / part))
    assert len(chunks) >= steps / (SPECIFICATION.delay_steps + 1)
    assert not any(chunk.late for chunk in chunks)
    commands = np.array(RunFolder.open(recorded.folder).ticks()["command"]["q"])
    verdict = judge(commands, Share(), SPECIFICATION.tip, SPEED_MAX_M_S)
    assert verdict.clean, verdict


def test_counts_and_contact_sheet(recorded: Recorded) -> None:
    """The end says how many demonstrations there are and shows them; the report counts what was kept."""
    assert f"{KEPT} demonstrations kept ({KEPT} success, 0 failure)" in recorded.out
    assert (report_of(recorded.folder).finished, report_of(recorded.folder).successes) == (KEPT, KEPT)
    with Image.open(recorded.folder / CONTACT_SHEET) as picture:
        assert picture.width > 400


def test_they_can_be_cloned(recorded: Recorded) -> None:
    """poco-learner reads them and clones a policy of the task from them, whose loss falls."""
    data = read_demonstrations(recorded.folder / "episodes")
    cloned = clone(data, CloningSettings(steps=150, validation_interval=50, hidden_sizes=(32, 32)))
    assert data.specification.digest() == SPECIFICATION.digest()
    assert cloned.curve[-1].training < 0.9 * cloned.curve[0].training


@pytest.fixture
def sit_down(tmp_path: Path) -> Iterator[Callable[..., Session]]:
    """Start recording with the keyboard on an emulated arm in real time, in a terminal."""
    with sitting(tmp_path) as start:

        def record(host: str, *arguments: str) -> Session:
            flags = arguments or ("--robot", "sim", "--task", "peg_in_hole")
            return start("record", "--robot.host", host, "--episodes", "5", *flags)

        yield record


def test_a_person_at_the_keyboard(sit_down: Callable[..., Session]) -> None:
    """Start, success, relabel and discard by single keys: files, journal and report say what the person said; Ctrl-C brakes."""
    session = sit_down("127.0.19.2")
    session.type_until(" 3w", seen(EpisodeStarted, 1))
    session.type_until("wr", lambda events: len(RunFolder.open(session.folder).chunks()) >= 6)
    session.type_until("y", seen(EpisodeEnded, 1))
    session.type_until("t", seen(EpisodeLabelled, 1))
    session.type_until(" a", seen(EpisodeStarted, 2))
    session.type_until("x", seen(EpisodeLabelled, 2))
    session.type_until(" f", seen(EpisodeStarted, 3))
    session.program.process.send_signal(signal.SIGINT)
    assert session.program.wait() == 130
    kept, thrown = files(session.folder / "episodes"), files(session.folder / "discarded")
    labels = [event for event in session.events(EpisodeLabelled) if isinstance(event, EpisodeLabelled)]
    first = [label.outcome for label in labels if label.episode == 0][-1]
    assert [(episode.end.episode, episode.end.outcome) for episode in kept] == [(0, first)]
    assert kept[0].steps[-1].reward == (first == "success")
    assert kept[0].end.revision == len(labels) - 1
    assert kept[0].actions_policy.max() > 0.9
    assert [episode.end.episode for episode in thrown] == [1]
    ends = {episode.end.episode: episode.end for episode in journaled(session.folder)}
    assert {number: end.outcome for number, end in ends.items()} == {0: first, 1: "discarded"}
    report = report_of(session.folder)
    assert (report.finished, [episode.outcome for episode in report.episodes]) == (
        1,
        [first, "discarded", "unfinished"],
    )
    assert_came_to_rest(RunFolder.open(session.folder).ticks())


@pytest.mark.proof
def test_quitting_throws_the_running_episode_away(sit_down: Callable[..., Session]) -> None:
    """`q` in an episode: the arm comes to rest, the episode is in the journal as discarded, the run ends without an error."""
    session = sit_down("127.0.19.3")
    session.type_until(" 3w", seen(EpisodeStarted, 1))
    session.type_until("w", lambda events: len(RunFolder.open(session.folder).chunks()) >= 4)
    os.write(session.terminal, b"q")
    assert (session.program.wait(), session.program.err) == (0, "")
    assert files(session.folder / "episodes") == []
    assert [episode.end.outcome for episode in journaled(session.folder)] == ["discarded"]
    assert_came_to_rest(RunFolder.open(session.folder).ticks())


@pytest.mark.proof
def test_a_person_helps_a_policy(tmp_path: Path) -> None:
    """Keys that move the arm take over from the policy in the middle of a run; its steps and ends say so, and it goes on."""
    flags = ["--robot", "sim", "--robot.host", "127.0.19.4", "--policy", str(ARTIFACT), "--hands", "keyboard"]
    with sitting(tmp_path) as start:
        session = start(*flags, "--episodes", "2")
        session.type_until("r", lambda events: len(RunFolder.open(session.folder).chunks()) >= 8)
        assert (session.program.wait(), session.program.err) == (0, "")
    helped, alone = files(session.folder / "episodes")
    assert helped.end.labels["intervention"] == "keyboard"
    assert any(step.intervened for step in helped.steps)
    assert not any(step.intervened for step in alone.steps)
    assert "intervention" not in alone.end.labels
    assert len(list(JournalFiles(tmp_path / "journal-fr3").episodes(helped.specification))) == 2


def test_a_person_judges_a_policy(tmp_path: Path) -> None:
    """Where nobody else says what succeeded (`task.outcome: none`), the person at the terminal does, in any run; q ends it."""
    with sitting(tmp_path) as start:
        flags = ["--robot", "sim", "--robot.host", "127.0.19.6", "--task.outcome", "none", "--episodes", "5"]
        session = start("--policy", str(ARTIFACT), *flags)
        session.type_until("y", seen(EpisodeEnded, 1))
        session.type_until("q", lambda events: session.program.process.poll() is not None)
        assert (session.program.wait(), session.program.err) == (0, "")
    end = files(session.folder / "episodes")[0].end
    assert (end.outcome, end.terminated, end.labels["judge"]) == ("success", True, "person")


def test_settings_without_signals_on_the_emulated_arm(sit_down: Callable[..., Session], tmp_path: Path) -> None:
    """What settings of an arm leave to a person (`none`) the emulated arm in its place does too, with or without a task."""
    tree = msgspec.to_builtins(SPECIFICATION)
    tree["observation"] = [item for item in tree["observation"] if not item["source"].startswith("target")]
    (tmp_path / "bare.yaml").write_text(yaml.safe_dump(tree))
    cell = yaml.safe_load(PACKAGED_CONFIG.read_text())
    cell["task"] |= dict.fromkeys(("sensors", "outcome", "reset"), "none")
    cell["emulator"]["task"] = "none"
    (tmp_path / "cell.yaml").write_text(yaml.safe_dump(cell))
    mine = ["--robot", "sim", "--config", str(tmp_path / "cell.yaml"), "--task", str(tmp_path / "bare.yaml")]
    session = sit_down("127.0.19.7", *mine)
    session.type_until(" 3s", seen(EpisodeStarted, 1))
    session.type_until("sd", lambda events: len(RunFolder.open(session.folder).chunks()) >= 6)
    session.type_until("y", seen(EpisodeEnded, 1))
    session.type_until("q", lambda events: session.program.process.poll() is not None)
    assert (session.program.wait(), session.program.err) == (0, "")
    (kept,) = files(session.folder / "episodes")
    assert (kept.end.outcome, kept.end.labels["judge"]) == ("success", "person")


@pytest.mark.proof
def test_an_arm_and_nothing_else(sit_down: Callable[..., Session], tmp_path: Path) -> None:
    """`--robot franka` at an arm that is there, a task that observes no target, no sensor: the person says how it ended."""
    host = "127.0.19.5"
    arm = Program("poco-emulator", "--host", host, folder=tmp_path / "emulator")
    try:
        arm.until(lambda: "ready" in arm.out)
        tree = msgspec.to_builtins(SPECIFICATION)
        tree["observation"] = [item for item in tree["observation"] if not item["source"].startswith("target")]
        (tmp_path / "bare.yaml").write_text(yaml.safe_dump(tree))
        session = sit_down(host, "--robot", "franka", "--sensors", "none", "--task", str(tmp_path / "bare.yaml"))
        session.type_until(" 3s", seen(EpisodeStarted, 1))
        session.type_until("sd", lambda events: len(RunFolder.open(session.folder).chunks()) >= 6)
        session.type_until("y", seen(EpisodeEnded, 1))
        session.type_until("q", lambda events: session.program.process.poll() is not None or len(events) > 1)
        assert (session.program.wait(), session.program.err) == (0, "")
    finally:
        arm.end()
    (kept,) = files(session.folder / "episodes")
    assert (kept.end.outcome, kept.end.labels["judge"]) == ("success", "person")
    assert len(kept.steps[0].observation) == SPECIFICATION.observation_size - 8
