"""POCO on a tiny vision-language-action policy in the simulated task, from random weights through cloning to learning online.

Usage: PYTHONPATH=tests .venv-vla/bin/python bench/vla_learning.py --data DEMONSTRATIONS --out runs/vla
           [--env-python .venv/bin/python] [--clone-steps 5000] [--episodes 250]

The policy is LeRobot's pi0, its sizes shrunk, with random weights; its cameras are masked off, the hole is part of its state. The
demonstrations are 100 attempts of a hand that misjudges the hole by 5 mm:
    poco-learner make-data --variant hard --noise 0.5 --bias-m 0.005 --no-only-successes --episodes 100 --out DEMONSTRATIONS
What is there already is not done again, and a broken run goes on where its last checkpoint was. Prints what both ends achieve
in 100 fresh episodes, as the commands of poco-learner do.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from poco.learner.adopting_commands import adopt
from poco.learner.cloning_commands import clone
from poco.learner.training_commands import evaluate, train
from poco.learner.training_state import has_state
from vla import stand_ins, tiny

RECIPE = Path(__file__).parents[1] / "configs" / "cpu" / "peg_in_hole_vla.yaml"
SMALL: dict[str, object] = {
    "image_resolution": (14, 14),
    "tokenizer_max_length": 4,
    "num_inference_steps": 5,
    "chunk_size": 9,
    "n_action_steps": 9,
}
"""No more tokens, actions and steps of the flow than the task needs."""


@dataclass(frozen=True, slots=True)
class Options:
    """Where demonstrations and results lie, how long to clone and to learn, and in which Python the task runs."""

    data: Path
    out: Path
    clone_steps: int = 5_000
    clone_batch: int = 128
    learning_rate: float = 2e-3
    episodes: int = 250
    seed: int = 0
    recipe: Path = RECIPE
    env_python: Path | None = None


def main(options: Options) -> None:
    torch.set_num_threads(1)
    out = options.out
    made = tiny.Made(out / "library" / "checkpoint", out / "library" / "vlm", out / "library" / "tokenizer")
    if not made.checkpoint.is_dir():
        tiny.make("pi0", out / "library", options.seed, changes=SMALL)
    else:
        stand_ins.install()
    with tiny.tiny_sizes(made):
        _learn(options, made)


def _learn(options: Options, made: tiny.Made) -> None:
    out, python = options.out, options.env_python
    if not (out / "adopted").is_dir():
        adopt(made.checkpoint, tiny.SPECIFICATION, tiny.TASK, made.tokenizer, out / "adopted")
    if not (out / "cloned").is_dir():
        clone(
            options.data,
            out / "cloned",
            start=out / "adopted",
            steps=options.clone_steps,
            batch=options.clone_batch,
            learning_rate=options.learning_rate,
            seed=options.seed,
        )
    if not (out / "cloned" / "evaluations.json").is_file():
        evaluate(out / "cloned", variant="hard", env_python=python)
    if has_state(out / "online" / "states"):
        train(out / "online", resume=True, episodes=options.episodes, env_python=python)
    else:
        train(
            out / "online",
            options.recipe,
            options.data,
            out / "cloned",
            episodes=options.episodes,
            seed=options.seed,
            env_python=python,
        )
    evaluate(out / "online", env_python=python)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
