"""`poco-runtime`: run a chunk policy on an FR3, simulated or real, and draw the report."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console

from poco.artifact import Artifact, read_artifact
from poco.durable import write_durably
from poco.errors import ArtifactError, PocoError, UsageError, guard
from poco.hw.task_driver import NONE, check_addresses, check_sensor
from poco.journal.records import EVERY_STEP_SIDE_MAX, VIEWED_SIDE_MAX
from poco.runtime import blind_evaluation, doctor, record, task_check
from poco.runtime.backends.choice import build_missing
from poco.runtime.blind_evaluation import check_alike, contestants_of, show_evaluation
from poco.runtime.console import TerminalKeys, terminal_keys
from poco.runtime.contact_sheet import show_demonstrations
from poco.runtime.eyes import check_frames
from poco.runtime.hands import check_device
from poco.runtime.prompt import check_task
from poco.runtime.recordable import check_recordable
from poco.runtime.report import print_summary, write_report
from poco.runtime.run_flags import (
    PACKAGED_CONFIG,
    Parser,
    add_learning_flags,
    add_run_flags,
    add_task_flag,
    options_of,
    parse_with,
)
from poco.runtime.run_folder import EVENTS, FACTS, TICKS, RunFacts, RunFolder, host_facts
from poco.runtime.run_options import HANDS, WITHOUT_ARTIFACT, RunOptions
from poco.runtime.status import Status
from poco.runtime.store import FLOOR_FILE, ArtifactStore
from poco.runtime.supervisor import Supervisor
from poco.settings import Settings, nearest
from poco.shm import RunMemory, sweep
from poco.trust import Trust

DESCRIPTION = "Run a chunk policy on an FR3: the simulated one or a real one, through the same path."
EPILOG = """commands instead of a run, each with a --help of its own:
  poco-runtime record     a person's hands move the arm; the demonstrations are kept
  poco-runtime evaluate   compare policies on the arm in a blind order
  poco-runtime check      look through the files of a task
  poco-runtime doctor     examine this computer and the way to the arm
  poco-runtime veto       throw out the generation that is on trial, in a run that takes new ones (--swap.trust)
  poco-runtime rollback   return to the generation before the active one

examples:
  poco-runtime --robot sim --policy artifacts/peg_in_hole --episodes 20
  poco-runtime --robot sim --policy artifacts/peg_in_hole --emulator.clearance_mm 1.2 --seed 7
  poco-runtime --robot sim --policy operator --episodes 20
  poco-runtime --robot sim --policy operator --emulator.task cube --task.episode_steps 200
  poco-runtime --robot franka --robot.host 127.0.0.2 --sensors emulator://127.0.0.2 --policy artifacts/peg_in_hole
  poco-runtime --robot franka --robot.host 172.16.0.2 --sensors URL --policy artifacts/peg_in_hole --speed 0.2
  poco-runtime --robot sim --policy artifacts/peg_in_hole --link tcp://127.0.0.1:7766
  poco-runtime --policy artifacts/peg_in_hole --link tcp://127.0.0.1:7766 --swap.trust ~/.config/poco/trust/robot
  poco-runtime --robot sim --policy artifacts/peg_in_hole --link tcp://10.0.0.5:7766 --keys ~/.config/poco/keys
  poco-runtime --robot sim --policy artifacts/peg_in_hole --hands spacemouse --episodes 20
  poco-runtime --robot sim --policy runs/smolvla --task "put the peg into the hole"
  poco-runtime record --robot sim --task peg_in_hole --hands keyboard --episodes 30 --out runs/demonstrations
  poco-runtime evaluate artifacts/peg_in_hole artifacts/peg_in_hole_start/policy --robot sim --trials 30
  poco-runtime veto --store runs/store-fr3
  poco-runtime check --config my_cell.yaml --task my_task.yaml
  poco-runtime doctor --robot franka --robot.host 172.16.0.2

Every key of the settings file can be overridden as --section.key VALUE. Ctrl-C brakes the arm and stops the run.
Exit codes: 0 done, 2 usage, 3 settings, 4 artifact, 5 arm, 6 address, 7 real-time rights, 8 motion, 9 latched fault,
10 camera, 11 gripper, 130 stopped by Ctrl-C or SIGTERM."""
HELPING = ("keyboard", "gamepad", "spacemouse")
REQUESTS = {
    "veto": "Throw out the generation of the policy that is on trial; the run goes on with the one before.",
    "rollback": "Return to the generation of the policy before the active one, while the run goes on.",
}
COMMANDS = ("record", "evaluate", "check", "doctor", *REQUESTS)
SUCCESS, EPISODES = "success_", "evaluation_episodes_"


def parse(words: Sequence[str]) -> tuple[argparse.Namespace, dict[str, str]]:
    """Return the flags and the dotted overrides in `words`; raises UsageError naming the nearest flag."""
    parser = Parser("poco-runtime", description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--policy",
        metavar="PATH",
        help="artifact folder, as poco-export makes it, or operator: the scripted operator of the emulated task",
    )
    parser.add_argument(
        "--hands",
        choices=HELPING,
        metavar="DEVICE",
        help=f"who moves it takes over from the policy: {', '.join(HELPING)}",
    )
    add_task_flag(parser)
    add_run_flags(parser)
    add_learning_flags(parser, "how many episodes to run")
    if words and not words[0].startswith("-"):
        raise UsageError(f"unknown command {words[0]}; {nearest(words[0], COMMANDS)}")
    flags, overrides = parse_with(parser, words)
    if flags.policy is None:
        raise UsageError("--policy is missing: give an artifact folder, for example artifacts/peg_in_hole, or operator")
    return flags, overrides


def prepare(options: RunOptions, artifact: Artifact | None) -> RunFolder:
    """Make the run folder with facts and options; raises UsageError if it cannot be made."""
    settings = options.settings
    specification = artifact.specification if artifact else options.specification()
    facts = RunFacts(
        robot=settings.robot.kind,
        host=settings.robot.host,
        artifact=", ".join((options.policy, *options.against)),
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


def give_up(folder: RunFolder) -> None:
    """Let `folder` hold no run any more, after one that ended before its first tick; what its processes said stays."""
    for name in (EVENTS, TICKS, FACTS):
        (folder.path / name).unlink(missing_ok=True)


def open_artifact(policy: str) -> Artifact | None:
    """Read the artifact of a run, None for operator and hands; raises ArtifactError also if the artifact's time is over."""
    if policy in WITHOUT_ARTIFACT:
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
    if held.cameras != artifact.cameras:
        raise ArtifactError(
            f"the store {store.folder} holds a policy that sees through {', '.join(held.cameras) or 'nothing'}, --policy through "
            f"{', '.join(artifact.cameras) or 'nothing'}: give --swap.store another folder"
        )
    return held


def check_trust(options: RunOptions, console: Console) -> None:
    """Raise ArtifactError unless the run can tell whose new generations to believe; say so if none can come."""
    Trust.read(Path(options.settings.swap.trust).expanduser())
    if not options.settings.link.learner:
        console.print("--swap.trust without --link: no new generations of the policy can come", highlight=False)


def check_cameras(artifact: Artifact, settings: Settings, console: Console) -> None:
    """Raise PocoError unless `settings` have the cameras of `artifact`, with frames large enough; say what is not journaled."""
    check_frames(artifact.cameras, artifact.image_side, settings)
    if artifact.cameras:
        say_what_is_kept(
            artifact.viewed_side, VIEWED_SIDE_MAX if artifact.manifest.vla else EVERY_STEP_SIDE_MAX, console
        )


def say_what_is_kept(side: int, most: int, console: Console) -> None:
    """Say where images of `side` pixels (0: not square) are not journaled, which takes `most`."""
    if not 0 < side <= most:
        pixels = f"{side} x {side} pixels, the journal takes up to {most}" if side else "no square form"
        console.print(f"images have {pixels}: they are not kept there", highlight=False)


def check_emulated(options: RunOptions, artifact: Artifact | None) -> None:
    """Raise UsageError where the emulated arm would have no gripper for a task with one."""
    settings = options.settings
    specification = artifact.specification if artifact else options.specification()
    if settings.robot.kind == "sim" and specification.gripper == "width" and settings.emulator.task != "cube":
        raise UsageError(
            f"{specification.name} moves a gripper, which the emulated arm has with the task cube only, and emulator.task is "
            f"{settings.emulator.task}: add --emulator.task cube --task.episode_steps 200"
        )


def check_weights(options: RunOptions) -> None:
    """Raise UsageError where weights are to be compiled in by all means and cannot be."""
    if options.settings.inference.weights == "compiled" and not options.compiles:
        raise UsageError(
            "inference.weights is compiled, for runs that take new generations (--swap.trust) of a policy that is told no task in "
            "words, under inference.backend onnxruntime-cpu: choose measure or inputs"
        )


def keys_of(options: RunOptions, console: Console) -> TerminalKeys | None:
    """Return the keys of the terminal where a person has something to say; say so if nobody could say what succeeds."""
    unjudged = options.settings.task.outcome == NONE
    if options.hands is None and not options.against and not unjudged:
        return None
    keys = terminal_keys(None if options.hands is None else options.hands.device)
    if keys is None and options.hands is None and unjudged:
        console.print(
            "task.outcome is none and standard input is no terminal: nobody says what succeeds, every episode counts as failed",
            highlight=False,
        )
    return keys


def ask(words: Sequence[str], console: Console) -> int:
    """Leave the operator's request `veto` or `rollback` for the run that uses a store."""
    parser = Parser(f"poco-runtime {words[0]}", description=REQUESTS[words[0]], allow_abbrev=False)
    parser.add_argument(
        "--store", type=Path, required=True, metavar="DIR", help="beside the run folders, such as runs/store-fr3"
    )
    folder = parser.parse_args(words[1:]).store
    if not (folder / FLOOR_FILE).is_file():
        raise UsageError(f"{folder} is not the store of a robot: it is beside the run folders, such as runs/store-fr3")
    ArtifactStore(folder).ask("veto" if words[0] == "veto" else "rollback")
    console.print(
        f"asked for: by the run that uses {folder} at once, else by the next one", highlight=False, soft_wrap=True
    )
    return 0


def asked_for(words: Sequence[str]) -> RunOptions:
    """Return the run that `words` ask for; raises UsageError, SettingsError or ArtifactError."""
    if words[:1] == ["record"]:
        return record.options_of(words[1:])
    if words[:1] == ["evaluate"]:
        return blind_evaluation.options_of(words[1:])
    flags, overrides = parse(words)
    return msgspec.structs.replace(options_of(flags, overrides), task=flags.task)


def run(words: Sequence[str], console: Console) -> int:
    """Run the command line `words`; return the exit code. Raises PocoError before motion and after a latched fault."""
    if words[:1] == ["doctor"]:
        return doctor.run(words[1:], PACKAGED_CONFIG, console)
    if words[:1] == ["check"]:
        return task_check.run(words[1:], console)
    if words and words[0] in REQUESTS:
        return ask(words, console)
    options = asked_for(words)
    signals = options.settings.task
    check_addresses(signals.sensors, signals.outcome, signals.reset)
    artifact = open_artifact(options.policy)
    check_sensor(signals.sensors, options.needs_target)
    contestants = contestants_of(options)
    if artifact is not None and options.against:
        check_alike(artifact, contestants)
    for told in (artifact, *contestants):
        check_task(told, options.task)
    if artifact is not None and options.swaps:
        check_trust(options, console)
        artifact = stock(ArtifactStore(options.store), artifact)
    if artifact is not None:
        check_cameras(artifact, options.settings, console)
        check_weights(options)
        for one in (artifact, *contestants):
            build_missing(one, options.settings.inference, lambda line: console.print(line, highlight=False))
    specification = artifact.specification if artifact else options.specification()
    check_recordable(specification, options.settings.robot.name)
    if options.hands is not None and options.hands.cameras:
        say_what_is_kept(options.hands.image_side, EVERY_STEP_SIDE_MAX, console)
    if options.hands is not None:
        check_device(options.hands.device)
    check_emulated(options, artifact)
    keys = keys_of(options, console)
    sweep()
    folder = prepare(options, artifact)
    memory = RunMemory.create(options.run_name)
    failure: PocoError | None = None
    code = 0
    try:
        if keys is not None:
            keys.begin()
        status = Status(folder, options.episodes, console, "" if keys is None else keys.help)
        code = Supervisor(options, folder, memory, status, keys).run()
    except PocoError as error:
        failure = error
    finally:
        memory.unlink()
        if keys is not None:
            keys.close()
    try:
        if folder.ticks().size:
            show(options, folder, artifact, console)
        else:
            give_up(folder)
    finally:
        if failure is not None:
            raise failure
    return code


def show(options: RunOptions, folder: RunFolder, artifact: Artifact | None, console: Console) -> None:
    """Write what follows from the run in `folder`, in which the arm was in motion or held, and print it."""
    show_report(folder, None if options.against else artifact, options.settings, console)
    if options.policy == HANDS:
        show_demonstrations(folder, console)
    if options.against:
        show_evaluation(folder, options, console)


def show_report(folder: RunFolder, artifact: Artifact | None, settings: Settings, console: Console) -> None:
    """Write the report and pictures of the run in `folder` and print what a person wants to know at once."""
    console.print("drawing the report", highlight=False)
    facts, paths = write_report(folder)
    if settings.robot.kind == "sim" and settings.emulator.task == "peg-in-hole" and any(folder.episodes.iterdir()):
        paths += draw_strip(folder, settings.emulator.clearance_mm, console)
    print_summary(facts, paths, console)
    if artifact and (sentence := evaluations(artifact)):
        console.print(sentence, highlight=False)


def evaluations(artifact: Artifact) -> str:
    """Return what was measured of this policy in the environment, per variant of the task, as a sentence; empty if nothing was."""
    metrics = artifact.manifest.metrics
    rates = [
        f"{name.removeprefix(SUCCESS)} {rate:.0%} of {metrics.get(EPISODES + name.removeprefix(SUCCESS), 0.0):.0f}"
        for name, rate in metrics.items()
        if name.startswith(SUCCESS)
    ]
    return f"for comparison, this policy in the environment when it was made: {', '.join(rates)}" if rates else ""


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
    guard(lambda: sys.exit(run(sys.argv[1:], Console(soft_wrap=True))))
