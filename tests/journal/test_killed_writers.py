"""Writers killed at random system calls: nothing acknowledged is lost, doubled or changed."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
KILLS = 500


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that ends a process at its k-th system call."""
    library = tmp_path_factory.mktemp("shim") / "kill_at.so"
    compiler = os.environ.get("CXX", "g++")
    command = [compiler, "-x", "c", "-shared", "-fPIC", "-O1", "-o", str(library), str(HERE / "kill_at.c"), "-ldl"]
    subprocess.run(command, check=True)
    return library


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory where there is one: what a killed process has written stays written on any filesystem."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as made:
        yield Path(made) / "log"


def kill(shim: Path, folder: Path, count: int, seed: int) -> dict[str, int]:
    """Fork and kill `count` writers; return what the program counted."""
    done = subprocess.run(
        [sys.executable, str(HERE / "killed_writers.py"), str(folder), str(count), str(seed)],
        env={**os.environ, "LD_PRELOAD": str(shim)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = ast.literal_eval(done.stdout)
    return found


def test_killed_writers(shim: Path, folder: Path) -> None:
    """500 writers of journal and inbox, killed before, in and after any call, among rotation, drops and trimming."""
    found = kill(shim, folder, KILLS, 0)
    assert found["kills"] == KILLS
    assert found["dropped"] > 0
    assert found["inbox entries"] > 100


@pytest.mark.proof
def test_ten_thousand_killed_writers(shim: Path, folder: Path) -> None:
    """The same POCO_COUNT (10,000) times from trial POCO_SEED on."""
    count, seed = int(os.environ.get("POCO_COUNT", "10000")), int(os.environ.get("POCO_SEED", "1000"))
    found = kill(shim, folder, count, seed)
    assert found["kills"] == count
    print(f"\n{found}: 0 acknowledged entries lost (at 95 %: fewer than {3 / count:.1e} of such kills lose one)")
