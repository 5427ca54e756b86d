"""`poco-learner make-data`: demonstrations of a scripted operator."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from poco.errors import UsageError
from poco.learner.training_commands import Variant, at_least_one, named_environment, read_recipe


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
    resume: bool = False,
) -> None:
    """Record demonstrations of the scripted operator, one episode file each.

    Args:
        out: Empty or new folder for the episode files.
        episodes: Number of episodes to run.
        noise: Trembling of the operator's hand, as a fraction of the action bound.
        bias_m: How far (m) the operator misjudges the position of hole or cube.
        config: Training recipe that names task and environment.
        task: Gymnasium name of the environment.
        variant: Which difficulty of the task (peg-in-hole: easy if nothing else says so).
        seed: First seed; episode e is reset with seed + e.
        only_successes: Leave out episodes that failed.
        resume: Go on behind the last episode that is in --out.
    """
    from poco.learner import rollouts
    from poco.learner.demonstrations import EPISODE_SUFFIX
    from poco.learner.progress import track

    at_least_one("episodes", episodes)
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not resume)):
        raise UsageError(f"{out} is not an empty folder: give --resume, choose another --out or remove it")
    name, parameters = named_environment(None if config is None else read_recipe(config), task, variant)
    environment = rollouts.make_environment(name, **parameters)
    specification = rollouts.specification_of(environment)
    actor = rollouts.operator_actor(environment, noise, bias_m, seed)
    there = sorted(int(file.stem) for file in out.glob(f"*{EPISODE_SUFFIX}"))
    first = there[-1] + 1 - seed if there else 0
    successes = written = 0
    with track("demonstrations", episodes - first, "episodes") as advance:
        for rolled in rollouts.roll(environment, actor, range(first, episodes), seed):
            successes += rolled.success
            if rolled.success or not only_successes:
                rollouts.record(rolled, specification, out)
                written += 1
            advance(f"{successes} succeeded")
    measured = asdict(rollouts.wilson(successes, episodes - first)) if episodes > first else {}
    print(json.dumps({"out": str(out), "written": written, **measured}))
