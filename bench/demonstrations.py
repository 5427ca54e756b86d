"""Do demonstrations recorded on the arm teach as much as those of the environment's operator? A table, and JSON with host facts.

python bench/demonstrations.py --folder DIR [--count 30] [--clones 3] [--episodes 100] [--variant easy] [--image-side 64]
    [--only STAGE]

recorded: scripted hands hold the device of `poco-runtime record` and move the emulated arm through servo, network and vendor's
library. made: the operator of the environment (`poco-learner make-data`). From each the same number of successful demonstrations;
each is cloned with the same settings under several seeds, and every clone runs the same fresh episodes. The hands tremble anew at
every look, the operator in each chunk: with --hands-noise 0.1 and --noise 0.2 both take about as long. With --image-side both hold
what two rendered cameras saw, and the clones see instead of being told where the hole is. What lies in DIR already is not made
again, so --only (record, make, clone, evaluate) cuts the work into pieces, as --piece cuts the recording. Ends with 1 where the
mean of `recorded` is more than 10 points below that of `made`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np

from poco.episodes import read_episode
from poco.runtime.run_folder import HostFacts, host_facts
from poco.statistics import wilson_interval

HOST = "127.0.19.9"
CLEARANCE_MM = {"easy": 3.0, "hard": 1.2}
SOURCES = ("recorded", "made")
STAGES = ("record", "make", "clone", "evaluate")
MARGIN = 0.10
PIECE_SEEDS = 100
"""Seeds between two pieces of the recording, an episode each; more than those that fail in between."""


class SourceRow(msgspec.Struct, frozen=True, kw_only=True):
    """Demonstrations of one source: their mean length (control periods), success of each clone, of all with its 95 % interval."""

    source: str
    demonstrations: int
    steps_mean: float
    rates: list[float]
    rate: float
    low: float
    high: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON."""

    command: list[str]
    computer: HostFacts
    rows: list[SourceRow]


def program(name: str, *arguments: str | Path) -> str:
    """Run a program of poco to its end and return what it printed."""
    command = [str(Path(sys.executable).with_name(name)), *map(str, arguments)]
    print(" ".join(command), flush=True)
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True).stdout


def seeing(flags: argparse.Namespace) -> list[str]:
    """The flag of data that hold images."""
    return ["--image-side", str(flags.image_side)] if flags.image_side else []


def files(folder: Path) -> list[Path]:
    """The episode files of a folder, in order."""
    return sorted(folder.glob("*.safetensors"))


def record(flags: argparse.Namespace) -> None:
    """Record with scripted hands on an emulated arm in lockstep, one run after the other."""
    out = flags.folder / "recorded"
    out.mkdir(exist_ok=True)
    while (there := len(files(out))) < flags.count:
        run = flags.folder / f"run-{there}"
        episodes = min(flags.piece, flags.count - there)
        record_piece(flags, run, episodes, seed=PIECE_SEEDS * there)
        for number, file in enumerate(files(run / "episodes"), start=there):
            file.rename(out / f"{number:06d}.safetensors")


def record_piece(flags: argparse.Namespace, out: Path, episodes: int, seed: int) -> None:
    """Record so many successful `episodes` in one run, whose folder is `out`."""
    arm = ["--robot", "sim", "--robot.host", HOST, "--emulator.pacing", "lockstep"]
    arm += ["--emulator.clearance_mm", str(CLEARANCE_MM[flags.variant])]
    hands = [
        "--hands",
        "scripted",
        "--noise",
        str(flags.hands_noise),
        "--bias-m",
        str(flags.bias_m),
        "--only-successes",
    ]
    words = [*arm, *hands, *seeing(flags), "--task", "peg_in_hole", "--episodes", str(episodes), "--seed", str(seed)]
    print(program("poco-runtime", "record", *words, "--out", out))


def make(flags: argparse.Namespace) -> None:
    """Have the environment's operator succeed as often."""
    out, episodes = flags.folder / "made", flags.count
    operator = ["--variant", flags.variant, "--noise", str(flags.noise), "--bias-m", str(flags.bias_m), *seeing(flags)]
    while len(files(out)) < flags.count:
        program("poco-learner", "make-data", *operator, "--episodes", str(episodes), "--resume", "--out", out)
        episodes += 5
    for file in files(out)[flags.count :]:
        file.unlink()


def clone(flags: argparse.Namespace) -> None:
    """Clone every source under every seed."""
    for source in SOURCES:
        for seed in range(flags.clones):
            out = flags.folder / f"{source}-{seed}"
            if not (out / "training.json").is_file():
                words = ["--steps", str(flags.steps), "--seed", str(seed)]
                words += ["--batch", "64", "--width", str(flags.width)] if flags.image_side else []
                program("poco-learner", "clone", "--data", flags.folder / source, *words, "--out", out)


def evaluate(flags: argparse.Namespace) -> None:
    """Let every clone run the same fresh episodes."""
    for source in SOURCES:
        for seed in range(flags.clones):
            result = flags.folder / f"{source}-{seed}.json"
            if not result.is_file():
                words = ["--variant", flags.variant, "--episodes", str(flags.episodes)]
                printed = program("poco-learner", "evaluate", "--checkpoint", flags.folder / f"{source}-{seed}", *words)
                result.write_text(printed.strip().splitlines()[-1])


def row(flags: argparse.Namespace, source: str) -> SourceRow:
    """Put together what is known of `source`."""
    demonstrations = [read_episode(file) for file in files(flags.folder / source)]
    results = [json.loads((flags.folder / f"{source}-{seed}.json").read_text()) for seed in range(flags.clones)]
    successes, episodes = (sum(result[key] for result in results) for key in ("successes", "episodes"))
    low, high = wilson_interval(successes, episodes)
    return SourceRow(
        source=source,
        demonstrations=len(demonstrations),
        steps_mean=float(np.mean([len(one.steps) for one in demonstrations])),
        rates=[result["rate"] for result in results],
        rate=successes / episodes,
        low=low,
        high=high,
    )


def main() -> None:
    """Run the stages that are asked for; with all of them done, print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--clones", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--variant", choices=tuple(CLEARANCE_MM), default="easy")
    parser.add_argument("--noise", type=float, default=0.2)
    parser.add_argument("--hands-noise", type=float, default=0.1)
    parser.add_argument("--bias-m", type=float, default=0.0)
    parser.add_argument("--image-side", type=int)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--piece", type=int, default=30)
    parser.add_argument("--only", choices=STAGES)
    flags = parser.parse_args()
    flags.folder.mkdir(parents=True, exist_ok=True)
    for stage, work in zip(STAGES, (record, make, clone, evaluate), strict=True):
        if flags.only in (None, stage):
            work(flags)
    if flags.only not in (None, "evaluate"):
        return
    rows = [row(flags, source) for source in SOURCES]
    for one in rows:
        print(
            f"{one.source:<9} {one.demonstrations} demonstrations of {one.steps_mean:.1f} steps: {one.rate:.0%} "
            f"({one.low:.0%} to {one.high:.0%}), clones {', '.join(f'{rate:.0%}' for rate in one.rates)}"
        )
    report = Report(command=sys.argv, computer=host_facts(), rows=rows)
    (flags.folder / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    sys.exit(0 if rows[0].rate >= rows[1].rate - MARGIN else 1)


if __name__ == "__main__":
    main()
