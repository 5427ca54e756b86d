"""`poco-runtime`: run a chunk policy on an FR3, simulated or real, and draw the report."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console

from poco.artifact import Artifact, read_artifact
from poco.episodes import write_durably
from poco.errors import ArtifactError, PocoError, UsageError, guard
from poco.runtime import doctor
from poco.runtime.eyes import cameras_of
from poco.runtime.report import print_summary, write_report
from poco.runtime.run_folder import RunFacts, RunFolder, host_facts
from poco.runtime.run_options import OPERATOR, RunOptions
from poco.runtime.status import Status
from poco.runtime.store import FLOOR_FILE, ArtifactStore
from poco.runtime.supervisor import Supervisor
from poco.settings import Settings, nearest, read_settings, settings_keys
from poco.shm import RunMemory, sweep

DESCRIPTION = "Run a chunk policy on an FR3: the simulated one or a real one, through the same path."
EPILOG = """examples:
  poco-runtime --robot sim --policy artifacts/peg_in_hole --episodes 20
  poco-runtime --robot sim --policy artifacts/peg_in_hole --emulator.clearance_mm 1.2 --seed 7
  poco-runtime --robot sim --policy operator --episodes 20
  poco-runtime --robot franka --robot.host 127.0.0.2 --sensors emulator://127.0.0.2 --policy artifacts/peg_in_hole
  poco-runtime --robot franka --robot.host 172.16.0.2 --sensors URL --policy artifacts/peg_in_hole --speed 0.2
  poco-runtime --robot sim --policy artifacts/peg_in_hole --swap.trust ~/.poco/trust --episodes 100
  poco-runtime --robot sim --policy artifacts/peg_in_hole --link tcp://127.0.0.1:7766
  poco-runtime --robot sim --policy artifacts/peg_in_hole --link tcp://10.0.0.5:7766 --keys ~/.config/poco/keys
  poco-runtime veto --store runs/store-fr3
  poco-runtime doctor --robot.kind franka --robot.host 172.16.0.2

doctor examines this computer and the way to the arm; poco-runtime doctor --help says more. veto and rollback throw out
the generation of the policy that is on trial, or the active one, in a run that takes new generations (--swap.trust).
Every key of the settings file can be overridden as --section.key VALUE. Ctrl-C brakes the arm and stops the run.
Exit codes: 0 done, 2 usage, 3 settings, 4 artifact, 5 arm, 6 address, 7 real-time rights, 8 motion, 9 latched fault,
10 camera, 130 stopped by Ctrl-C."""
DEFAULT_CONFIG = "fr3_peg_in_hole.yaml"
PACKAGED_CONFIG = Path(__file__).parent.parent / "configs" / DEFAULT_CONFIG
REQUESTS = {
    "veto": "Throw out the generation of the policy that is on trial; the run goes on with the one before.",
    "rollback": "Return to the generation of the policy before the active one, while the run goes on.",
}
SUCCESS, EPISODES = "success_", "evaluation_episodes_"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise UsageError(f"{message}; see poco-runtime --help")


def parse(words: Sequence[str]) -> tuple[argparse.Namespace, dict[str, str]]:
    """Return the flags and the dotted overrides in `words`; raises UsageError naming the nearest flag."""
    parser = _Parser("poco-runtime", description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--robot", choices=("sim", "franka"), help="sim starts the emulated arm; franka uses one that is there"
    )
    parser.add_argument(
        "--policy",
        metavar="PATH",
        help="artifact folder, as poco-export makes it, or operator: the scripted operator of peg-in-hole",
    )
    parser.add_argument("--episodes", type=int, default=1, metavar="N", help="how many episodes to run (default 1)")
    parser.add_argument(
        "--speed", type=float, default=1.0, metavar="S", help="time scale of the motion, 0.05 to 1 (default 1)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of policy noise and task (default 0)")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help=f"settings file (default: the packaged {DEFAULT_CONFIG})"
    )
    parser.add_argument("--sensors", metavar="URL", help="task signals, such as emulator://127.0.0.2")
    parser.add_argument("--link", metavar="ADDRESS", help="learner that gets the journal, such as tcp://127.0.0.1:7766")
    parser.add_argument("--keys", metavar="DIR", help="keys of the link, as poco-keys makes them")
    parser.add_argument("--out", type=Path, metavar="DIR", help="run folder (default: runs/<time>)")
    parser.add_argument(
        "--keep-minutes", type=int, default=10, metavar="N", help="keep the ticks of the last N minutes (default 10)"
    )
    parser.add_argument(
        "--recover", action="store_true", help="recover an arm that stands in a reflex, after looking at it"
    )
    flags, rest = parser.parse_known_args(words)
    known = [word for action in parser._actions for word in action.option_strings]
    overrides = _overrides(rest, [*known, *(f"--{key}" for key in settings_keys())])
    if flags.policy is None:
        raise UsageError("--policy is missing: give an artifact folder, for example artifacts/peg_in_hole, or operator")
    return flags, overrides


def _overrides(rest: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    overrides: dict[str, str] = {}
    words = iter(rest)
    for word in words:
        name, joined, value = word.partition("=")
        if name not in known:
            raise UsageError(f"unknown flag {name}; {nearest(name, known)}")
        if not joined:
            value = next(words, "")
        if value == "":
            raise UsageError(f"{name} needs a value; see poco-runtime --help")
        overrides[name.removeprefix("--")] = value
    return overrides


def options_of(flags: argparse.Namespace, overrides: dict[str, str]) -> RunOptions:
    """Check flags and settings together; raises UsageError or SettingsError with value, limit and remedy."""
    if flags.robot:
        overrides["robot.kind"] = flags.robot
    if flags.sensors:
        overrides |= {f"task.{name}": flags.sensors for name in ("sensors", "outcome", "reset")}
    if flags.link:
        overrides["link.learner"] = json.dumps(flags.link)
    if flags.keys:
        overrides["link.keys"] = json.dumps(flags.keys)
    settings = read_settings(flags.config or PACKAGED_CONFIG, overrides)
    if settings.robot.kind == "franka" and flags.config is None and "task.sensors" not in overrides:
        raise UsageError(
            "--robot franka needs --sensors (or a --config of its own): who says where the task's objects are?"
        )
    if settings.robot.kind == "sim" and not flags.sensors:
        address = f"emulator://{settings.robot.host}"
        task = msgspec.structs.replace(settings.task, sensors=address, outcome=address, reset=address)
        settings = msgspec.structs.replace(settings, task=task)
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
        policy=OPERATOR if flags.policy == OPERATOR else str(Path(flags.policy).resolve()),
        episodes=flags.episodes,
        speed=flags.speed,
        seed=flags.seed,
        recover=flags.recover,
        keep_minutes=flags.keep_minutes,
        run_name=f"{started:%Y%m%d-%H%M%S}-{os.getpid()}",
        boot_epoch=time.time_ns() // 1_000_000,
        folder=str((flags.out or Path("runs") / f"{started:%Y%m%d-%H%M%S}-{os.getpid()}").resolve()),
    )


def _forbid_automatic_recovery(settings: Settings, asked_for: bool) -> Settings:
    """Only a simulated arm recovers by itself; a real one waits for a person."""
    if settings.robot.kind == "sim" or not settings.robot.automatic_recovery:
        return settings
    if asked_for:
        raise UsageError(
            "robot.automatic_recovery is for --robot sim only: on an arm a person recovers, with --recover"
        )
    return msgspec.structs.replace(settings, robot=msgspec.structs.replace(settings.robot, automatic_recovery=False))


def prepare(options: RunOptions, artifact: Artifact | None) -> RunFolder:
    """Make the run folder with facts and options; raises UsageError if it cannot be made."""
    settings = options.settings
    specification = artifact.specification if artifact else options.specification()
    facts = RunFacts(
        robot=settings.robot.kind,
        host=settings.robot.host,
        artifact=options.policy,
        generation=artifact.manifest.generation if artifact else 0,
        specification=specification,
        specification_hash=specification.digest(),
        speed=options.speed,
        pacing=settings.emulator.pacing if settings.robot.kind == "sim" else "hardware",
        started_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        computer=host_facts(),
    )
    folder = RunFolder.create(Path(options.folder), facts)
    write_durably(folder.path / "options.json", msgspec.json.format(msgspec.json.encode(options)))
    return folder


def open_artifact(policy: str) -> Artifact | None:
    """Read the artifact of a run, None for the operator; raises ArtifactError also if the artifact's time is over."""
    if policy == OPERATOR:
        return None
    artifact = read_artifact(Path(policy))
    expires_unix_s = artifact.manifest.expires_unix_s
    if expires_unix_s is not None and time.time() > expires_unix_s:
        expired = datetime.fromtimestamp(expires_unix_s, UTC)
        raise ArtifactError(
            f"artifact {artifact.path} expired on {expired:%Y-%m-%d %H:%M} UTC: export the policy again"
        )
    return artifact


def stock(store: ArtifactStore, artifact: Artifact) -> Artifact:
    """Return what the robot starts with: what `store` holds, else `artifact`, which then becomes the first in it.

    Raises ArtifactError if the store belongs to another task.
    """
    held = store.boot()
    if held is None:
        store.adopt(artifact)
        return artifact
    if held.manifest.specification_hash != artifact.manifest.specification_hash:
        raise ArtifactError(
            f"the store {store.folder} holds generation {held.manifest.generation} of specification "
            f"{held.manifest.specification_hash[:12]}, --policy has {artifact.manifest.specification_hash[:12]}: "
            "give --swap.store another folder"
        )
    return held


def ask(words: Sequence[str]) -> int:
    """Leave the operator's request `veto` or `rollback` for the run that uses a store."""
    parser = _Parser(f"poco-runtime {words[0]}", description=REQUESTS[words[0]], allow_abbrev=False)
    parser.add_argument("--store", type=Path, required=True, metavar="DIR", help="such as runs/store-fr3")
    folder = parser.parse_args(words[1:]).store
    if not (folder / FLOOR_FILE).is_file():
        raise UsageError(f"{folder} is not the store of a robot: it is beside the run folders, such as runs/store-fr3")
    ArtifactStore(folder).ask("veto" if words[0] == "veto" else "rollback")
    return 0


def run(words: Sequence[str], console: Console) -> int:
    """Run the command line `words`; return the exit code. Raises PocoError before motion and after a latched fault."""
    if words[:1] == ["doctor"]:
        return doctor.run(words[1:], PACKAGED_CONFIG, console)
    if words and words[0] in REQUESTS:
        return ask(words)
    options = options_of(*parse(words))
    artifact = open_artifact(options.policy)
    if artifact is not None and options.swaps:
        artifact = stock(ArtifactStore(options.store), artifact)
    if artifact is not None:
        cameras_of(artifact.specification, options.settings.cameras)
    sweep()
    folder = prepare(options, artifact)
    memory = RunMemory.create(options.run_name)
    failure: PocoError | None = None
    code = 0
    try:
        code = Supervisor(options, folder, memory, Status(folder, options.episodes, console)).run()
    except PocoError as error:
        failure = error
    finally:
        memory.unlink()
    try:
        if folder.ticks().size:
            show_report(folder, artifact, options.settings, console)
    finally:
        if failure is not None:
            raise failure
    return code


def show_report(folder: RunFolder, artifact: Artifact | None, settings: Settings, console: Console) -> None:
    """Write the report and pictures of the run in `folder` and print what a person wants to know at once."""
    facts, paths = write_report(folder)
    if settings.robot.kind == "sim":
        paths += draw_strip(folder, settings.emulator.clearance_mm, console)
    print_summary(facts, paths, console)
    if artifact:
        console.print(evaluations(artifact), highlight=False)


def evaluations(artifact: Artifact) -> str:
    """Return what the exporter measured of this policy in the environment, per variant of the task, as one sentence."""
    metrics = artifact.manifest.metrics
    rates = [
        f"{name.removeprefix(SUCCESS)} {rate:.0%} of {metrics.get(EPISODES + name.removeprefix(SUCCESS), 0.0):.0f}"
        for name, rate in metrics.items()
        if name.startswith(SUCCESS)
    ]
    return f"for comparison, this policy in the environment when it was made: {', '.join(rates) or 'not evaluated'}"


def draw_strip(folder: RunFolder, clearance_mm: float, console: Console) -> list[Path]:
    """Have the emulator's own program render a strip and a clip of one episode; prints why if it cannot."""
    strip, clip = folder.path / "strip.png", folder.path / "clip.gif"
    words = ["-m", "poco.hw.emulator.replay", str(folder.path), "--out", str(strip), "--gif", str(clip)]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        console.print((done.stderr.strip().splitlines() or ["no pictures of the episode"])[-1], highlight=False)
        return []
    return [strip, clip]


def main() -> None:
    """Entry point of `poco-runtime`."""
    guard(lambda: sys.exit(run(sys.argv[1:], Console())))
