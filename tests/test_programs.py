"""The programs of learner and exporter explain themselves quickly and fail with one sentence and a documented exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from poco.export.cli import main as export
from poco.learner.cli import main as learner

PROGRAMS = {"poco-learner": learner, "poco-export": export}


def run(monkeypatch: pytest.MonkeyPatch, program: str, *arguments: str) -> int:
    """Run the main function of `program` in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    try:
        PROGRAMS[program]()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.mark.parametrize(
    ("program", "commands"),
    [("poco-learner", ("make-data", "clone", "evaluate")), ("poco-export", ("policy", "wrap"))],
)
def test_help_names_every_command_with_an_example(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], program: str, commands: tuple[str, ...]
) -> None:
    """--help of the program shows a call of each command; each command explains its flags."""
    assert run(monkeypatch, program, "--help") == 0
    shown = capsys.readouterr().out
    for command in commands:
        assert f"  {program} {command} " in shown
        assert run(monkeypatch, program, command, "--help") == 0
        assert "--out" in capsys.readouterr().out or command == "evaluate"


def test_importing_the_programs_is_light() -> None:
    """Help does not wait for torch, onnx or gymnasium."""
    program = (
        "import sys, poco.learner.cli, poco.export.cli;"
        "print(sorted({'torch', 'onnx', 'onnxruntime', 'gymnasium', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("program", "arguments", "exit_code", "sentence"),
    [
        ("poco-learner", ("clone", "--data", "absent", "--out", "o"), 4, "error: no episode files"),
        ("poco-learner", ("evaluate", "--checkpoint", "absent"), 4, "error: no checkpoint at absent"),
        ("poco-learner", ("make-data", "--out", "o", "--task", "Absent-v0"), 2, "cannot be made"),
        ("poco-learner", ("make-data", "--out", "o", "--noise", "2"), 2, "operator noise is 2.0"),
        ("poco-learner", ("make-data", "--out", "o", "--episodes", "0"), 2, "error: --episodes is 0"),
        ("poco-export", ("policy", "absent", "--out", "o"), 4, "error: no checkpoint at absent"),
        ("poco-export", ("policy", "absent", "--output", "o"), 2, "--out"),
        ("poco-export", ("wrap", "absent.onnx", "--spec", "absent.yaml", "--out", "o"), 3, "absent.yaml"),
    ],
)
def test_mistakes_give_one_sentence_and_their_exit_code(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    program: str,
    arguments: tuple[str, ...],
    exit_code: int,
    sentence: str,
) -> None:
    """Missing files, impossible values, an unknown task and a wrong flag: nothing is written."""
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, program, *arguments) == exit_code
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("words", "manifest"),
    [
        (("policy", "absent"), "manifest.json"),
        (("wrap", "absent.onnx", "--spec", "absent.yaml"), "manifest.json"),
        (("vla", "absent", "--specification", "absent.yaml"), "manifest.json"),
        (("learned", "absent", "--base", "absent"), "manifest.json"),
        (("groot-head", "absent", "--base", "absent"), "head.json"),
    ],
)
def test_an_artifact_is_not_exported_over(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    manifest: str,
) -> None:
    """What lies in --out is left alone and named before anything else is looked at."""
    (tmp_path / manifest).write_text("precious")
    assert run(monkeypatch, "poco-export", *words, "--out", str(tmp_path)) == 2
    assert f"error: {tmp_path} already holds an artifact: choose another --out" in capsys.readouterr().err
    assert [item.read_text() for item in tmp_path.iterdir()] == ["precious"]
