"""`poco-learner`: demonstrations, behaviour cloning, online learning and evaluation on the workstation.

Examples:
  poco-learner make-data --variant easy --noise 0.2 --bias-m 0 --episodes 300 --out runs/demonstrations
  poco-learner clone --data runs/demonstrations --out runs/checkpoint --steps 20000
  poco-learner evaluate --checkpoint runs/checkpoint --variant hard --episodes 100
  poco-learner train --config configs/cpu/peg_in_hole.yaml --data runs/demonstrations --start runs/checkpoint --out runs/online
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from poco.command_line import run_command
from poco.errors import UsageError, guard

if TYPE_CHECKING:
    from poco.learner.cloning import Cloned

TASK = "poco.hw.emulator.tasks:poco/PegInHole-v0"
FRESH_SEED = 1_000_000
"""First seed of evaluation episodes, far from those of demonstrations."""

Variant = Literal["easy", "hard"]
Method = Literal["poco", "poco-noclip", "poco-noestep", "qc", "bc"]


def make_data(
    out: Path,
    episodes: int = 300,
    noise: float = 0.2,
    bias_m: float = 0.0,
    variant: Variant = "easy",
    task: str = TASK,
    seed: int = 0,
    only_successes: bool = True,
) -> None:
    """Record demonstrations of the scripted operator, one episode file each.

    Args:
        out: Empty or new folder for the episode files.
        episodes: Number of episodes to run.
        noise: Trembling of the operator's hand, as a fraction of the action bound.
        bias_m: How far (m) the operator misjudges the position of the hole.
        variant: Which difficulty of the task.
        task: Gymnasium name of the environment.
        seed: First seed; episode e is reset with seed + e.
        only_successes: Leave out episodes that failed.
    """
    from poco.learner import rollouts
    from poco.learner.progress import track

    _at_least_one(episodes)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is not an empty folder: choose another --out or remove it")
    environment = rollouts.make_environment(task, variant=variant)
    specification = rollouts.specification_of(environment)
    actor = rollouts.operator_actor(environment, noise, bias_m, seed)
    successes = written = 0
    with track("demonstrations", episodes, "episodes") as advance:
        for rolled in rollouts.roll(environment, actor, range(episodes), seed):
            successes += rolled.success
            if rolled.success or not only_successes:
                rollouts.record(rolled, specification, out)
                written += 1
            advance(f"{successes} succeeded")
    print(json.dumps({"out": str(out), "written": written, **asdict(rollouts.wilson(successes, episodes))}))


def clone(
    data: Path,
    out: Path,
    steps: int = 20_000,
    seed: int = 0,
    batch: int = 256,
    hidden_sizes: tuple[int, ...] = (128, 128, 128),
    learning_rate: float = 1e-3,
) -> None:
    """Train a flow-matching policy by behaviour cloning and keep the best one on held-out episodes.

    Args:
        data: Folder of episode files.
        out: Folder of the checkpoint; also gets the loss curve (loss.png) and figures (training.json).
        steps: Gradient steps.
        seed: Seed of split, initialisation and batches; the same seed gives the same policy.
        batch: Windows in one gradient step.
        hidden_sizes: Widths of the hidden layers.
        learning_rate: First learning rate; it falls to zero along a cosine.
    """
    import torch

    from poco.learner import checkpoint, cloning, demonstrations
    from poco.learner.progress import track

    torch.set_num_threads(1)
    settings = cloning.CloningSettings(
        steps=steps, seed=seed, batch=batch, hidden_sizes=hidden_sizes, learning_rate=learning_rate
    )
    loaded = demonstrations.read_demonstrations(data)
    with track("behaviour cloning", steps, "steps") as advance:
        cloned = cloning.clone(loaded, settings, lambda step, loss: advance(f"loss {loss:.4f}"))
    checkpoint.write_checkpoint(out, checkpoint.Checkpoint(loaded.specification, cloned.policy, cloned.metrics))
    _write_report(cloned, out)
    print(json.dumps({"out": str(out), **cloned.metrics}))


def train(
    config: Path,
    out: Path,
    data: Path | None = None,
    start: Path | None = None,
    method: Method | None = None,
    episodes: int | None = None,
    seed: int = 0,
    resume: bool = False,
) -> None:
    """Improve a policy by its own episodes: POCO, or one of its rivals by --method.

    Leaves the policy (policy.safetensors), the best one (best/), metrics.jsonl, curves.png and the states to resume from.

    Args:
        config: Training recipe, one whole YAML file; see configs/cpu.
        out: Folder of the run.
        data: Folder of demonstrations that begin the replay.
        start: Folder of a cloned checkpoint to begin with; without it learning is purely online.
        method: Replaces the method of the recipe.
        episodes: Replaces the number of training episodes of the recipe.
        seed: Seed of the whole run.
        resume: Go on from the newest checkpoint in --out.
    """
    import msgspec
    import torch

    from poco.learner import curves, rollouts, training
    from poco.learner.checkpoint import read_checkpoint
    from poco.learner.demonstrations import read_demonstrations
    from poco.learner.progress import track

    torch.set_num_threads(1)
    settings = training.read_training_settings(config)
    if method is not None:
        settings = msgspec.structs.replace(settings, agent=msgspec.structs.replace(settings.agent, method=method))
    if episodes is not None:
        _at_least_one(episodes)
        settings = msgspec.structs.replace(settings, episodes=episodes)
    run = training.Run(
        settings=settings,
        seed=seed,
        out=out,
        demonstrations=() if data is None else read_demonstrations(data).episodes,
        start=None if start is None else read_checkpoint(start),
    )
    environment = rollouts.make_environment(settings.task, **settings.environment)
    learner = training.Learner(run, environment, resume)
    remaining = settings.episodes - learner.progress.episodes
    with track(settings.agent.method, remaining, "episodes") as advance:
        for figures in learner.episodes():
            advance(f"success {figures.recent_success:.2f} ({figures.phase})")
    curves.draw(curves.read_figures(out), out / "curves.png")
    print(json.dumps({"out": str(out), **learner.metrics()}))


def evaluate(
    checkpoint: Path, episodes: int = 100, variant: Variant = "easy", task: str = TASK, seed: int = FRESH_SEED
) -> None:
    """Measure the success of a checkpoint on fresh episodes, one plain sample for each chunk.

    Prints the rate with its 95 % Wilson interval as JSON and keeps it in the checkpoint, from where export takes it.

    Args:
        checkpoint: Folder of the checkpoint.
        episodes: Number of episodes to run.
        variant: Which difficulty of the task.
        task: Gymnasium name of the environment.
        seed: Seed of the noise and first seed of the episodes.
    """
    import torch

    from poco.learner import rollouts
    from poco.learner.checkpoint import read_checkpoint, write_checkpoint
    from poco.learner.progress import track

    _at_least_one(episodes)
    torch.set_num_threads(1)
    loaded = read_checkpoint(checkpoint)
    environment = rollouts.make_environment(task, variant=variant)
    actor = rollouts.policy_actor(loaded, environment, seed)
    successes = 0
    with track(f"evaluation, {variant}", episodes, "episodes") as advance:
        for rolled in rollouts.roll(environment, actor, range(episodes), seed):
            successes += rolled.success
            advance(f"{successes} succeeded")
    result = rollouts.wilson(successes, episodes)
    figures = {f"success_{variant}": result.rate, f"evaluation_episodes_{variant}": float(episodes)}
    write_checkpoint(checkpoint, replace(loaded, metrics={**loaded.metrics, **figures}))
    print(json.dumps({"checkpoint": str(checkpoint), "variant": variant, **asdict(result)}))


def _at_least_one(episodes: int) -> None:
    if episodes < 1:
        raise UsageError(f"--episodes is {episodes}, must be at least 1")


def _write_report(cloned: Cloned, out: Path) -> None:
    """Write figures and loss curve of a training run beside its checkpoint."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    document = {"metrics": cloned.metrics, "curve": [asdict(point) for point in cloned.curve]}
    (out / "training.json").write_text(json.dumps(document, indent=2) + "\n")
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    steps = [point.step for point in cloned.curve]
    axes.plot(steps, [point.training for point in cloned.curve], label="training")
    axes.plot(steps, [point.validation for point in cloned.curve], label="held-out episodes")
    axes.set(xlabel="gradient steps", ylabel="flow-matching loss", title="Behaviour cloning")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(out / "loss.png", dpi=120)


def main() -> None:
    """Run `poco-learner`."""
    commands: dict[str, Callable[..., None]] = {
        "make-data": make_data,
        "clone": clone,
        "train": train,
        "evaluate": evaluate,
    }
    guard(lambda: run_command(commands, "poco-learner", __doc__))


if __name__ == "__main__":
    main()
