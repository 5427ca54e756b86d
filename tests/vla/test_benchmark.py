"""`poco-bench vla --library`: LeRobot's call of the same policy alternates with ours, in processes of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from poco.errors import PocoError
from poco.runtime.bench import run
from poco.runtime.benchmarks.outcome import OutcomeReport
from vla import tiny
from vla.conftest import Artifacts, Checkpoints

ROOT = Path(__file__).parents[2]
EAGER, SERVER = (ROOT / "bench" / name for name in ("vla_eager.py", "lerobot_async.py"))


def words(artifact: Path, checkpoint: Path, out: Path, program: Path = EAGER) -> list[str]:
    library = f"{sys.executable} {program} {checkpoint} --tiny"
    flags = ["--calls", "3", "--repeats", "2", "--frame", "64", "48", "--out", str(out)]
    return ["vla", "--policy", str(artifact), "--task", tiny.TASK, "--library", library, *flags]


@pytest.mark.parametrize(("program", "how"), [(EAGER, "eager"), (SERVER, "over gRPC")])
def test_the_library_is_measured_beside_us(
    program: Path,
    how: str,
    artifacts: Artifacts,
    checkpoints: Checkpoints,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every call of ours has one of LeRobot's, whose golden chunks are ours; its model is timed within the whole. It is called
    eagerly, or by its own client of its own server."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"), prepend=os.pathsep)
    run(words(artifacts("pi0").path, checkpoints("pi0").checkpoint, tmp_path, program), Console())
    report = msgspec.json.decode((tmp_path / "vla.json").read_bytes(), type=OutcomeReport)
    theirs = {"library", "library_sample_actions"}
    assert all(report.subjects[name].samples == [3, 3] for name in theirs | {"end_to_end", "prefix_and_steps"})
    assert report.figures["library.p50"] > report.figures["library_sample_actions.p50"] > 0.0
    assert {"end_to_end/library.p50", "prefix_and_steps/library_sample_actions.p99"} <= set(report.figures)
    assert report.figures["library_peak_memory_mb"] > 100
    assert "lerobot 0." in report.notes[-1]
    assert how in report.notes[-1]


def test_another_checkpoint_is_refused(
    artifacts: Artifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A checkpoint that the artifact was not exported from is no reference, and nothing is measured."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"), prepend=os.pathsep)
    other = tiny.make("pi0", tmp_path / "other", seed=1)
    with pytest.raises(PocoError, match="ended with exit code 4"):
        run(words(artifacts("pi0").path, other.checkpoint, tmp_path), Console())
    assert "give the checkpoint that it was exported from" in capfd.readouterr().err
    assert not (tmp_path / "vla.json").exists()
