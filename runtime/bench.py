"""`poco-bench`: how fast the parts are on this computer, each against a bare competitor in the same run."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

import msgspec
from rich.console import Console
from rich.table import Column, Table

from poco.durable import write_durably
from poco.errors import UsageError, guard
from poco.runtime.benchmarks.outcome import (
    PERCENTILES,
    Outcome,
    OutcomeReport,
    check_budgets,
    parse_budgets,
    report_of,
)
from poco.settings import BackendName, read_settings

DESCRIPTION = "Measure a part of poco against a bare competitor in the same run."
EPILOG = """examples:
  poco-bench loop --cpu 1                                       # native 1 kHz loop against cyclictest
  poco-bench inference --policy artifacts/peg_in_hole           # session against raw ONNX Runtime
  poco-bench inference --policy artifacts/peg_in_hole --torch bench/torch_eager.py  # and torch eager
  poco-bench vla --policy artifacts/tiny_smolvla --task "pick up the peg"  # stages of a policy that is told its task
  poco-bench observe-to-chunk --chunks 1000                     # frames and state to a published chunk
  poco-bench kills --policy artifacts/peg_in_hole               # servo while processes are killed, stopped and starved
  poco-bench journal --folder runs --group-steps 20             # durable steps, against SQLite
  poco-bench link                                               # a batch to the learner and back, keys on and off
  poco-bench swap --policy artifacts/peg_in_hole                # servo and inference while policies are replaced
  poco-bench seeing --seeing artifacts/peg_in_hole_seen --policy artifacts/peg_in_hole  # servo beside cameras and encoder
  poco-bench franka --host 127.0.0.9 --budget servo/bare.p99=2  # servo loop against a bare hold loop

Every benchmark prints percentiles (medians over the repeats) and writes JSON and a PNG into --out. --budget NAME=VALUE may be
given several times; NAME is a figure of the JSON, such as loop.p99 (us) or loop/cyclictest.p99 (a ratio).
Exit codes: 0 done, 1 over budget or a competitor is missing, 2 usage, 4 artifact, 5 arm, 6 address,
130 stopped by Ctrl-C or SIGTERM."""


CONFIG = Path(__file__).parent.parent / "configs" / "fr3_peg_in_hole.yaml"


LIMITS: dict[str, tuple[float, float, str]] = {
    "repeats": (1, 1000, ""),
    "slice_s": (0.1, 3600.0, " s"),
    "block_s": (0.1, 3600.0, " s"),
    "shadow_chunks": (0, 1000, ""),
    "busy": (0, 64, ""),
    "priority": (1, 98, ""),
    "pairs": (1, 1_000_000, ""),
    "calls": (1, 1_000_000, ""),
    "threads": (1, 64, ""),
    "chunks": (1, 1_000_000, ""),
    "groups": (1, 1_000_000, ""),
    "group_steps": (1, 10_000, ""),
    "batches": (1, 1_000_000, ""),
    "batch_bytes": (1, 1 << 21, " bytes"),
}
KILLS = ("policy-kill", "policy-stop", "policy-starve", "supervisor-stop", "memory", "memory-of-all", "clock-step")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise UsageError(f"{message}; see {self.prog} --help")


def _loop(flags: argparse.Namespace) -> Outcome:
    from poco.runtime.benchmarks import loop

    return loop.run(flags.repeats, flags.slice_s, flags.priority, flags.cpu)


def _inference(flags: argparse.Namespace) -> Outcome:
    from poco.runtime.benchmarks import inference

    return inference.run(flags.policy, flags.repeats, flags.pairs, flags.torch)


def _franka(flags: argparse.Namespace) -> Outcome:
    from poco.runtime.benchmarks import franka

    return franka.run(flags.host, flags.repeats, flags.block_s, flags.config)


def _kills(flags: argparse.Namespace) -> Outcome:
    from poco.runtime.benchmarks import kills

    return kills.run(flags.host, flags.policy, flags.kinds, flags.repeats, flags.block_s)


def _swap(flags: argparse.Namespace) -> Outcome:
    from poco.runtime.benchmarks import swaps

    words = (flags.host, flags.policy, flags.repeats, flags.block_s, flags.shadow_chunks, flags.busy, flags.beside)
    return swaps.run(*words, flags.pieces)


def _seeing(flags: argparse.Namespace) -> Outcome:
    from poco.runtime.benchmarks import seeing

    return seeing.run(flags.host, flags.seeing, flags.policy, flags.repeats, flags.block_s)


def _observe_to_chunk(flags: argparse.Namespace) -> Outcome:
    from poco.runtime.benchmarks import observe_to_chunk

    return observe_to_chunk.run(flags.repeats, flags.chunks, flags.rate_hz)


def _vla(flags: argparse.Namespace) -> Outcome:
    from poco.runtime.benchmarks import vla

    frame = flags.frame[1], flags.frame[0]
    settings = read_settings(CONFIG, {"inference.backend": flags.backend, "inference.threads": str(flags.threads)})
    return vla.run(flags.policy, flags.task, flags.repeats, flags.calls, frame, settings.inference, flags.library)


def _journal(flags: argparse.Namespace) -> Outcome:
    from poco.runtime.benchmarks import durable

    return durable.run(flags.folder, flags.repeats, flags.groups, flags.group_steps)


def _link(flags: argparse.Namespace) -> Outcome:
    from poco.runtime.benchmarks import link

    return link.run(flags.repeats, flags.batches, flags.batch_bytes)


def parser() -> argparse.ArgumentParser:
    """Return the command line of `poco-bench`; every command has its own flags and --help."""
    root = _Parser("poco-bench", description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False)
    root.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")

    command = _add(commands, "loop", _loop, "lateness of the native 1 kHz loop against cyclictest (root or rtprio)")
    command.add_argument("--slice-s", type=float, default=20.0, metavar="S", help="length of one slice (default 20 s)")
    command.add_argument("--priority", type=int, default=80, help="SCHED_FIFO priority of both (default 80)")
    command.add_argument("--cpu", type=int, default=0, help="the CPU both run on (default 0)")

    command = _add(
        commands, "inference", _inference, "CPU time of an inference against raw ONNX Runtime and torch eager"
    )
    _add_artifact(command, "--policy", "artifact folder")
    command.add_argument("--pairs", type=int, default=500, metavar="N", help="interleaved pairs a repeat (default 500)")
    command.add_argument("--torch", type=Path, metavar="PROGRAM", help="bench/torch_eager.py: measure torch eager too")

    what = "stages of a vision-language-action policy from frames to actions, against LeRobot's eager call where it is asked for"
    command = _add(commands, "vla", _vla, what)
    _add_artifact(command, "--policy", "artifact folder")
    command.add_argument("--task", required=True, metavar="TEXT", help="what the policy is told")
    command.add_argument("--calls", type=int, default=50, metavar="N", help="calls a repeat (default 50)")
    command.add_argument(
        "--frame",
        type=int,
        nargs=2,
        default=(640, 480),
        metavar=("W", "H"),
        help="pixels of the frames (default 640 480)",
    )
    command.add_argument(
        "--backend",
        choices=get_args(BackendName),
        default="onnxruntime-cpu",
        help="what computes (default onnxruntime-cpu)",
    )
    command.add_argument("--threads", type=int, default=1, metavar="N", help="threads of the CPU (default 1)")
    what = "bench/vla_eager.py or bench/lerobot_async.py with Python and checkpoint: measure LeRobot's own call too"
    command.add_argument("--library", metavar="COMMAND", help=what)

    what = "everything but the model, from frames to chunk, against bare round trips of the same bytes"
    command = _add(commands, "observe-to-chunk", _observe_to_chunk, what)
    command.add_argument("--chunks", type=int, default=1000, metavar="N", help="chunks a repeat (default 1000)")
    command.add_argument("--rate-hz", type=float, default=50.0, metavar="HZ", help="rate of the actions (default 50)")

    command = _add(commands, "journal", _journal, "steps made durable by the journal against SQLite (WAL, FULL)")
    command.add_argument(
        "--folder", type=Path, default=Path("runs"), metavar="DIR", help="on which disk (default runs)"
    )
    command.add_argument("--groups", type=int, default=200, metavar="N", help="groups a repeat (default 200)")
    command.add_argument("--group-steps", type=int, default=1, metavar="N", help="steps a group (default 1)")

    command = _add(commands, "link", _link, "a batch to the learner and its acknowledgement, with keys and without")
    command.add_argument("--batches", type=int, default=200, metavar="N", help="round trips a repeat (default 200)")
    command.add_argument(
        "--batch-bytes", type=int, default=256 << 10, metavar="N", help="bytes of a batch (default 262144)"
    )

    command = _add(commands, "franka", _franka, "state received to command sent against a bare pylibfranka loop")
    _add_blocks(command, 10)
    command.add_argument(
        "--config", type=Path, default=CONFIG, metavar="FILE", help="settings file (default: the packaged)"
    )

    what = "servo turnaround while processes of a run are killed, stopped and starved, against quiet blocks"
    command = _add(commands, "kills", _kills, what, repeats=10)
    _add_artifact(command, "--policy", "artifact folder")
    command.add_argument("--kinds", nargs="+", choices=KILLS, default=KILLS, metavar="KIND", help=", ".join(KILLS))
    _add_blocks(command, 8)

    what = "turnaround and chunk latency of runs of a policy that sees, against runs of one that is told"
    command = _add(commands, "seeing", _seeing, what)
    _add_artifact(command, "--seeing", "artifact folder of one that sees")
    _add_artifact(command, "--policy", "artifact folder of one that is told")
    _add_blocks(command, 20)

    what = "the servo's turnaround while the policy is replaced again and again, against quiet blocks; rebinding against reopening"
    command = _add(commands, "swap", _swap, what, repeats=10)
    _add_artifact(command, "--policy", "artifact folder")
    _add_blocks(command, 30)
    command.add_argument("--shadow-chunks", type=int, default=0, metavar="N", help="chunks in shadow first (default 0)")
    command.add_argument("--busy", type=int, default=0, metavar="N", help="busy processes beside the run (default 0)")
    what = "artifacts whose rebinding is timed as well, such as those of bench/wide_policy.py"
    command.add_argument("--beside", type=Path, nargs="+", default=[], metavar="PATH", help=what)
    what = "folder of earlier runs, which this one is added to and told of with"
    command.add_argument("--pieces", type=Path, metavar="DIR", help=what)
    return root


def _add(
    commands: argparse._SubParsersAction[_Parser],
    name: str,
    measure: Callable[[argparse.Namespace], Outcome],
    what: str,
    repeats: int = 5,
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=what, description=what, allow_abbrev=False)
    command.set_defaults(measure=measure)
    command.add_argument(
        "--repeats", type=int, default=repeats, metavar="N", help=f"alternating repeats (default {repeats})"
    )
    command.add_argument("--out", type=Path, default=Path("runs/bench"), metavar="DIR", help="folder of JSON and PNG")
    command.add_argument(
        "--budget", action="append", default=[], metavar="NAME=VALUE", help="exit 1 if a figure is above"
    )
    return command


def _add_artifact(command: argparse.ArgumentParser, flag: str, what: str) -> None:
    command.add_argument(flag, type=Path, required=True, metavar="PATH", help=what)


def _add_blocks(command: argparse.ArgumentParser, block_s: int) -> None:
    """Add where the emulated arm is, and how long each block of a run with it lasts unless told otherwise (s)."""
    command.add_argument("--host", default="127.0.0.9", metavar="ADDRESS", help="loopback address of the emulated arm")
    what = f"length of one block (default {block_s} s)"
    command.add_argument("--block-s", type=float, default=float(block_s), metavar="S", help=what)


def run(words: Sequence[str], console: Console) -> None:
    """Run the command line `words`; raises PocoError for a wrong one, a missing competitor or a figure over budget."""
    flags = parser().parse_args(words)
    check(flags)
    budgets = parse_budgets(flags.budget)
    outcome: Outcome = flags.measure(flags)
    report = report_of(outcome, ["poco-bench", *words])
    console.print(table_of(outcome, report))
    for note in outcome.notes:
        console.print(f"note: {note}", highlight=False, soft_wrap=True)
    for path in write(outcome, report, flags.out):
        console.print(str(path), highlight=False, soft_wrap=True)
    check_budgets(report.figures, budgets)


def check(flags: argparse.Namespace) -> None:
    """Refuse what cannot be measured and make the folder of the results; raises UsageError before anything is measured."""
    for name, (low, high, unit) in LIMITS.items():
        value = getattr(flags, name, low)
        if not low <= value <= high:
            raise UsageError(f"--{name.replace('_', '-')} is {value:g}{unit}, must lie in {low:g} to {high:g}{unit}")
    cpus = sorted(os.sched_getaffinity(0))
    if getattr(flags, "cpu", cpus[0]) not in cpus:
        raise UsageError(f"--cpu is {flags.cpu}, this process may use {', '.join(map(str, cpus))}")
    try:
        flags.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"--out {flags.out} cannot be made ({error.strerror}): choose a folder you may write to"
        ) from error


def table_of(outcome: Outcome, report: OutcomeReport) -> Table:
    """Return the figures as a table: a row a subject (us) and a row a ratio."""
    table = Table(Column("median", overflow="fold"), *PERCENTILES, title=outcome.what)
    rows = [*(measurement.name for measurement in outcome.measurements), *map("/".join, outcome.pairs)]
    for row in rows:
        unit = "" if "/" in row else " (us)"
        table.add_row(row + unit, *(f"{report.figures[f'{row}.{name}']:.4g}" for name in PERCENTILES))
    return table


def write(outcome: Outcome, report: OutcomeReport, folder: Path) -> list[Path]:
    """Write JSON and PNG of a benchmark into `folder` and return their paths."""
    from poco.runtime.benchmarks.pictures import draw

    paths = [folder / f"{outcome.benchmark}.json", folder / f"{outcome.benchmark}.png"]
    write_durably(paths[0], msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    draw(outcome, f"{report.computer.cpu}, kernel {report.computer.kernel}, load {report.load_average:.2f}", paths[1])
    return paths


def main() -> None:
    """Entry point of `poco-bench`; SIGTERM does what Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    guard(lambda: run(sys.argv[1:], Console()))
