"""`poco-runtime doctor`: say before a run what of this computer will make the arm stop, and what to do about it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console

from poco.arm_settings import RobotSettings
from poco.clock import TICKS_PER_SECOND
from poco.errors import UsageError
from poco.runtime import findings, network_path
from poco.runtime.benchmarks import native_loop
from poco.runtime.findings import Finding
from poco.runtime.run_flags import add_robot_flag
from poco.settings import read_settings, settings_keys

DESCRIPTION = "Examine this computer and the way to the arm; nothing moves."
EPILOG = """examples:
  poco-runtime doctor
  poco-runtime doctor --robot franka --robot.host 172.16.0.2 --robot.realtime.cpu 3
  poco-runtime doctor --json

Grades: fail keeps poco from working, warn from being punctual.
Exit codes: 0 nothing failed, 1 something did, 2 usage, 3 settings."""
COLORS = {"ok": "green", "warn": "yellow", "fail": "red"}
ROBOT = "robot."


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise UsageError(f"{message}; see poco-runtime doctor --help")


def examine(robot: RobotSettings, jitter_s: float) -> list[Finding]:
    """Return all findings for `robot`, after a native loop of `jitter_s`; nothing is changed on this computer."""
    loop = native_loop.measure(round(jitter_s * TICKS_PER_SECOND), robot.realtime.priority, robot.realtime.cpu)
    return [
        findings.client_library(),
        findings.kernel(),
        *findings.setup(loop, robot.realtime.required),
        findings.governor(),
        findings.isolation(robot.realtime),
        findings.jitter(loop),
        findings.shared_memory(),
        findings.memory_shortage(),
        findings.memory_group(),
        *network_path.network(robot.host, robot.realtime.cpu, answer_needed=robot.kind == "franka"),
    ]


def run(words: Sequence[str], config: Path, console: Console) -> int:
    """Run the command line `words` after `poco-runtime doctor`; return the exit code. Raises UsageError or SettingsError."""
    parser = _Parser("poco-runtime doctor", description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_robot_flag(parser)
    parser.add_argument(
        "--config", type=Path, default=config, metavar="FILE", help="settings file (default: the packaged)"
    )
    parser.add_argument("--jitter-s", type=float, default=2.0, metavar="S", help="how long to measure (default 2 s)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    keys = [key for key in settings_keys() if key.startswith(ROBOT)]
    for key in keys:
        parser.add_argument(f"--{key}", metavar="VALUE", help=argparse.SUPPRESS)
    flags = vars(parser.parse_args(words))
    if not 0.1 <= flags["jitter_s"] <= 3600.0:
        raise UsageError(f"--jitter-s is {flags['jitter_s']:g} s, must lie in 0.1 to 3600 s")
    overrides = {key: flags[key] for key in keys if flags[key] is not None}
    if flags["robot"]:
        overrides["robot.kind"] = flags["robot"]
    found = examine(read_settings(flags["config"], overrides).robot, flags["jitter_s"])
    if flags["json"]:
        console.out(msgspec.json.format(msgspec.json.encode(found)).decode(), highlight=False)
    else:
        show(found, console)
    return int(any(finding.grade == "fail" for finding in found))


def show(found: Sequence[Finding], console: Console) -> None:
    """Print a line for each finding and, where it is not ok, one for the remedy."""
    for finding in found:
        color = COLORS[finding.grade]
        console.print(
            f"[{color}]{finding.grade:<5}[/{color}]{finding.what}: {finding.seen}", highlight=False, soft_wrap=True
        )
        if finding.remedy:
            console.print(f"     remedy: {finding.remedy}", highlight=False, soft_wrap=True)
