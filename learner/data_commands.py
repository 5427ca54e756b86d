"""The commands of `poco-learner` that make, take in and hand out data: make-data, import-data, export-data."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from poco.errors import ArtifactError, UsageError
from poco.learner.training_commands import Variant, at_least_one, named_environment, not_negative, read_recipe

if TYPE_CHECKING:
    from poco.learner.datasets.trajectory import Kept, Source
    from poco.learner.tasks.ogbench_environment import OGBenchEnvironment

Format = Literal["lerobot", "robomimic", "ogbench"]


def make_data(
    out: Path,
    episodes: int = 300,
    noise: float = 0.2,
    bias_m: float = 0.0,
    config: Path | None = None,
    task: str | None = None,
    variant: Variant | None = None,
    seed: int = 0,
    only_successes: bool = True,
    play_steps: int | None = None,
    image_side: int | None = None,
    workers: int = 1,
    resume: bool = False,
) -> None:
    """Record demonstrations of the scripted operator, one episode file each, or play in a scene of OGBench.

    Play goes after one random target and then the next, as OGBench's own data sets do; its rewards are those of the task, and it
    is cut where the task is done. As published: --play-steps 1000 --noise 0.1, 1,000 episodes, 3,000 for cube-triple.

    Args:
        out: Empty or new folder for the episode files.
        episodes: Number of episodes to run.
        noise: Trembling of the operator's hand, as a fraction of the action bound.
        bias_m: How far (m) the operator misjudges the position of hole or cube.
        config: Training recipe that names task and environment.
        task: Gymnasium name of the environment.
        variant: Which difficulty of the task (peg-in-hole: easy if nothing else says so).
        seed: First seed; episode e is reset with seed + e.
        only_successes: Leave out episodes that failed; play is kept whole.
        play_steps: Record play, so many control steps an episode, instead of demonstrations.
        image_side: Record what the task's cameras see, square images of so many pixels a side, and hide where the target is.
        workers: Processes that play at the same time (play only); what they play does not depend on it.
        resume: Go on behind the last episode that is in --out.
    """
    from poco.learner import rollouts
    from poco.learner.demonstrations import EPISODE_SUFFIX
    from poco.learner.progress import track

    at_least_one("episodes", episodes)
    at_least_one("workers", workers)
    not_negative("seed", seed)
    _fit_for_data(out, resume)
    if play_steps is None and workers > 1:
        raise UsageError(f"--workers is {workers}, but demonstrations are recorded one after the other: leave it out")
    if play_steps is not None:
        if bias_m or image_side:
            raise UsageError(
                f"--bias-m is {bias_m} and --image-side {image_side}, but play has neither: leave them out"
            )
        _keep_all(partial(_play, config, task, play_steps, noise, seed, episodes), episodes, out, "play", workers)
        return
    name, parameters = named_environment(None if config is None else read_recipe(config), task, variant)
    if image_side is not None:
        parameters["image_side"] = image_side
    environment = rollouts.make_environment(name, **parameters)
    specification = rollouts.specification_of(environment)
    actor = rollouts.operator_actor(environment, noise, bias_m, seed)
    there = sorted(int(file.stem) for file in out.glob(f"*{EPISODE_SUFFIX}"))
    if there and there[0] < seed:
        raise UsageError(
            f"{out} holds episode {there[0]}, which a run with --seed {seed} does not record: give the seed it was begun with, or "
            "choose another --out"
        )
    first = there[-1] + 1 - seed if there else 0
    successes = written = 0
    with _resumable(out), track("demonstrations", episodes - first, "episodes") as advance:
        for rolled in rollouts.roll(environment, actor, range(first, episodes), seed):
            successes += rolled.success
            if rolled.success or not only_successes:
                rollouts.record(rolled, specification, out)
                written += 1
            advance(f"{successes} succeeded")
    environment.close()
    measured = asdict(rollouts.wilson(successes, episodes - first)) if episodes > first else {}
    print(json.dumps({"out": str(out), "written": written, **measured}))


def import_data(
    source: Path,
    format: Format,
    out: Path,
    episodes: int | None = None,
    chunk_steps: int = 5,
    specification: Path | None = None,
    config: Path | None = None,
    task: str | None = None,
    image_side: int | None = None,
    resume: bool = False,
) -> None:
    """Turn data of others into episode files, which clone and train take with --data.

    lerobot: the folder of a LeRobotDataset v3. robomimic: an HDF5 file with low-dimensional observations. What their cameras saw
    is left out and named, unless --image-side asks for it, as is what else was observed and cannot be taken. ogbench: an npz file
    of play, whose rewards are relabelled for the task of --config or --task. Leaves the specification (fields, bounds, rate)
    beside the episodes; without --specification the bounds are those of the data, a little wider.

    Args:
        source: File or folder to read.
        format: What it is.
        out: Empty or new folder for the episode files.
        episodes: Take the first so many recorded episodes instead of all.
        chunk_steps: Actions in a chunk (lerobot, robomimic).
        specification: YAML file of the specification to map to (lerobot, robomimic), such as one that an import left.
        config: Training recipe that names task and environment (ogbench).
        task: Gymnasium name of the environment (ogbench).
        image_side: Take what all cameras saw, squeezed into so many pixels each way (lerobot, robomimic).
        resume: Go on behind the last episode that is in --out.
    """
    _fit_for_data(out, resume)
    if episodes is not None:
        at_least_one("episodes", episodes)
    if not source.exists():
        raise UsageError(f"--source {source} does not exist: give a file or folder of data")
    opened = _opened(source, format, chunk_steps, specification, config, task, image_side)
    kept = _keep_all(lambda: opened, min(opened.count, episodes or opened.count), out, f"import from {format}")
    if specification is not None and kept.at_bounds:
        print(
            f"note: {kept.at_bounds} of {kept.values} values lie at the bounds of {specification} or were clipped to them: widen "
            "the bounds if those are too many",
            file=sys.stderr,
        )


def _opened(
    source: Path,
    format: Format,
    chunk_steps: int,
    specification: Path | None,
    config: Path | None,
    task: str | None,
    image_side: int | None,
) -> Source:
    from poco.specification import read_specification

    if format == "ogbench":
        from poco.learner.tasks.ogbench_file import open_ogbench

        if specification is not None or image_side is not None:
            raise UsageError(
                "--specification and --image-side are not for ogbench, whose tasks have their own fields: leave them out"
            )
        return open_ogbench(source, _ogbench_task(config, task))
    if config is not None or task is not None:
        raise UsageError(f"--config and --task are for ogbench only, not for {format}: leave them out")
    given = None if specification is None else read_specification(specification)
    if format == "robomimic":
        from poco.learner.datasets.robomimic_file import open_robomimic

        return open_robomimic(source, chunk_steps, given, image_side)
    from poco.learner.datasets.lerobot_folder import open_lerobot

    return open_lerobot(source, chunk_steps, given, image_side)


def _ogbench_task(config: Path | None, task: str | None) -> OGBenchEnvironment:
    """Return the task of OGBench that a recipe or a name asks for."""
    from poco.learner import rollouts
    from poco.learner.tasks.ogbench_environment import OGBenchEnvironment

    name, parameters = named_environment(None if config is None else read_recipe(config), task, None)
    if "poco.learner.tasks:" not in name:
        raise UsageError(f"{name} is no task of OGBench: give one with --task or --config, such as cube-single-task2")
    environment = rollouts.make_environment(name, **parameters).unwrapped
    assert isinstance(environment, OGBenchEnvironment)
    return environment


def _fit_for_data(out: Path, resume: bool | None) -> None:
    """Raise UsageError where `out` is in use; `resume` is None for a command that cannot go on with what is there."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not resume)):
        remedy = "give --resume, " if out.is_dir() and resume is not None else ""
        raise UsageError(f"{out} is not an empty folder: {remedy}choose another --out or remove it")


@contextlib.contextmanager
def _resumable(out: Path) -> Iterator[None]:
    """Say what there is when Ctrl-C or SIGTERM ends the recording of episodes to `out`."""
    from poco.learner.demonstrations import EPISODE_SUFFIX

    try:
        yield
    except KeyboardInterrupt:
        there = len(list(out.glob(f"*{EPISODE_SUFFIX}")))
        print(f"stopped: {out} holds {there} whole episodes, go on with the same command and --resume", file=sys.stderr)
        raise


def _play(config: Path | None, task: str | None, steps: int, noise: float, seed: int, episodes: int) -> Source:
    from poco.learner.tasks.ogbench_play import play_source

    return play_source(_ogbench_task(config, task), steps, noise, seed, episodes)


def _keep_all(make: Callable[[], Source], count: int, out: Path, name: str, workers: int = 1) -> Kept:
    """Write the first `count` recorded episodes of what `make` returns to `out`, going on with the last one that is there.

    Returns what was written.
    """
    from poco.learner.datasets import trajectory
    from poco.learner.datasets.read_beside import read_beside
    from poco.learner.progress import track

    source = make()
    first, kept = trajectory.begin(source, out), trajectory.Kept()
    with contextlib.ExitStack() as stack:
        if workers > 1:
            source = stack.enter_context(read_beside(source, make, workers, first))
        stack.enter_context(_resumable(out))
        advance = stack.enter_context(track(name, max(0, count - first), "episodes"))
        for number in range(first, count):
            trajectory.keep(source, number, out, kept)
            advance(f"{kept.steps} steps")
    figures = {"written": kept.written, "steps": kept.steps, "at_bounds": kept.at_bounds}
    print(json.dumps({"out": str(out), **figures, "left_out": list(source.left_out)}))
    return kept


def export_data(data: Path, out: Path, task: str = "do the task") -> None:
    """Write episode files as a LeRobotDataset v3, in physical units, images as PNG; import-data brings them back as they were.

    Args:
        data: Folder of episode files.
        out: Empty or new folder for the data set.
        task: What the robot was to do, in words.
    """
    from poco.episodes import read_episode
    from poco.learner.datasets.lerobot_writer import write_lerobot
    from poco.learner.demonstrations import episode_files
    from poco.learner.progress import track

    _fit_for_data(out, resume=None)
    files = episode_files(data)
    first = read_episode(files[0])
    shown = None if first.views is None else first.views.shown
    with track("export to lerobot", len(files), "episodes") as advance:
        try:
            frames = write_lerobot(out, map(read_episode, files), first.specification, task, advance, shown)
        except OSError as error:
            raise ArtifactError(
                f"the data set cannot be written to {out} ({error}): free space and export again"
            ) from error
    cameras = [] if shown is None else shown.cameras
    print(json.dumps({"out": str(out), "episodes": len(files), "frames": frames, "cameras": cameras}))
