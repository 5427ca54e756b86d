"""Flags and settings that every run has, whoever chooses its chunks."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import msgspec

from poco.errors import UsageError
from poco.hw.task_driver import EMULATOR, NONE
from poco.runtime.run_options import WITHOUT_ARTIFACT, HandsOptions, RunOptions
from poco.settings import Settings, TaskSettings, nearest, read_settings, settings_keys

SIGNALS = ("sensors", "outcome", "reset")
"""The drivers of the task's signals, as keys of the settings' task."""

DEFAULT_CONFIG = "fr3_peg_in_hole.yaml"
PACKAGED_CONFIG = Path(__file__).parent.parent / "configs" / DEFAULT_CONFIG


class Parser(argparse.ArgumentParser):
    """Raises UsageError for a mistake."""

    def error(self, message: str) -> None:  # type: ignore[override]
        """Say what is wrong and where help is."""
        raise UsageError(f"{message}; see {self.prog} --help")


def add_robot_flag(parser: argparse.ArgumentParser) -> None:
    """Add which arm it is, robot.kind of the settings."""
    parser.add_argument(
        "--robot",
        choices=("sim", "franka", "polymetis"),
        help="sim starts the emulated arm; franka uses one that is there; polymetis one behind a Polymetis server",
    )


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of every run to `parser`."""
    add_robot_flag(parser)
    parser.add_argument(
        "--speed", type=float, default=1.0, metavar="S", help="time scale of the motion, 0.05 to 1 (default 1)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of policy noise and task (default 0)")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help=f"settings file (default: the packaged {DEFAULT_CONFIG})"
    )
    parser.add_argument("--sensors", metavar="URL", help="task signals, such as emulator://127.0.0.2")
    parser.add_argument("--out", type=Path, metavar="DIR", help="run folder (default: runs/<time>)")
    parser.add_argument(
        "--keep-minutes", type=int, default=10, metavar="N", help="keep the ticks of the last N minutes (default 10)"
    )
    parser.add_argument(
        "--recover", action="store_true", help="recover an arm that stands in a reflex, after looking at it"
    )


def add_learning_flags(parser: argparse.ArgumentParser, episodes: str) -> None:
    """Add to `parser` how long a run goes on, where `episodes` says what --episodes counts, and who learns from it."""
    parser.add_argument("--episodes", type=int, default=1, metavar="N", help=f"{episodes} (default 1)")
    parser.add_argument("--link", metavar="ADDRESS", help="learner that gets the journal, such as tcp://127.0.0.1:7766")
    parser.add_argument("--keys", metavar="DIR", help="keys of the link, as poco-keys makes them")


def add_task_flag(parser: argparse.ArgumentParser) -> None:
    """Add the task in words, for policies that are told it."""
    parser.add_argument(
        "--task", default="", metavar="TEXT", help='what a policy that takes words is told, such as "pick up the peg"'
    )


def parse_with(parser: argparse.ArgumentParser, words: Sequence[str]) -> tuple[argparse.Namespace, dict[str, str]]:
    """Return the flags of `parser` and the dotted overrides in `words`; raises UsageError naming the nearest flag."""
    flags, rest = parser.parse_known_args(words)
    known = [word for action in parser._actions for word in action.option_strings]
    return flags, _overrides(rest, [*known, *(f"--{key}" for key in settings_keys())], parser.prog)


def _overrides(rest: Sequence[str], known: Sequence[str], program: str) -> dict[str, str]:
    overrides: dict[str, str] = {}
    words = iter(rest)
    for word in words:
        name, joined, value = word.partition("=")
        if name not in known:
            if not name.startswith("-"):
                raise UsageError(f"unknown word {name}: flags begin with --; see {program} --help")
            raise UsageError(f"unknown flag {name}; {nearest(name, known)}")
        if not joined:
            value = next(words, "")
        if value == "":
            raise UsageError(f"{name} needs a value; see {program} --help")
        overrides[name.removeprefix("--")] = value
    return overrides


def options_of(flags: argparse.Namespace, overrides: dict[str, str]) -> RunOptions:
    """Check flags and settings together; raises UsageError or SettingsError with value, limit and remedy."""
    if flags.robot:
        overrides["robot.kind"] = flags.robot
    if flags.sensors:
        overrides = {f"task.{name}": flags.sensors for name in SIGNALS} | overrides
    if flags.link:
        overrides["link.learner"] = json.dumps(flags.link)
    if flags.keys:
        overrides["link.keys"] = json.dumps(flags.keys)
    settings = read_settings(flags.config or PACKAGED_CONFIG, overrides)
    if flags.keys and not settings.link.learner:
        raise UsageError(f"--keys is {flags.keys}, but there is no link that they are for: give --link too")
    if sensors_unnamed(settings, flags.config, overrides):
        raise UsageError(
            f"--robot {settings.robot.kind} needs --sensors (or a --config of its own): who says where the task's objects are?"
        )
    if settings.robot.kind == "polymetis" and find_spec("grpc") is None:
        raise UsageError("--robot polymetis needs grpc: pip install 'poco-robot[polymetis]'")
    if settings.robot.kind == "polymetis" and settings.robot.control != "position":
        raise UsageError(
            f"robot.control is {settings.robot.control}, must be position for --robot polymetis: the law there is that of the "
            "section polymetis"
        )
    if settings.robot.kind == "sim" and not flags.sensors:
        settings = msgspec.structs.replace(settings, task=_of_emulated_arm(settings, overrides))
    settings = _forbid_automatic_recovery(settings, "robot.automatic_recovery" in overrides)
    if not 1 <= flags.episodes <= 100_000:
        raise UsageError(f"--episodes is {flags.episodes}, must lie in 1 to 100000")
    if not 0.05 <= flags.speed <= 1.0:
        raise UsageError(f"--speed is {flags.speed:g}, must lie in 0.05 to 1: 1 is the speed the policy was trained at")
    if flags.seed < 0:
        raise UsageError(f"--seed is {flags.seed}, must be 0 or more")
    if not 1 <= flags.keep_minutes <= 10_000:
        raise UsageError(
            f"--keep-minutes is {flags.keep_minutes}, must lie in 1 to 10000: a minute is 46 MB, at most twice as many are kept"
        )
    started = datetime.now(UTC)
    return RunOptions(
        settings=settings,
        policy=flags.policy if flags.policy in WITHOUT_ARTIFACT else str(Path(flags.policy).resolve()),
        episodes=flags.episodes,
        speed=flags.speed,
        seed=flags.seed,
        recover=flags.recover,
        keep_minutes=flags.keep_minutes,
        run_name=f"{started:%Y%m%d-%H%M%S}-{os.getpid()}",
        boot_epoch=time.time_ns() // 1_000_000,
        hands=HandsOptions(device=flags.hands) if flags.hands else None,
        folder=str((flags.out or Path("runs") / f"{started:%Y%m%d-%H%M%S}-{os.getpid()}").resolve()),
    )


def sensors_unnamed(settings: Settings, config: Path | None, overrides: Mapping[str, str]) -> bool:
    """Tell whether an arm that is there would go by the sensors of the packaged settings, which are the emulated arm's."""
    return settings.robot.kind != "sim" and config is None and "task.sensors" not in overrides


def _of_emulated_arm(settings: Settings, overrides: Mapping[str, str]) -> TaskSettings:
    """Return the task with the signals of the emulated arm that is started, where somebody is to give them and it has a task."""
    address = NONE if settings.emulator.task == "none" else f"{EMULATOR}{settings.robot.host}"
    given = [name for name in SIGNALS if f"task.{name}" not in overrides and getattr(settings.task, name) != NONE]
    return msgspec.structs.replace(settings.task, **dict.fromkeys(given, address))


def _forbid_automatic_recovery(settings: Settings, asked_for: bool) -> Settings:
    """Only a simulated arm recovers by itself; a real one waits for a person."""
    if settings.robot.kind == "sim" or not settings.robot.automatic_recovery:
        return settings
    if asked_for:
        raise UsageError(
            "robot.automatic_recovery is for --robot sim only: on an arm a person recovers, with --recover"
        )
    return msgspec.structs.replace(settings, robot=msgspec.structs.replace(settings.robot, automatic_recovery=False))
