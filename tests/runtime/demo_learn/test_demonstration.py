"""The demonstration with all its real processes, in small: it learns, swaps, ends in order and draws; it leaves nobody behind."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import yaml

from poco.errors import UsageError
from poco.runtime.demo_learn.__main__ import Options, demo_learn
from poco.runtime.demo_learn.figures import DemoReport
from poco.runtime.demo_learn.learner_files import read_publications
from poco.runtime.demo_learn.records import LEARNER, ROBOT
from poco.runtime.demo_learn.report import NUMBERS, PAGE, PICTURE
from poco.runtime.run_folder import GenerationMoved, RunFolder
from poco.runtime.store import ArtifactStore
from programs import ROOT, Program, is_sentence, kill, wait_gone
from runs import report_of

START = ROOT / "artifacts" / "peg_in_hole_start"
RECIPE = ROOT / "configs" / "cpu" / "peg_in_hole_served.yaml"
PROOF_EPISODES = "180"
"""Some more than a calm computer of two cores gets through in the time of the demonstration, 140 to 150."""

FROZEN_EPISODES = 100
FRESH_SEED = 50_000


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """The recipe of the demonstration, made to publish every other episode, after small updates."""
    tree = yaml.safe_load(RECIPE.read_text())
    tree |= {
        "batch": 8,
        "warm_up_steps": 0,
        "bf16_sampling": "off",
        "publish": {"updates": 100, "interval_s": 0.0, "lifetime_s": 3600},
    }
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(tree))
    return file


class Demonstration(Program):
    """One demonstration, its folder tmp_path/demo."""

    def __init__(self, folder: Path, host: str, *flags: str | Path) -> None:
        self.path = folder / "demo"
        words = ["-m", "poco.runtime.demo_learn", "--host", host, "--out", self.path, "--start", START, *flags]
        super().__init__("python", *words, folder=folder / "program")

    @property
    def sides(self) -> dict[str, int]:
        """Process ids of learner and arm, by the name of their program."""
        return {
            Path(word).name: process
            for process, words in self.started()
            for word in words[:2]
            if Path(word).name.startswith("poco-")
        }

    @property
    def active(self) -> list[int]:
        """Generations that have become active."""
        if not (self.path / ROBOT / "run.json").is_file():
            return []
        events = RunFolder.open(self.path / ROBOT).events()
        return [one.generation for one in events if isinstance(one, GenerationMoved) and one.after == "active"]

    @property
    def report(self) -> DemoReport:
        """The numbers it has left."""
        return msgspec.json.decode((self.path / NUMBERS).read_bytes(), type=DemoReport)


@pytest.fixture
def running() -> Iterator[list[Program]]:
    """Programs that are ended after the test."""
    programs: list[Program] = []
    yield programs
    for program in programs:
        program.end()


def test_ctrl_c_ends_the_arm_then_the_learner_and_draws(running: list[Program], recipe: Path, tmp_path: Path) -> None:
    """What the arm did is learned from and drives it; after Ctrl-C every episode is in the replay, and the page says it all."""
    short_trial = "--robot-flags=--swap.probation_episodes 0 --swap.shadow_chunks 2"
    demo = Demonstration(tmp_path, "127.0.47.1", "--recipe", recipe, "--fast", "--minutes", "30", short_trial)
    running.append(demo)
    demo.until(lambda: len(demo.active) > 0)
    sides = demo.sides
    assert sorted(sides) == ["poco-learner", "poco-runtime"]
    demo.process.send_signal(signal.SIGINT)
    assert demo.wait() == 130, demo.err
    wait_gone(list(sides.values()))
    report = demo.report
    assert report.facts.ended == "stopped by Ctrl-C"
    assert report.run.pacing == "lockstep"
    assert report.outcomes
    assert report.missed == []
    assert report.link is not None
    assert report.link.link is not None
    assert (report.link.link.state, report.link.link.waiting) == ("streaming", 0)
    assert report.audit is not None
    assert report.audit.clean, report.audit.said
    assert report.swapped_in == len(set(demo.active))
    published = {one.generation for one in read_publications(demo.path / LEARNER)}
    assert set(demo.active) <= published
    assert all(one.first_chunk_ms is None or one.first_chunk_ms > 0.0 for one in report.generations)
    assert (demo.path / PICTURE).stat().st_size > 20_000
    assert f"{report.swapped_in} generations swapped in" in (demo.path / PAGE).read_text()
    assert "audit of the journal: clean" in demo.out


def test_killed_demonstration_leaves_nobody_behind(running: list[Program], recipe: Path, tmp_path: Path) -> None:
    """When the demonstration itself is killed, both sides end as after Ctrl-C."""
    demo = Demonstration(tmp_path, "127.0.47.2", "--recipe", recipe, "--fast")
    running.append(demo)
    demo.until(lambda: len(demo.sides) == 2)
    sides = demo.sides
    kill(demo.process.pid)
    wait_gone(list(sides.values()))


def test_learner_that_fails(running: list[Program], tmp_path: Path) -> None:
    """The demonstration ends with the learner's sentence and exit code, and no arm is started."""
    demo = Demonstration(tmp_path, "127.0.47.3", "--recipe", tmp_path / "absent.yaml")
    running.append(demo)
    assert demo.wait() == 3
    assert is_sentence(demo.err)
    assert "absent.yaml" in demo.err
    assert not (demo.path / ROBOT).exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (Options(minutes=0.0), "--minutes is 0"),
        (Options(episodes=0), "--episodes is 0"),
        (Options(seed=-1), "--seed is -1"),
        (Options(start=Path("absent")), "make demo-learn-start"),
    ],
)
def test_mistakes(tmp_path: Path, options: Options, sentence: str) -> None:
    """A wrong value or a missing beginning is one sentence before anything starts."""
    with pytest.raises(UsageError, match=sentence):
        demo_learn(replace(options, out=tmp_path / "demo"))
    assert not (tmp_path / "demo").exists()


@pytest.mark.proof
@pytest.mark.timeout(3600)
def test_the_arm_gets_better(running: list[Program], tmp_path: Path) -> None:
    """The demonstration reaches its goals; its first and last generation, frozen, differ by 35 points in 100 episodes each."""
    demo = Demonstration(tmp_path, "127.0.47.5", "--fast", "--episodes", PROOF_EPISODES, "--minutes", "45")
    running.append(demo)
    assert demo.wait() == 0, demo.err
    for goal in demo.report.goals:
        print(goal.said)
    assert all(goal.reached for goal in demo.report.goals)
    newest = ArtifactStore(demo.path / "store-fr3").boot()
    assert newest is not None
    rates = [
        frozen(running, policy, tmp_path / name)
        for policy, name in ((START / "policy", "first"), (newest.path, "last"))
    ]
    print(
        f"frozen, {FROZEN_EPISODES} episodes each: first {rates[0]:.0%}, generation {newest.manifest.generation} {rates[1]:.0%}"
    )
    assert rates[1] >= 0.75
    assert rates[1] - rates[0] >= 0.35


def frozen(running: list[Program], policy: Path, folder: Path) -> float:
    """The success rate of `policy` on the arm of the demonstration, nothing learned."""
    words = [
        "--robot",
        "sim",
        "--robot.host",
        "127.0.47.6",
        "--emulator.pacing",
        "lockstep",
        "--emulator.clearance_mm",
        "1.2",
    ]
    words += ["--policy", str(policy), "--episodes", str(FROZEN_EPISODES), "--seed", str(FRESH_SEED)]
    robot = Program("poco-runtime", *words, "--out", folder / "run", folder=folder)
    running.append(robot)
    assert robot.wait() == 0, robot.err
    report = report_of(folder / "run")
    return report.successes / report.finished
