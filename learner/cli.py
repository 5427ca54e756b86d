"""`poco-learner`: demonstrations, behaviour cloning, online learning and evaluation on the workstation.

Examples:
  poco-learner make-data --variant easy --noise 0.2 --bias-m 0 --episodes 300 --out runs/demonstrations
  poco-learner make-data --config configs/paper/puzzle_3x3.yaml --play-steps 1000 --noise 0.1 --episodes 1000 --out runs/play
  poco-learner import-data --format robomimic --source can_mh.hdf5 --out runs/can
  poco-learner import-data --format lerobot --source my_dataset --out runs/mine
  poco-learner export-data --data runs/demonstrations --task "put the peg in the hole" --out runs/lerobot
  poco-learner clone --data runs/demonstrations --out runs/checkpoint --steps 20000
  poco-learner evaluate --checkpoint runs/checkpoint --variant hard --episodes 100
  poco-learner train --config configs/cpu/peg_in_hole.yaml --data runs/demonstrations --start runs/checkpoint --out runs/online
  poco-learner train --out runs/online --resume
  poco-learner evaluate --checkpoint runs/online --best-of 8
  poco-learner serve --artifact artifacts/peg_in_hole --config configs/cpu/peg_in_hole.yaml --out runs/served
  poco-learner compare --configs configs/cpu/peg_in_hole.yaml --start runs/checkpoint --out runs/compared
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from poco.command_line import run_command
from poco.errors import guard
from poco.learner.data_commands import export_data, import_data, make_data
from poco.learner.serving_commands import serve
from poco.learner.training_commands import compare, evaluate, train

if TYPE_CHECKING:
    from poco.learner.cloning import Cloned


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
        "import-data": import_data,
        "export-data": export_data,
        "clone": clone,
        "train": train,
        "evaluate": evaluate,
        "serve": serve,
        "compare": compare,
    }
    guard(lambda: run_command(commands, "poco-learner", __doc__))


if __name__ == "__main__":
    main()
