"""`poco-runtime check`: whether the files of a task fit together and fit the arm, before anything is started."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
from rich.console import Console

from poco.artifact import read_artifact
from poco.errors import CameraError, PocoError, UsageError
from poco.hw.task_driver import EMULATOR, NONE
from poco.kinematics import forward
from poco.limits import PLANNING_MARGINS, POSITION_MAX_RAD, POSITION_MIN_RAD
from poco.observation import TARGET, check_sources
from poco.runtime import run_flags
from poco.runtime.doctor import show
from poco.runtime.eyes import cameras_of
from poco.runtime.findings import Finding, judged
from poco.runtime.record import add_image_flags, seen_through, specification_file
from poco.runtime.recordable import check_recordable
from poco.settings import RENDERED, Settings, read_settings
from poco.specification import Field, Specification, read_specification

DESCRIPTION = (
    "Check the files of a task: settings and specification, together and against the arm. Nothing is started or moves."
)
EPILOG = """examples:
  poco-runtime check
  poco-runtime check --config my_cell.yaml --task my_task.yaml
  poco-runtime check --config my_cell.yaml --task my_task.yaml --image-side 64
  poco-runtime check --config my_cell.yaml --policy artifacts/mine --robot franka

--config is the settings file (arm, guards, task, cameras), --task the specification (what is seen and done), or
--policy an artifact that carries its own. docs/task.md says what belongs into them.
Grades: fail keeps a run from working, warn is worth a look. Exit codes: 0 nothing failed, 1 something did."""


def run(words: Sequence[str], console: Console) -> int:
    """Run the command line `words` after `poco-runtime check`; return the exit code. Raises PocoError for unreadable files."""
    parser = run_flags.Parser("poco-runtime check", description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    run_flags.add_robot_flag(parser)
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings file (default: the packaged)")
    parser.add_argument("--task", metavar="TASK", help="specification file of the task (default: peg_in_hole)")
    parser.add_argument("--policy", type=Path, metavar="PATH", help="artifact whose specification is taken instead")
    add_image_flags(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    flags, overrides = run_flags.parse_with(parser, words)
    if flags.task and flags.policy:
        raise UsageError(
            f"--task is {flags.task}, but the artifact {flags.policy} carries its own: leave one of the two out"
        )
    if flags.robot:
        overrides["robot.kind"] = flags.robot
    settings = read_settings(flags.config or run_flags.PACKAGED_CONFIG, overrides)
    if flags.policy is None:
        specification = read_specification(specification_file(flags.task or "peg_in_hole"))
    else:
        specification = read_artifact(flags.policy).specification
    if specification.robot == "foreign":
        raise UsageError(
            f"{specification.name} is of a foreign robot, which poco does not drive: give a task of the FR3"
        )
    named = not run_flags.sensors_unnamed(settings, flags.config, overrides)
    found = list(examine(settings, specification, seen_through(flags.see, flags.image_side, settings), named))
    if flags.json:
        console.out(msgspec.json.format(msgspec.json.encode(found)).decode(), highlight=False)
    else:
        show(found, console)
    return int(any(finding.grade == "fail" for finding in found))


def examine(
    settings: Settings, specification: Specification, names: Sequence[str] = (), sensors_named: bool = True
) -> Iterator[Finding]:
    """Yield what is to be said of a task on the FR3, in the order in which a run would come upon it.

    `names` are the cameras through which demonstrations of it are recorded; `sensors_named` tells whether somebody has said
    who tells where things are.
    """
    yield _timing(specification)
    yield _sources(specification, settings.robot.name)
    yield from _start(settings, specification)
    yield _motion(settings, specification)
    yield from _signals(settings, specification, sensors_named)
    yield from _cameras(settings, (*specification.cameras, *names))


def _timing(specification: Specification) -> Finding:
    period_ms = 1e3 / specification.rate_hz
    seen = (
        f"{specification.name} at {specification.rate_hz:g} Hz: {specification.observation_size} numbers seen, chunks of "
        f"{specification.chunk_steps} actions of {specification.action_size} numbers, {specification.execute_steps} executed, "
        f"{specification.delay_steps * period_ms:g} ms to choose one"
    )
    remedy = "set delay_steps to 1 or more: with 0 the arm waits at every chunk"
    return judged("task", specification.delay_steps > 0, seen, remedy)


def _sources(specification: Specification, robot: str) -> Finding:
    try:
        check_sources(specification)
        check_recordable(specification, robot)
    except PocoError as error:
        return Finding(what="observation", grade="fail", seen=str(error), remedy="correct the specification")
    names = ", ".join(field.name for field in specification.observation)
    return Finding(what="observation", grade="ok", seen=names)


def _start(settings: Settings, specification: Specification) -> Iterator[Finding]:
    """Judge the start pose by joint limits, box, table and what the policy can see of the tip's position."""
    rest, guards = np.array(specification.rest_q), settings.guards
    room = np.minimum(rest - POSITION_MIN_RAD, POSITION_MAX_RAD - rest) - PLANNING_MARGINS.position_rad
    tightest = int(np.argmin(room))
    yield judged(
        "start pose",
        bool(room[tightest] > 0.0),
        f"joint {tightest + 1} is nearest to its limit, {room[tightest]:.3f} rad inside of what is planned with",
        f"move joint {tightest + 1} of rest_q away from its limit",
        otherwise="fail",
    )
    tip = forward(rest, specification.tip)[0]
    low, high = np.array(guards.box_min_m), np.array(guards.box_max_m)
    inside = bool(np.all(low < tip) and np.all(tip < high) and tip[2] > guards.table_z_m)
    yield judged(
        "start of the tip",
        inside,
        f"{_point(tip)} m in the box {_point(low)} to {_point(high)} m, table at {guards.table_z_m:g} m",
        "widen guards.box_min_m and box_max_m, or choose another rest_q or flange_t_tip",
        otherwise="fail",
    )
    for field in _of(specification.observation, "tip_position"):
        told = bool(np.all(np.array(field.low) <= tip) and np.all(tip <= np.array(field.high)))
        yield judged(
            f"bounds of {field.name}",
            told,
            f"{_point(np.array(field.low))} to {_point(np.array(field.high))} m, the tip starts at {_point(tip)} m",
            f"widen low and high of {field.name}: beyond them the policy cannot tell where it is",
            otherwise="fail",
        )


def _motion(settings: Settings, specification: Specification) -> Finding:
    """Judge the largest action by what the guards let through."""
    low, high = (np.concatenate([getattr(field, end) for field in specification.arm_action]) for end in ("low", "high"))
    if specification.action_space == "joint_position":
        beyond = np.maximum(POSITION_MIN_RAD - low, high - POSITION_MAX_RAD) + PLANNING_MARGINS.position_rad
        joint = int(np.argmax(beyond))
        return judged(
            "actions",
            bool(beyond[joint] <= 0.0),
            f"joint {joint + 1} goes furthest, {beyond[joint]:+.3f} rad beyond what is planned with",
            f"narrow low and high of joint {joint + 1}: what lies beyond is moved inside",
        )
    speed = float(np.linalg.norm(np.maximum(np.abs(low), np.abs(high))[:3])) * specification.rate_hz
    return judged(
        "actions",
        speed <= settings.guards.speed_max_m_s,
        f"the largest step moves the tip at {speed:.3f} m/s, the limit is {settings.guards.speed_max_m_s:g} m/s",
        f"lower the bounds of {specification.action[0].name} or the rate: faster chunks are stretched in time",
    )


def _signals(settings: Settings, specification: Specification, sensors_named: bool) -> Iterator[Finding]:
    """Judge who says where the target is, whether it was reached, and who puts things back."""
    task = settings.task
    for name, address in (("sensors", task.sensors), ("outcome", task.outcome), ("reset", task.reset)):
        known = address == NONE or address.startswith(EMULATOR)
        if name == "sensors" and not sensors_named:
            yield Finding(
                what="task.sensors",
                grade="fail",
                seen=f"{address} of the packaged settings, which is the emulated arm, and robot.kind is {settings.robot.kind}",
                remedy="say who tells where the task's objects are: --task.sensors URL (or none), or a --config of your own",
            )
            continue
        yield judged(f"task.{name}", known, address, f"give {EMULATOR}HOST[:PORT] or {NONE}", otherwise="fail")
    asked = [field.name for field in specification.observation if field.source in TARGET]
    yield judged(
        "target",
        not asked or task.sensors != NONE,
        f"{', '.join(asked) or 'nothing'} comes from task.sensors ({task.sensors})",
        "name a sensor, or take these fields out of the specification",
        otherwise="fail",
    )
    seconds = task.episode_steps / specification.rate_hz
    judge = "a person says what succeeded" if task.outcome == NONE else f"{task.outcome} says what succeeded"
    yield Finding(what="episode", grade="ok", seen=f"at most {seconds:g} s, {judge}")


def _cameras(settings: Settings, names: Sequence[str]) -> Iterator[Finding]:
    try:
        cameras = cameras_of(names, settings.cameras)
    except CameraError as error:
        yield Finding(what="cameras", grade="fail", seen=str(error), remedy="add the camera to the settings")
        return
    if not cameras:
        yield Finding(what="cameras", grade="ok", seen="nothing is seen through any")
    for camera in cameras:
        real = settings.robot.kind == "franka"
        yield judged(
            f"camera {camera.name}",
            not (real and camera.source == RENDERED),
            f"{camera.source}, {camera.width} x {camera.height} at {camera.rate_hz} Hz, stale after {camera.age_max_s:g} s",
            "set its source to realsense://SERIAL: what is rendered is the scene of the emulated arm",
            otherwise="fail",
        )


def _of(fields: Sequence[Field], source: str) -> list[Field]:
    return [field for field in fields if field.source == source]


def _point(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> str:
    return "(" + ", ".join(f"{value:.3f}" for value in values) + ")"
