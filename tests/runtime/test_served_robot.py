"""The whole loop: a robot works, its learner learns from that, and what it learned drives the arm, all processes real."""

from __future__ import annotations

from pathlib import Path

import msgspec
import yaml

from link_run import CONFIG, free_address
from poco.learner.metrics import EpisodeFigures, read_figures
from poco.learner.publications import read_publications
from poco.learner.recipe import read_training_settings
from poco.runtime.gate import read_verdicts
from poco.runtime.run_folder import Fault, GenerationMoved, RunFolder
from programs import ARTIFACT, Program

HOST = "127.0.44.9"
RECIPE = CONFIG.parent / "cpu" / "peg_in_hole.yaml"


def test_what_was_learned_drives_the_arm(tmp_path: Path) -> None:
    """A generation learned from the robot's own episodes becomes active; the learner hears of the episodes it drove."""
    tree = msgspec.to_builtins(read_training_settings(RECIPE))
    changes = {"warm_up_steps": 0, "batch": 8, "bf16_sampling": "off", "publish": {"updates": 5, "interval_s": 0.0}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({**tree, **changes}))
    trust = Program("poco-trust", "init", "--folder", tmp_path / "trust", folder=tmp_path)
    assert trust.wait() == 0, trust.err
    address, out, run = free_address(HOST), tmp_path / "served", tmp_path / "run"
    files = ("--config", tmp_path / "recipe.yaml", "--out", out, "--signing-key", tmp_path / "trust" / "learner.key")
    learner = Program("poco-learner", "serve", "--artifact", ARTIFACT, *files, "--bind", address, folder=tmp_path)
    trial = ("--swap.shadow_chunks", "2", "--swap.baseline_episodes", "0", "--swap.probation_episodes", "1")
    pace = ("--emulator.pacing", "lockstep", *trial)
    where = ("--robot.host", HOST, "--link", address, "--swap.trust", tmp_path / "trust" / "robot", "--out", run)
    robot = Program("poco-runtime", "--policy", ARTIFACT, *where, *pace, "--episodes", "1000", folder=tmp_path)
    try:
        learner.until(lambda: any(one.origin and one.origin.generation > 1 for one in figures(out)))
        robot.until(lambda: any(one.after == "active" for one in moves(run)))
    finally:
        robot.end()
        learner.end()
    assert learner.process.returncode == 0, learner.err
    active = next(one.generation for one in moves(run) if one.after == "active")
    assert active in [one.generation for one in read_publications(out)]
    assert {one.reason for one in read_verdicts(tmp_path / "store-fr3")} == {""}
    assert not [event for event in RunFolder.open(run).events() if isinstance(event, Fault)]
    assert [one.origin.episode for one in figures(out) if one.origin] == list(range(len(figures(out))))


def figures(out: Path) -> list[EpisodeFigures]:
    """What the learner noted of the episodes so far."""
    return read_figures(out) if (out / "metrics.jsonl").exists() else []


def moves(run: Path) -> list[GenerationMoved]:
    """What became of the generations that came to the robot."""
    if not (run / "run.json").exists():
        return []
    return [event for event in RunFolder.open(run).events() if isinstance(event, GenerationMoved)]
