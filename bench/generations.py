"""How many generations of real learning runs does a robot refuse? Each one signed, examined, in shadow and on probation.

python bench/generations.py --seed 1 [--generations 34] [--minutes 5] [--updates-per-step 0.3] [--folder DIR]

`poco-learner serve` with the recipe and the start of the demonstration learns from a robot whose arm is simulated without a clock;
link process and gate process are real, shadow and probation as shipped. The robot waits for the learner after every episode, so
that the run learns as one in real time does. Its critic comes warmed up. With 0.3 updates a step a generation follows the other
about as fast as trials end.

--folder (default runs/generations) holds one folder a seed, which is gone on with: a generation that was on trial when --minutes
were over does not count, and the robot is told again how the episodes of those that were kept went. In the end it shows all
seeds that are there, with the 95 % interval of the share refused; exit code 1 if more than one in a hundred was, of a hundred or
more.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml
from armless_robot import CONFIG, ArmlessRobot, free_address
from simulated_robot import SimulatedRobot

from poco.artifact import Artifact, read_artifact
from poco.journal.records import Boot
from poco.learner.recipe import read_training_settings
from poco.runtime.actors import ChunkFigures
from poco.runtime.demo_learn.sides import Side, make_keys
from poco.runtime.entrance import Entrance
from poco.runtime.gate import read_verdicts
from poco.runtime.store import ArtifactStore
from poco.runtime.swap import SUPERSEDED, SlotState
from poco.settings import read_settings
from poco.statistics import wilson_interval

ROOT = Path(__file__).parents[1]
START = ROOT / "artifacts" / "peg_in_hole_start"
RECIPE = ROOT / "configs" / "cpu" / "peg_in_hole_served.yaml"
ROBOT = "fr3"
DECISIONS = "decisions.jsonl"
EPISODES = "episodes.jsonl"
OWED_MAX = 60
PATIENCE_S = 240.0
LOOK_S = 0.02
BAR = 0.01
ENOUGH = 100

Line = TypeVar("Line", bound=msgspec.Struct)


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a generation: `state` is the one it came to before the end, `reason` is empty for one that became active."""

    generation: int
    state: str
    reason: str


class Drove(msgspec.Struct, frozen=True, kw_only=True):
    """One episode: which generation began it, how it ended, and of each chunk whether it was slowed down and was held."""

    generation: int
    success: bool
    fault: bool
    chunks: tuple[tuple[bool, bool], ...]


class LearningRun:
    """One learner and one robot in the folder `folder`, gone on with or begun."""

    def __init__(self, folder: Path, seed: int, updates_per_step: float, host: str) -> None:
        """Start learner, link process and gate process; `begin` waits for them."""
        self.folder, self._out = folder, folder / "learner"
        folder.mkdir(parents=True, exist_ok=True)
        artifact = read_artifact(START / "policy")
        if not (folder / "trust").exists():
            make_keys(folder)
        recipe = msgspec.structs.replace(
            read_training_settings(RECIPE), updates_per_step=updates_per_step, warm_up_steps=0
        )
        (folder / "recipe.yaml").write_text(yaml.safe_dump(msgspec.to_builtins(recipe)))
        address = free_address(host)
        start = [
            "--artifact",
            START / "policy",
            "--config",
            folder / "recipe.yaml",
            "--start",
            START / "run",
            "--seed",
            seed,
        ]
        words = ["serve", *start, "--data", START / "demonstrations", "--out", self._out, "--bind", address, "--resume"]
        words += ["--signing-key", folder / "trust" / "learner.key"]
        (self._out / "status.json").unlink(missing_ok=True)
        self._learner = Side("poco-learner", [str(word) for word in words], folder / "learner.log")
        life = folder / f"life-{time.time_ns()}"
        life.mkdir()
        paths = {
            "swap.trust": folder / "trust" / "robot",
            "swap.store": folder / "store",
            "journal.folder": folder / "journal",
        }
        settings = {name: f'"{path}"' for name, path in paths.items()}
        self._link = ArmlessRobot(life, ROBOT, address, None, artifact.specification, str(artifact.path), **settings)
        self._store = ArtifactStore(folder / "store")
        if self._store.boot() is None:
            self._store.adopt(artifact)
        gate = [sys.executable, "-m", "poco.runtime.gate", "--options", str(self._link.options_file)]
        self._gate = subprocess.Popen(gate, stdout=subprocess.DEVNULL)
        self._entrance = Entrance(self._link.options.run_name, f"policy-{self._link.options.boot_epoch}")
        self._robot = self._make_robot(artifact, seed)
        self._before = 0

    def _make_robot(self, artifact: Artifact, seed: int) -> SimulatedRobot:
        options, past = self._link.options, len(read(self.folder / EPISODES, Drove))
        robot = SimulatedRobot(
            self._store,
            read_settings(CONFIG, {}).swap,
            "hard",
            ROBOT,
            options.boot_epoch,
            1_000_000 * seed + past,
            self._entrance.offer,
        )
        self._entrance.offer(
            Boot(
                robot=ROBOT,
                boot_epoch=options.boot_epoch,
                generation=robot.actor.generation,
                specification=artifact.specification,
                specification_hash=artifact.manifest.specification_hash,
            )
        )
        self._tell_again(robot)
        return robot

    def _tell_again(self, robot: SimulatedRobot) -> None:
        """Let the robot know how the episodes of generations that became active went before it was broken off."""
        kept = {1, *(one.generation for one in read(self.folder / DECISIONS, Decision) if not one.reason)}
        for drove in read(self.folder / EPISODES, Drove):
            if drove.generation in kept:
                for slowed, held in drove.chunks:
                    robot.actor.chunk(ChunkFigures(slowed, False, False, held))
                robot.actor.episode(drove.success, drove.fault)

    @property
    def status(self) -> dict[str, Any]:
        """What the learner says of itself; empty before it has said anything."""
        file = self._out / "status.json"
        found: dict[str, Any] = json.loads(file.read_bytes()) if file.exists() else {}
        return found

    def begin(self) -> None:
        """Wait for the learner; raises RuntimeError if it does not come up."""
        self._wait(lambda: bool(self.status), "for the learner")
        self._before = self.status["episodes"]

    def episode(self) -> None:
        """Run one episode, note what came of it and of the generations on trial, and wait for the learner."""
        robot, generation, before = self._robot, self._robot.actor.generation, len(self._robot.moves)
        outcome = robot.episode()
        chunks = tuple((one.stretched or one.stopped_first, one.interrupted) for one in robot.figures)
        drove = Drove(generation=generation, success=outcome == "success", fault=outcome == "fault", chunks=chunks)
        append(self.folder / EPISODES, drove)
        for moved in robot.moves[before:]:
            if moved.after == SlotState.ACTIVE or (moved.after == SlotState.REJECTED and moved.reason != SUPERSEDED):
                decision = Decision(generation=moved.generation, state=moved.before, reason=moved.reason)
                append(self.folder / DECISIONS, decision)
                print(f"{self.folder.name}: generation {moved.generation} {moved.after} {moved.reason}", flush=True)
        expected = self._before + robot.episodes - 1
        self._wait(lambda: self.status["episodes"] >= expected and self.status["owed"] < OWED_MAX, "for its updates")

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not condition():
            if not self._learner.running or time.monotonic() > deadline_s:
                raise RuntimeError(f"waited in vain {what}: {self.status}, see {self.folder / 'learner.log'}")
            self._entrance.pump()
            time.sleep(LOOK_S)

    def end(self) -> None:
        """End all processes; the learner keeps a checkpoint."""
        self._entrance.settle(PATIENCE_S)
        self._link.stop()
        self._learner.stop()
        self._gate.kill()
        self._gate.wait()


def append(file: Path, line: msgspec.Struct) -> None:
    """Add a line of JSON to `file`."""
    with file.open("ab") as stream:
        stream.write(msgspec.json.encode(line) + b"\n")


def read(file: Path, kind: type[Line]) -> list[Line]:
    """Return the lines of `file`, none if it is not there."""
    lines = file.read_bytes().splitlines() if file.exists() else []
    return [msgspec.json.decode(line, type=kind) for line in lines]


def show(folder: Path) -> tuple[int, int]:
    """Print a line for every run in `folder` and one for all; return how many generations were decided and how many refused."""
    decided, refused = 0, 0
    for run in sorted(folder.iterdir()):
        decisions, episodes = read(run / DECISIONS, Decision), read(run / EPISODES, Drove)
        no = [one for one in decisions if one.reason]
        gate = Counter(verdict.reason for verdict in read_verdicts(run / "store") if verdict.reason)
        part = max(1, len(episodes) // 5)
        rates = [episodes[first : first + part] for first in range(0, len(episodes), part)]
        success = " ".join(f"{sum(one.success for one in rate) / len(rate):.2f}" for rate in rates)
        print(
            f"{run.name}: {len(decisions)} generations decided, {len(no)} refused, {gate.total()} at the gate; "
            f"{len(episodes)} episodes, success by fifths {success}"
        )
        for one in no:
            print(f"  generation {one.generation}, {one.state}: {one.reason}")
        decided, refused = decided + len(decisions) + gate.total(), refused + len(no) + gate.total()
    low, high = wilson_interval(refused, decided)
    print(f"all: {refused} of {decided} refused, 95 % interval {low:.1%} to {high:.1%}")
    return decided, refused


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--generations", type=int, default=34, help="how many are to be decided in this run")
    parser.add_argument("--minutes", type=float, default=5.0, help="how long this call goes on at most")
    parser.add_argument("--updates-per-step", type=float, default=0.3)
    parser.add_argument("--folder", type=Path, default=Path("runs/generations"))
    parser.add_argument("--host", default="127.0.18.71", help="loopback address of the learner")
    flags = parser.parse_args()
    deadline_s = time.monotonic() + 60.0 * flags.minutes
    folder = (flags.folder / f"seed-{flags.seed}").resolve()
    run = LearningRun(folder, flags.seed, flags.updates_per_step, flags.host)
    try:
        run.begin()
        while time.monotonic() < deadline_s and len(read(folder / DECISIONS, Decision)) < flags.generations:
            run.episode()
    finally:
        run.end()
    decided, refused = show(flags.folder)
    sys.exit(1 if decided >= ENOUGH and refused > BAR * decided else 0)


if __name__ == "__main__":
    main()
