"""Ranks of a data-parallel learner, started by torchrun, take the very step that one takes alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from learning_toys import small_agent
from reach_task import SPECIFICATION

TESTS = Path(__file__).parents[1]
PROGRAM = Path(__file__).with_name("rank_program.py")


def run(ranks: int, folder: Path) -> None:
    words = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", str(PROGRAM), str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *words], env=environment, check=True, capture_output=True, timeout=240)


def test_two_ranks_on_halves_equal_one_on_the_whole(tmp_path: Path) -> None:
    """After critic-only, cloning and POCO updates all weights agree to 1e-5; poison on one rank is refused by both."""
    for ranks in (1, 2):
        run(ranks, tmp_path)
    one, first, second = (load_file(tmp_path / f"{name}.safetensors") for name in ("0-of-1", "0-of-2", "1-of-2"))
    assert len(one) > 15
    assert one["refused"] == first["refused"] == second["refused"] == 1.0
    for key, value in one.items():
        assert torch.equal(first[key], second[key]), key
        assert float((value - first[key]).abs().max()) < 1e-5, key
    for key, value in small_agent(SPECIFICATION).critic.state_dict(prefix="critic.").items():
        assert key in ("critic.mean", "critic.std") or float((value - one[key]).abs().max()) > 1e-3
