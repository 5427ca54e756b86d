"""`poco-runtime record`: demonstrations by a person's hands, through the same planner, servo and limits as a policy's chunks."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import msgspec

from poco.errors import UsageError
from poco.hw.scripted_operator import check_operator
from poco.runtime import run_flags
from poco.runtime.console import GUIDING_HELP, HELP, MOTION_HELP
from poco.runtime.eyes import check_frames
from poco.runtime.hands import check_able
from poco.runtime.run_options import HANDS, DeviceName, HandsOptions, RunOptions
from poco.settings import Settings
from poco.specification import read_specification

DESCRIPTION = (
    "Record demonstrations: by a device, whose chunks are planned and limited like a policy's, or by leading the arm."
)
EPILOG = f"""examples:
  poco-runtime record --robot sim --task peg_in_hole --episodes 30 --out runs/demonstrations
  poco-runtime record --robot sim --task peg_in_hole --hands spacemouse --gain 0.5 --episodes 30
  poco-runtime record --robot sim --task peg_in_hole --hands scripted --noise 0.2 --episodes 30
  poco-runtime record --robot sim --task peg_in_hole --hands scripted --image-side 64 --episodes 30
  poco-runtime record --robot franka --robot.host 172.16.0.2 --sensors URL --task my_task.yaml --hands gamepad --episodes 30
  poco-runtime record --robot franka --robot.host 172.16.0.2 --sensors URL --task my_task.yaml --hands guiding \\
      --robot.control joint_impedance --episodes 30

An episode begins with the first motion after start, ends when the task says so, when you say success or failure, or after
--episode-s, and then the arm goes back to its start pose by itself: keep your hands out of its way. When all demonstrations
are there, the last one can still be relabelled or thrown away; start ends the run.
Keys of the terminal: {HELP}.
--hands keyboard, as well: {MOTION_HELP}.
--hands guiding, as well: {GUIDING_HELP}. The arm, driven by torques, gives way to your
hand until you say how the episode ended; it is held then, and goes to its start pose, hands off, only when you press start.
Ctrl-C brakes the arm and stops the run; q throws the running episode away first.
What was recorded lies in episodes/ of the run folder, one file each, for poco-learner clone --data RUN/episodes and
poco-learner train --data RUN/episodes; contact_sheet.png shows it. Discarded episodes lie in discarded/."""
LONGEST_S = 60.0
SIDE_MIN, SIDE_MAX = 8, 512
"""Smaller images (pixels) show nothing, larger ones no policy takes."""

IMAGES_BYTES_MAX = 200_000_000
"""So much of a demonstration is on the disk before its arm counts as left alone (`servo.policy_silence_s`)."""

CONFIGS = run_flags.PACKAGED_CONFIG.parent


def options_of(words: Sequence[str]) -> RunOptions:
    """Return the run that `poco-runtime record` is asked for by `words`; raises UsageError, SettingsError or ArtifactError."""
    parser = run_flags.Parser("poco-runtime record", description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--task", metavar="TASK", help="specification of what is seen and done: peg_in_hole, or a YAML file of yours"
    )
    parser.add_argument("--hands", choices=get_args(DeviceName), default="keyboard", help="device (default keyboard)")
    parser.add_argument(
        "--gain",
        type=float,
        default=1.0,
        metavar="G",
        help="full deflection as a share of the largest action (default 1)",
    )
    parser.add_argument(
        "--noise", type=float, default=0.1, metavar="N", help="scripted hands: trembling, 0 to 1 (default 0.1)"
    )
    parser.add_argument(
        "--bias-m",
        type=float,
        default=0.0,
        metavar="M",
        help="scripted hands: error of where the hole is (m, default 0)",
    )
    parser.add_argument(
        "--episode-s",
        type=float,
        metavar="S",
        help=f"longest demonstration (s, default {LONGEST_S:g}; scripted hands: task.episode_steps)",
    )
    add_image_flags(parser)
    parser.add_argument("--only-successes", action="store_true", help="throw away what failed")
    run_flags.add_run_flags(parser)
    run_flags.add_learning_flags(parser, "how many demonstrations to keep")
    flags, overrides = run_flags.parse_with(parser, words)
    if flags.task is None:
        raise UsageError("--task is missing: give peg_in_hole or the specification file of your task")
    if not 0.01 <= flags.gain <= 1.0:
        raise UsageError(f"--gain is {flags.gain:g}, must lie in 0.01 to 1 of the largest action of the task")
    task = specification_file(flags.task)
    specification = read_specification(task)
    if specification.cameras:
        raise UsageError(
            f"the task {flags.task} holds what an encoder made of {', '.join(specification.cameras)}, demonstrations hold the "
            "images themselves: leave these fields out and add --image-side"
        )
    if flags.hands != "guiding":
        check_able(flags.hands, specification)
    if flags.hands == "scripted":
        check_operator(flags.noise, flags.bias_m)
    if flags.episode_s is not None and not flags.episode_s >= 1.0:
        raise UsageError(f"--episode-s is {flags.episode_s:g}, must be 1 or more: choose for example 60")
    longest_s = flags.episode_s or (None if flags.hands == "scripted" else LONGEST_S)
    if longest_s is not None:
        overrides.setdefault("task.episode_steps", str(round(longest_s * specification.rate_hz)))
    flags.policy = HANDS
    options = run_flags.options_of(flags, overrides)
    hands = HandsOptions(
        task=str(task),
        device=flags.hands,
        gain=flags.gain,
        only_successes=flags.only_successes,
        noise=flags.noise,
        bias_m=flags.bias_m,
        cameras=seen_through(flags.see, flags.image_side, options.settings),
        image_side=flags.image_side or 0,
    )
    options = msgspec.structs.replace(options, hands=hands)
    check_length(hands, options.settings.task.episode_steps, specification.rate_hz)
    if options.guided:
        check_guiding(options)
    return options


def add_image_flags(parser: argparse.ArgumentParser) -> None:
    """Add what says which images belong to demonstrations."""
    parser.add_argument(
        "--image-side",
        type=int,
        metavar="PIXELS",
        help="record what cameras see, square images of so many pixels a side (a multiple of 32 for a new encoder), and hide "
        "where the target is",
    )
    parser.add_argument(
        "--see", nargs="+", metavar="CAMERA", help="cameras of the settings that are seen through (default: all)"
    )


def seen_through(asked: list[str] | None, side: int | None, settings: Settings) -> tuple[str, ...]:
    """Return the cameras of a demonstration, those `asked` for or all, if there is a `side` of images; raises PocoError."""
    if side is None:
        if asked is not None:
            raise UsageError(f"--see is {' '.join(asked)}, --image-side is missing: give it too, for example 64")
        return ()
    if not SIDE_MIN <= side <= SIDE_MAX:
        raise UsageError(f"--image-side is {side} pixels, must lie in {SIDE_MIN} to {SIDE_MAX}: choose for example 64")
    names = tuple(asked or (camera.name for camera in settings.cameras))
    if not names or len(set(names)) < len(names):
        raise UsageError(
            f"--image-side is {side} for the cameras {', '.join(names) or 'none'}: give one or more, each once, with --see, out of "
            "those of the settings"
        )
    check_frames(names, side, settings)
    return names


def check_length(hands: HandsOptions, steps: int, rate_hz: float) -> None:
    """Raise UsageError where the images of a demonstration of so many `steps` would be too many."""
    step_bytes = 3 * len(hands.cameras) * hands.image_side**2
    if steps * step_bytes > IMAGES_BYTES_MAX:
        longest_s = int(IMAGES_BYTES_MAX / step_bytes / rate_hz)
        raise UsageError(
            f"the images of a demonstration of {steps / rate_hz:g} s would have {steps * step_bytes / 1e6:.0f} MB, the limit is "
            f"{IMAGES_BYTES_MAX / 1e6:.0f}: choose --episode-s {longest_s} or less, or a smaller --image-side"
        )


def check_guiding(options: RunOptions) -> None:
    """Raise UsageError where the arm of `options` cannot be led by hand."""
    robot, gain = options.settings.robot, options.hands.gain if options.hands else 1.0
    if robot.kind == "polymetis":
        raise UsageError(
            "--hands guiding needs --robot sim or franka: the torques of an arm behind a Polymetis server are not this computer's"
        )
    if robot.control == "position":
        raise UsageError(
            "robot.control is position, must be joint_impedance or cartesian_impedance for --hands guiding, since an arm that is "
            "told set-points does not give way: add --robot.control joint_impedance"
        )
    if gain != 1.0:
        raise UsageError(f"--gain is {gain:g}, --hands guiding has none: the arm goes where it is led")


def specification_file(task: str) -> Path:
    """Return the file that `task` names, packaged or the user's own."""
    packaged = CONFIGS / f"{task}_specification.yaml"
    return packaged if packaged.is_file() else Path(task).resolve()
