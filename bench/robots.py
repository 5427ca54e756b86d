"""Many robots on one learner: does it have everything, and what does a robot cost? A table, and JSON with host facts.

python bench/robots.py [--robots 8] [--minutes 10] [--updates-per-step 0.05] [--artifact DIR] [--folder DIR] [--out FILE]

Each robot is the hard peg-in-hole as a gymnasium environment, driven at 20 Hz by an exported policy, with a journal, keys and a
link process of its own; no servo, no arm. The learner is `poco-learner serve` in full: inbox, replay, updates, checkpoints and a
signed generation a minute. In the end every step of every journal is compared with the learner's replay, and every entry that its
inbox still holds with the journals. A wrong or missing one ends the program with exit code 1.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from armless_robot import ArmlessRobot, free_address, make_keys, processor_s
from gymnasium_robot import Played
from served_learner import PATIENCE_S, ServedLearner

from poco.artifact import read_artifact
from poco.learner.journal_audit import Audit, compare_with_inbox
from poco.learner.journal_files import JournalFiles
from poco.learner.replay import Replay
from poco.runtime.run_folder import HostFacts, host_facts
from poco.specification import Specification

ROOT = Path(__file__).parents[1]
ARTIFACT = ROOT / "artifacts" / "peg_in_hole"
REPLAY_BYTES = 64_000_000


class RobotRow(msgspec.Struct, frozen=True, kw_only=True):
    """One robot: what it played, what is in its journal, what it cost, and how many of its steps the learner has."""

    played: Played
    journal_bytes: int
    journal_steps: int
    link_processor_s: float
    steps_in_replay: int


class LearnerRow(msgspec.Struct, frozen=True, kw_only=True):
    """The learner, from its first robot until it had everything; memory is that at the end (bytes)."""

    seconds: float
    processor_s: float
    memory_bytes: int
    episodes: int
    steps: int
    updates: int
    generation: int
    inbox_entries_compared: int
    behind_s: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON; `wrong` says in sentences what was not complete."""

    command: list[str]
    computer: HostFacts
    load_average: tuple[float, float, float]
    robots: list[RobotRow]
    learner: LearnerRow
    wrong: list[str]


def measure(
    folder: Path, robots: int, seconds: float, artifact: Path, host: str, updates_per_step: float
) -> tuple[list[RobotRow], LearnerRow, list[str]]:
    """Let `robots` robots play for `seconds` beside one learner, everything in `folder`; return rows and what is wrong."""
    specification = read_artifact(artifact).specification
    names = [f"arm{number}" for number in range(1, robots + 1)]
    learner_keys, keys = make_keys(folder, *names)
    address = free_address(host)
    learner = ServedLearner(folder, artifact, address, learner_keys, updates_per_step, REPLAY_BYTES)
    links: list[ArmlessRobot] = []
    players: list[subprocess.Popen[str]] = []
    try:
        learner.wait_until(lambda: bool(learner.status), "for the learner")
        for name, key in zip(names, keys, strict=True):
            links.append(ArmlessRobot(folder, name, address, key, specification))
            words = ["--options", links[-1].options_file, "--artifact", artifact, "--seconds", str(seconds)]
            program = Path(__file__).with_name("gymnasium_robot.py")
            players.append(_start([sys.executable, program, *words]))
        for player in players:
            _line(player)
        began_s, began_processor_s = time.monotonic(), processor_s(learner.process.pid)
        for player in players:
            assert player.stdin is not None
            print("go", file=player.stdin, flush=True)
        played = [msgspec.json.decode(_line(player), type=Played) for player in players]
        done_s = time.monotonic()
        episodes = sum(one.episodes for one in played)
        learner.wait_until(lambda: int(learner.status["episodes"]) == episodes, f"for {episodes} episodes")
        behind_s = time.monotonic() - done_s
        status, used_s = learner.status, processor_s(learner.process.pid) - began_processor_s
        memory_bytes = _memory_bytes(learner.process.pid)
        link_s = [processor_s(link.process.pid) for link in links]
        for link in links:
            link.stop()
        assert learner.stop() == 0
    finally:
        for player in players:
            player.kill()
        for link in links:
            link.process.kill()
        learner.kill()
    rows, compared, wrong = check(folder, specification, [link.journal for link in links], played, link_s)
    row = LearnerRow(
        seconds=done_s - began_s + behind_s,
        processor_s=used_s,
        memory_bytes=memory_bytes,
        episodes=status["episodes"],
        steps=status["steps"],
        updates=status["updates"],
        generation=status["generation"],
        inbox_entries_compared=compared,
        behind_s=behind_s,
    )
    return rows, row, wrong


def check(
    folder: Path, specification: Specification, journals: list[Path], played: list[Played], link_s: list[float]
) -> tuple[list[RobotRow], int, list[str]]:
    """Compare journals, what the robots say, replay and inbox; return rows, inbox entries compared and what is wrong."""
    stored = replayed(folder / "served" / "replay", specification)
    rows: list[RobotRow] = []
    wrong: list[str] = []
    compared = 0
    for path, one, used_s in zip(journals, played, link_s, strict=True):
        journal = JournalFiles(path)
        audit = Audit(journal)
        wrong += [f"{one.robot}: {violation}" for violation in audit.violations]
        steps = there = 0
        for episode in journal.episodes(specification):
            steps += len(episode.steps)
            name = (one.robot, episode.end.boot_epoch, episode.end.episode)
            seen = stored.pop(name, None)
            expected = np.array([[*s.observation, *s.action_policy] for s in episode.steps], np.float32)
            if seen is None or not np.array_equal(seen, expected):
                wrong.append(f"{one.robot}: episode {episode.end.episode} is not in the replay as it is in the journal")
            else:
                there += len(episode.steps)
        if (steps, audit.counts["steps"], audit.counts["episodes"], one.lost) != (
            one.steps,
            one.steps,
            one.episodes,
            0,
        ):
            wrong.append(f"{one.robot}: {one.steps} steps were made, {audit.counts['steps']} are in its journal")
        counts, violations = compare_with_inbox(journal, folder / "served" / "inbox")
        compared += counts["entries compared"]
        wrong += [f"{one.robot}: {violation}" for violation in violations]
        rows.append(
            RobotRow(
                played=one,
                journal_bytes=sum(file.stat().st_size for file in path.glob("*.seg")),
                journal_steps=audit.counts["steps"],
                link_processor_s=used_s,
                steps_in_replay=there,
            )
        )
    wrong += [f"episode {name} is in the replay and in no journal" for name in stored]
    return rows, compared, wrong


def replayed(folder: Path, specification: Specification) -> dict[tuple[str, int, int], npt.NDArray[np.float32]]:
    """Return observation and action of every step [steps, O + A] of every episode of a replay."""
    replay = Replay.open(folder, specification)
    batch = replay.windows(np.arange(len(replay)))
    rows = np.concatenate([batch.observation.numpy(), batch.actions[:, 0].numpy()], axis=1)
    found, first = {}, 0
    for stored in replay.after(0):
        found[stored.robot, stored.boot_epoch, stored.episode] = rows[first : first + stored.steps]
        first += stored.steps
    return found


def _start(words: list[object]) -> subprocess.Popen[str]:
    return subprocess.Popen(list(map(str, words)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _line(player: subprocess.Popen[str]) -> str:
    assert player.stdout is not None
    line = player.stdout.readline()
    if not line:
        raise RuntimeError(f"a robot has ended with {player.wait(PATIENCE_S)}")
    return line


def _memory_bytes(process: int) -> int:
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def show(report: Report) -> None:
    """Print a line a robot and one of the learner; processor time as a share of one core."""
    print(f"{'robot':>8} {'steps':>7} {'per s':>6} {'late':>5} {'replay':>7} {'B/step':>7} {'link':>6} {'robot':>6}")
    for row in report.robots:
        one = row.played
        link, robot = row.link_processor_s / one.seconds, one.processor_s / one.seconds
        print(
            f"{one.robot:>8} {one.steps:>7} {one.steps / one.seconds:>6.1f} {one.late_chunks:>5} {row.steps_in_replay:>7} "
            f"{row.journal_bytes / one.steps:>7.0f} {link:>6.1%} {robot:>6.1%}"
        )
    learner = report.learner
    print(
        f"learner: {learner.steps} steps of {learner.episodes} episodes, {learner.updates} updates, "
        f"generation {learner.generation}, {learner.processor_s / learner.seconds:.1%} of a core, "
        f"{learner.memory_bytes / 1e6:.0f} MB, had everything {learner.behind_s:.1f} s after the last episode"
    )
    print(f"load {report.load_average[0]:.1f}, {len(report.wrong)} wrong")
    for sentence in report.wrong:
        print(sentence)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--robots", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--updates-per-step", type=float, default=0.05)
    parser.add_argument("--artifact", type=Path, default=ARTIFACT)
    parser.add_argument("--host", default="127.0.18.61", help="loopback address of the learner")
    parser.add_argument("--folder", type=Path, default=Path("runs"), help="on which disk journals and inbox are")
    parser.add_argument("--out", type=Path)
    flags = parser.parse_args()
    if not 1 <= flags.robots <= 64 or not 0.01 <= flags.minutes <= 1440:
        parser.error(
            f"{flags.robots} robots for {flags.minutes:g} minutes: give 1 to 64 robots and 0.01 to 1440 minutes"
        )
    flags.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=flags.folder) as made:
        robots, learner, wrong = measure(
            Path(made), flags.robots, 60.0 * flags.minutes, flags.artifact, flags.host, flags.updates_per_step
        )
    report = Report(
        command=sys.argv,
        computer=host_facts(),
        load_average=os.getloadavg(),
        robots=robots,
        learner=learner,
        wrong=wrong,
    )
    show(report)
    if flags.out:
        flags.out.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
