"""The commands of `poco-learner` that learn online and measure what was learned."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from poco.errors import UsageError
from poco.learner.success_guard import TOLD

if TYPE_CHECKING:
    from poco.learner.encoder import Encoder
    from poco.learner.learning import Run
    from poco.learner.metrics import EpisodeFigures
    from poco.learner.recipe import TrainingSettings
    from poco.learner.rollouts import Environment
    from poco.learner.training import Learner

TASK = "poco.hw.emulator.tasks:poco/PegInHole-v0"
FRESH_SEED = 1_000_000
"""First seed of evaluation episodes, far from those of demonstrations and of training."""

WORKERS = "workers"
"""Folder of what the environments in processes of their own print."""

_RESUME = "`poco-learner train --out {} --resume`"

Variant = Literal["easy", "hard"]
Method = Literal["poco", "poco-noclip", "poco-noestep", "qc", "bc"]


def train(
    out: Path,
    config: Path | None = None,
    data: Path | None = None,
    start: Path | None = None,
    method: Method | None = None,
    episodes: int | None = None,
    steps: int | None = None,
    seed: int = 0,
    resume: bool = False,
    workers: int = 0,
    threads: int = 1,
    device: str = "cpu",
    env_python: Path | None = None,
    tensorboard: bool = False,
) -> None:
    """Improve a policy by its own episodes: POCO, or one of its rivals by --method.

    Leaves the policy (policy.safetensors), the best one (best/), metrics.jsonl, curves.png and the states to resume from.
    --resume needs nothing but --out; it may move the end of the run by --episodes or --steps. What is printed at the end has the
    processor time of this process (cpu_s, without that of --workers) among its figures.

    Under torchrun (`torchrun --nproc-per-node=2 -m poco.learner.cli train ...`) the ranks share every batch, act the episodes in
    turn and keep what they have acted, each in a replay of replay_bytes; they learn what one process alone would. Nothing between
    them is encrypted or authenticated: keep them on a network of their own.

    Args:
        out: Folder of the run; ranks on several computers need it on a disk that they share.
        config: Training recipe, one whole YAML file; see configs/cpu.
        data: Folder of demonstrations that begin the replay.
        start: Folder of a cloned checkpoint to begin with; without it learning is purely online.
        method: Replaces the method of the recipe.
        episodes: Replaces the number of training episodes of the recipe.
        steps: Replaces the number of control steps after which the recipe ends; 0 for no such limit.
        seed: Seed of the whole run.
        resume: Go on from the newest checkpoint in --out, as the unbroken run would have unless --workers act or older episodes
            have left a full replay since.
        workers: Environments that act in processes of their own beside the learning; with 0 acting and learning take turns, and
            only then the same seed gives the same run.
        threads: Threads that share the candidates of an update out; on a GPU it has no use for them.
        device: Where to learn: cpu, or cuda for a GPU, which takes the whole update as one graph. A run stays where it began.
        env_python: Python that runs the environment, for a suite that needs another one; it needs numpy, msgspec, pyyaml and
            gymnasium besides the suite.
        tensorboard: Write event files for TensorBoard to --out/tensorboard.
    """
    import torch

    from poco.learner import curves
    from poco.learner.devices import chosen_device
    from poco.learner.environment_pool import EnvironmentPool
    from poco.learner.environments import environment_processes, one_environment
    from poco.learner.metrics import read_figures
    from poco.learner.ranks import device_of_rank, joined
    from poco.learner.training import Learner
    from poco.learner.training_beside import learn_beside

    at_least_one("threads", threads)
    not_negative("workers", workers)
    not_negative("seed", seed)
    torch.set_num_threads(1)
    device = device_of_rank(device)
    chosen_device(device)
    with contextlib.ExitStack() as stack:
        ranks = stack.enter_context(joined(device))
        if workers and ranks.count > 1:
            raise UsageError(f"--workers is {workers}, but the {ranks.count} ranks act in turn: leave it out")
        run = (
            _resumed(out, config, method, episodes, steps)
            if resume
            else _new(out, config, data, start, method, episodes, steps, seed)
        )
        run = dataclasses.replace(run, beside=workers > 0, threads=threads, device=device, ranks=ranks)
        task, parameters = run.settings.task, _shown(run.settings.environment, run.eyes)
        environment = stack.enter_context(one_environment(task, parameters, out / WORKERS, env_python, run.eyes))
        learner = Learner(run, environment, resume)
        if resume and learner.finished and ranks.first:
            print("the run has come to its end already: --episodes or --steps moves it", file=sys.stderr)
        if workers:
            processes = stack.enter_context(
                environment_processes(workers, task, parameters, out / WORKERS, env_python, run.eyes)
            )
            pool = EnvironmentPool(processes, learner.collecting_actor, learner.first_seed)
        _learn(learner, learn_beside(learner, pool) if workers else learner.episodes(), tensorboard)
    if ranks.first:
        curves.draw(read_figures(out), out / "curves.png")
        print(json.dumps({"out": str(out), "cpu_s": round(time.process_time(), 1), **learner.metrics()}))


def _learn(learner: Learner, episodes: Iterator[EpisodeFigures], tensorboard: bool) -> None:
    """Learn to the end or until Ctrl-C or SIGTERM, which ends after the episode with a checkpoint, showing how it goes."""
    from poco.learner.interruption import stop_politely
    from poco.learner.progress import track
    from poco.learner.tensorboard_log import tensorboard_log

    settings, out, reached = learner.run.settings, learner.run.out, learner.progress.steps
    ranks = learner.run.ranks
    left = settings.steps - reached if settings.steps else settings.episodes - learner.progress.episodes
    with contextlib.ExitStack() as stack:
        log = (
            stack.enter_context(tensorboard_log(out / "tensorboard", reached)) if tensorboard and ranks.first else None
        )
        unit = "steps" if settings.steps else "episodes"
        advance = stack.enter_context(track(settings.agent.method, max(0, left), unit)) if ranks.first else None
        stopping = stack.enter_context(
            stop_politely("ending after this episode; Ctrl-C again ends at once", signal.SIGTERM)
        )
        for figures in episodes:
            remark = f"success {figures.recent_success:.2f} ({figures.phase})"
            if advance is not None:
                advance(remark, figures.steps - reached if settings.steps else 1)
            reached = figures.steps
            if log is not None:
                log(figures)
            if figures.verdict in TOLD and ranks.first:
                told = TOLD[figures.verdict].format(learner.progress.guard.baseline)
                print(f"episode {figures.episode}: {told}", file=sys.stderr)
            if not ranks.agree(not stopping()) and not learner.finished:
                learner.checkpoint()
                if ranks.first:
                    print(f"stopped after episode {figures.episode}: go on with {_RESUME.format(out)}", file=sys.stderr)
                raise KeyboardInterrupt


def evaluate(
    checkpoint: Path,
    episodes: int = 100,
    best_of: int | None = None,
    config: Path | None = None,
    task: str | None = None,
    variant: Variant | None = None,
    seed: int = FRESH_SEED,
    workers: int = 1,
    env_python: Path | None = None,
) -> None:
    """Measure the success of a checkpoint or a training run on fresh episodes in one acting mode.

    Prints the rate with its 95 % Wilson interval as JSON and keeps it in --checkpoint (evaluations.json, and the figures of
    the policy, from where export takes them). A training run knows its task; for a cloned checkpoint give --config, or --task.

    Args:
        checkpoint: Folder of a cloned checkpoint or of a training run.
        episodes: Number of episodes to run.
        best_of: Samples drawn for each chunk, of which the critic chooses; 1 is a plain sample. Default: as the method acts.
        config: Training recipe that names task and environment.
        task: Gymnasium name of the environment.
        variant: Which difficulty of the task (peg-in-hole: easy if nothing else says so).
        seed: Seed of the noise and first seed of the episodes.
        workers: Environments that act at the same time, each in a process of its own; the result does not depend on it.
        env_python: Python that runs the environment, for a suite that needs another one.
    """
    import msgspec
    import torch

    from poco.learner import evaluation
    from poco.learner.environments import environment_processes, one_environment
    from poco.learner.progress import track
    from poco.learner.rollouts import task_label

    at_least_one("episodes", episodes)
    at_least_one("workers", workers)
    not_negative("seed", seed)
    torch.set_num_threads(1)
    subject = evaluation.read_subject(checkpoint)
    settings = subject.settings
    count = best_of or (1 if settings is None else settings.best_of)
    at_least_one("best-of", count)
    name, parameters = named_environment(settings if config is None else read_recipe(config), task, variant)
    label = task_label(name, parameters)
    encoder = subject.encoder
    parameters = _shown(parameters, encoder)
    with contextlib.ExitStack() as stack:
        environments: Sequence[Environment] = (
            [stack.enter_context(one_environment(name, parameters, checkpoint / WORKERS, env_python, encoder))]
            if workers == 1
            else stack.enter_context(
                environment_processes(workers, name, parameters, checkpoint / WORKERS, env_python, encoder)
            )
        )
        advance = stack.enter_context(track(f"evaluation, {label}", episodes, "episodes"))
        result = evaluation.evaluate(subject, environments, label, count, episodes, seed, advance)
    evaluation.keep_evaluation(checkpoint, result)
    print(json.dumps({"checkpoint": str(checkpoint), **msgspec.to_builtins(result)}))


def compare(
    out: Path,
    configs: tuple[Path, ...],
    methods: tuple[Method, ...] = ("poco", "poco-noestep", "poco-noclip", "qc", "bc"),
    seeds: tuple[int, ...] = (0, 1, 2),
    data: str | None = None,
    start: str | None = None,
    episodes: int | None = None,
    steps: int | None = None,
    evaluation_episodes: int = 100,
    best_of: tuple[int, ...] = (),
    jobs: int = 1,
    device: str = "cpu",
) -> None:
    """Train methods over seeds, measure each on fresh episodes and show them side by side.

    Finished runs are left alone and broken ones resumed, so the same command goes on after anything: Ctrl-C or SIGTERM ends the
    running ones at a checkpoint, and when this process is killed they are too. Every method is measured
    as it acts: one plain sample, Q-chunking with the best of its candidates. Leaves comparison.md, .json and .png in --out.

    Args:
        out: Folder of the comparison; every run has a folder in it.
        configs: Training recipes; each is tried with every method.
        methods: Methods to compare.
        seeds: Seeds to run every method with.
        data: Folder of demonstrations; {seed} in it becomes the seed.
        start: Folder of the cloned checkpoint to begin with; {seed} in it becomes the seed.
        episodes: Replaces the number of training episodes of the recipes.
        steps: End every run with the episode that reaches so many control steps: methods get the same experience.
        evaluation_episodes: Fresh episodes for each measurement.
        best_of: Further acting modes to measure in: samples drawn for each chunk, of which the critic chooses.
        jobs: Processes that work at the same time.
        device: Where they learn: cpu, or cuda for a GPU that they share.
    """
    from poco.learner import comparison, comparison_report
    from poco.learner.progress import track

    for flag, count in (("evaluation-episodes", evaluation_episodes), ("jobs", jobs), ("seeds", len(seeds))):
        at_least_one(flag, count)
    candidates = []
    for seed in seeds:
        not_negative("seeds", seed)
    for config, method, seed in itertools.product(configs, methods, seeds):
        settings = _changed(read_recipe(config), method, episodes, steps)
        words = ["--config", str(config), "--method", method, "--seed", str(seed), "--device", device]
        for flag, folder in (("--data", data), ("--start", start)):
            words += [] if folder is None else [flag, folder.replace("{seed}", str(seed))]
        label = method if len(configs) == 1 else f"{method} ({config.stem})"
        place = out / config.stem / method / f"seed-{seed}"
        candidates.append(comparison.Candidate(label, seed, place, settings, tuple(words), device))
    out.mkdir(parents=True, exist_ok=True)
    done = 0.0
    with track("comparison", len(candidates), "runs") as advance:

        def report(trained: float, remark: str) -> None:
            nonlocal done
            advance(remark, trained - done)
            done = trained

        comparison.carry_out(candidates, comparison.Measure(evaluation_episodes, best_of), jobs, report)
    print(comparison_report.markdown(comparison_report.write(candidates, out)), end="")


def at_least_one(flag: str, count: int) -> None:
    """Raise UsageError if the value `count` of --`flag` is below 1."""
    if count < 1:
        raise UsageError(f"--{flag} is {count}, must be at least 1")


def not_negative(flag: str, value: int) -> None:
    """Raise UsageError if the `value` of --`flag` is below 0."""
    if value < 0:
        raise UsageError(f"--{flag} is {value}, must be at least 0")


def named_environment(
    settings: TrainingSettings | None, task: str | None, variant: Variant | None
) -> tuple[str, dict[str, Any]]:
    """Return name and parameters of the environment that a recipe, a task or a variant of it asks for."""
    name = task or (TASK if settings is None else settings.task)
    parameters: dict[str, Any] = {} if settings is None or settings.task != name else dict(settings.environment)
    if variant is not None or (settings is None and name == TASK):
        parameters["variant"] = variant or "easy"
    return name, parameters


def _new(
    out: Path,
    config: Path | None,
    data: Path | None,
    start: Path | None,
    method: Method | None,
    episodes: int | None,
    steps: int | None,
    seed: int,
) -> Run:
    from poco.learner.checkpoint import read_checkpoint
    from poco.learner.demonstrations import read_demonstrations
    from poco.learner.learning import Run
    from poco.learner.sight import encoded

    if config is None:
        raise UsageError("--config is missing: give a training recipe such as configs/cpu/peg_in_hole.yaml")
    begun = None if start is None else read_checkpoint(start)
    eyes = None if begun is None else begun.eyes
    demonstrations = () if data is None else read_demonstrations(data).episodes
    if begun is not None and eyes is not None:
        demonstrations = tuple(encoded(episode, eyes, begun.specification) for episode in demonstrations)
    return Run(
        settings=_changed(read_recipe(config), method, episodes, steps),
        seed=seed,
        out=out,
        demonstrations=demonstrations,
        start=begun,
        encoder=None if begun is None else begun.encoder,
    )


def _resumed(out: Path, config: Path | None, method: Method | None, episodes: int | None, steps: int | None) -> Run:
    """Return the run that its newest state describes; of what else is in `out` nothing need be there yet."""
    from poco.learner import assembly, training_state
    from poco.learner.checkpoint import Checkpoint
    from poco.learner.learning import Run
    from poco.learner.trained_policy import build

    state = training_state.read_state(out / "states")
    identity, start = state.identity, None
    if identity.network is not None:
        start = Checkpoint(identity.specification, build(identity.specification, None, identity.network), {})
    settings = _changed(identity.settings if config is None else read_recipe(config), method, episodes, steps)
    return Run(settings, identity.seed, out, start=start, encoder=assembly.encoder_of(state))


def _shown(parameters: dict[str, Any], encoder: Encoder | None) -> dict[str, Any]:
    """Return the environment's `parameters`, with images of the size that `encoder` takes, unless they name one."""
    return parameters if encoder is None else {"image_side": encoder.side, **parameters}


def read_recipe(config: Path) -> TrainingSettings:
    """Return the training recipe in the file `config`; raises SettingsError."""
    from poco.learner.recipe import read_training_settings

    return read_training_settings(config)


def _changed(
    settings: TrainingSettings, method: Method | None, episodes: int | None, steps: int | None
) -> TrainingSettings:
    import msgspec

    if method is not None:
        settings = msgspec.structs.replace(settings, agent=msgspec.structs.replace(settings.agent, method=method))
    if episodes is not None:
        at_least_one("episodes", episodes)
        settings = msgspec.structs.replace(settings, episodes=episodes)
    if steps is not None:
        if steps < 0:
            raise UsageError(f"--steps is {steps}, must be at least 0; 0 is no limit")
        settings = msgspec.structs.replace(settings, steps=steps)
    return settings
