"""Whatever is wrong before motion, poco-runtime says it in one sentence with the documented exit code, and leaves nothing."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from poco.errors import (
    AddressError,
    ArmError,
    ArtifactError,
    CameraError,
    PocoError,
    RealtimeError,
    SettingsError,
    UsageError,
)
from poco.runtime import record
from poco.runtime.cli import EPILOG, main, parse
from poco.runtime.run_flags import options_of
from poco.runtime.run_options import OPERATOR
from programs import ARTIFACT, ROOT, Program, is_sentence, shared_memory

CONFIG = ROOT / "configs" / "fr3_peg_in_hole.yaml"
POLICY = ["--policy", str(ARTIFACT)]
NOBODY = ["--robot", "franka", "--robot.host", "127.0.2.20", "--sensors", "emulator://127.0.2.20"]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work where a run folder by mistake does no harm; give signals back to the test runner."""
    monkeypatch.chdir(tmp_path)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run poco-runtime's main function in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["poco-runtime", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def own_runs() -> set[str]:
    """Return the names in shared memory of runs that this process began: tests beside this one have runs of their own."""
    return {name for name in shared_memory() if name.partition(".")[0].endswith(f"-{os.getpid()}")}


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ([], UsageError, "--policy"),
        ([*POLICY, "--epsiodes", "3"], UsageError, "did you mean --episodes?"),
        ([*POLICY, "--robot", "panda"], UsageError, "panda"),
        ([*POLICY, "--robot.hots", "127.0.0.1"], UsageError, "did you mean --robot.host?"),
        ([*POLICY, "--robot.host"], UsageError, "--robot.host needs a value"),
        ([*POLICY, "stray"], UsageError, "unknown word stray"),
        (["recrod", "--task", "peg_in_hole"], UsageError, "unknown command recrod; did you mean record?"),
        ([*POLICY, "--keys", "keys"], UsageError, "--keys is keys, but there is no link that they are for"),
        ([*POLICY, "--sensors", "tracker"], SettingsError, "task.sensors is 'tracker', known are emulator://"),
        ([*POLICY, "--sensors", "none"], SettingsError, "task.sensors is none, but the target is observed"),
        (
            [*POLICY, *NOBODY, "--task.sensors", "none"],
            SettingsError,
            "task.sensors is none, but the target is observed",
        ),
        (
            ["--policy", "operator", "--sensors", "none"],
            SettingsError,
            "task.sensors is none, but the target is observed",
        ),
        (
            [*POLICY, "--inference.backend", "gpu"],
            SettingsError,
            "inference.backend is 'gpu', must be one of onnxruntime-cpu",
        ),
        ([*POLICY, "--inference.weights", "compiled"], UsageError, "--swap.trust"),
        ([*POLICY, "--episodes", "0"], UsageError, "--episodes is 0, must lie in 1 to 100000"),
        ([*POLICY, "--episodes", "many"], UsageError, "many"),
        ([*POLICY, "--speed", "1.5"], UsageError, "--speed is 1.5, must lie in 0.05 to 1"),
        ([*POLICY, "--speed", "nan"], UsageError, "--speed is nan"),
        ([*POLICY, "--seed", "-1"], UsageError, "--seed is -1"),
        ([*POLICY, *NOBODY, "--robot.automatic_recovery", "true"], UsageError, "--recover"),
        ([*POLICY, "--robot", "franka"], UsageError, "--sensors"),
        (["--policy", "operator", "--robot", "franka"], UsageError, "--sensors"),
        ([*POLICY, "--keep-minutes", "0"], UsageError, "--keep-minutes is 0, must lie in 1 to 10000"),
        ([*POLICY, "--config", "absent.yaml"], SettingsError, "absent.yaml does not exist"),
        ([*POLICY, "--servo.hold_timeout_s", "-1"], SettingsError, "hold_timeout_s"),
        ([*POLICY, "--servo.hold_timeout_s", "[1"], SettingsError, "is not YAML"),
        (["--policy", "absent"], ArtifactError, "absent"),
        ([*POLICY, "--hands", "spacemouse"], UsageError, "SpaceMouse"),
        (
            [*POLICY, "--swap.trust", "nowhere"],
            ArtifactError,
            "nowhere/root.pub does not exist: make it with poco-trust",
        ),
    ],
)
def test_mistakes(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: list[str],
    error: type[PocoError],
    words: str,
) -> None:
    """Wrong flags, values, files: one sentence with the value and what to do, nothing started, nothing written."""
    before = own_runs()
    assert run(monkeypatch, *arguments) == error.exit_code
    said = capsys.readouterr()
    assert is_sentence(said.err), said.err
    assert words in said.err
    assert said.out == ""
    assert list(tmp_path.iterdir()) == []
    assert own_runs() <= before


def test_help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """--help returns 0, shows examples and every exit code; the examples are accepted as they stand."""
    assert run(monkeypatch, "--help") == 0
    shown = capsys.readouterr().out
    assert EPILOG in shown
    examples = [shlex.split(line)[1:] for line in EPILOG.splitlines() if line.startswith("  poco-runtime --")]
    assert len(examples) >= 3
    for words in examples:
        assert options_of(*parse(words)).policy.endswith(("artifacts/peg_in_hole", "runs/smolvla", OPERATOR))


def test_help_of_record(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """record --help shows examples, which are accepted as they stand, given the files they name."""
    assert run(monkeypatch, "record", "--help") == 0
    assert record.EPILOG in capsys.readouterr().out
    shutil.copy(CONFIG.parent / "peg_in_hole_specification.yaml", tmp_path / "my_task.yaml")
    lines = record.EPILOG.replace("\\\n", " ").splitlines()
    examples = [line.split()[2:] for line in lines if line.startswith("  poco-runtime record --")]
    assert len(examples) >= 3
    for words in examples:
        hands = record.options_of(words).hands
        assert hands is not None
        assert hands.device == (words[words.index("--hands") + 1] if "--hands" in words else "keyboard")


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ([], UsageError, "--task is missing"),
        (["--task", "absent.yaml"], SettingsError, "absent.yaml does not exist"),
        (["--task", "peg_in_hole", "--hands", "feet"], UsageError, "feet"),
        (["--task", "peg_in_hole", "--gain", "0"], UsageError, "--gain is 0"),
        (
            ["--task", "peg_in_hole", "--hands", "scripted", "--noise", "2"],
            UsageError,
            "noise is 2.0, must lie in 0 to 1",
        ),
        (["--task", "peg_in_hole", "--hands", "scripted", "--bias-m", "1"], UsageError, "bias is 1.0 m, must lie in 0"),
        (["--task", "cube", "--hands", "scripted"], UsageError, "cube has a gripper: choose another task"),
        (
            ["--task", "cube", "--hands", "guiding", "--robot.control", "joint_impedance"],
            UsageError,
            "--emulator.task cube",
        ),
        (["--task", "peg_in_hole", "--episode-s", "-1"], UsageError, "--episode-s is -1"),
        (["--task", "peg_in_hole", "--hands", "keyboard"], UsageError, "start it in a terminal"),
        (["--task", "peg_in_hole", "--hands", "gamepad"], UsageError, "gamepad"),
        (["--task", "peg_in_hole", "--hands", "spacemouse"], UsageError, "SpaceMouse"),
        (["--task", "peg_in_hole", "--see", "near"], UsageError, "--image-side is missing"),
        (["--task", "peg_in_hole", "--image-side", "4"], UsageError, "must lie in 8 to 512"),
        (["--task", "peg_in_hole", "--image-side", "64", "--see", "near", "near"], UsageError, "each once"),
        (["--task", "peg_in_hole", "--image-side", "64", "--see", "far"], CameraError, "the settings have near, wrist"),
        (["--task", "peg_in_hole", "--image-side", "128"], SettingsError, "shows 64 x 64 pixels"),
        (
            ["--task", "peg_in_hole", "--image-side", "64", "--episode-s", "600"],
            UsageError,
            "choose --episode-s 406 or less",
        ),
    ],
)
def test_mistakes_in_recording(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: list[str],
    error: type[PocoError],
    words: str,
) -> None:
    """Wrong flags, files and devices of record: one sentence with the value and what to do, nothing started or written."""
    with open(os.devnull) as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        assert run(monkeypatch, "record", *arguments) == error.exit_code
    said = capsys.readouterr()
    assert is_sentence(said.err), said.err
    assert words in said.err
    assert list(tmp_path.iterdir()) == []


def test_unknown_key_in_the_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A misspelt key in the settings file is named with the nearest known one."""
    tree = yaml.safe_load(CONFIG.read_text())
    tree["guards"]["speed_max_ms"] = tree["guards"].pop("speed_max_m_s")
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(tree))
    assert run(monkeypatch, *POLICY, "--config", "settings.yaml") == SettingsError.exit_code
    said = capsys.readouterr().err
    assert is_sentence(said)
    assert "unknown key guards.speed_max_ms; did you mean speed_max_m_s?" in said


@pytest.mark.parametrize("name", ["manifest.json", "policy.onnx", "trained.safetensors", "golden.safetensors"])
def test_corrupted_artifact(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    """One flipped byte in any file of the artifact is found before anything starts."""
    shutil.copytree(ARTIFACT, tmp_path / "damaged")
    file = tmp_path / "damaged" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    assert run(monkeypatch, "--policy", "damaged") == ArtifactError.exit_code
    assert is_sentence(capsys.readouterr().err)
    assert [path.name for path in tmp_path.iterdir()] == ["damaged"]


def test_run_folder_cannot_be_made(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A run folder below a file, or one that holds a run already, is refused."""
    (tmp_path / "file").touch()
    assert run(monkeypatch, *POLICY, "--out", "file/run") == UsageError.exit_code
    assert is_sentence(capsys.readouterr().err)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").touch()
    assert run(monkeypatch, *POLICY, "--out", "run") == UsageError.exit_code
    assert "already holds a run" in capsys.readouterr().err


def test_nobody_at_the_address(tmp_path: Path) -> None:
    """`--robot franka` towards an address without an arm: one sentence, the code of the arm, no shared memory left, and the same
    folder may be named again."""
    program = Program("poco-runtime", *POLICY, "--out", tmp_path / "run", *NOBODY, folder=tmp_path)
    assert program.wait() == ArmError.exit_code
    assert is_sentence(program.err), program.err
    assert "no arm answers at 127.0.2.20" in program.err
    assert not any(name.endswith(f"-{program.process.pid}") for name in shared_memory())
    assert not (tmp_path / "run" / "run.json").exists()
    again = Program("poco-runtime", *POLICY, "--out", tmp_path / "run", *NOBODY, folder=tmp_path)
    assert (again.wait(), again.err) == (ArmError.exit_code, program.err)


def test_address_in_use(tmp_path: Path) -> None:
    """`--robot sim` on an address where somebody listens: the emulator's sentence and the code of the address."""
    host = "127.0.2.21"
    with socket.create_server((host, 1337)):
        program = Program("poco-runtime", *POLICY, "--out", tmp_path / "run", "--robot.host", host, folder=tmp_path)
        assert program.wait() == AddressError.exit_code
    assert is_sentence(program.err), program.err
    assert host in program.err
    assert "--robot.host" in program.err


def test_real_time_rights_required(tmp_path: Path) -> None:
    """Where real-time rights are required and may not be had, nothing moves and the sentence says what is missing."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("needs root and setpriv to take the rights away from one process")
    run_folder, host = tmp_path / "run", "127.0.2.22"
    command = ["setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice", "prlimit", "--rtprio=0:0"]
    command += [str(Path(sys.executable).with_name("poco-runtime")), *POLICY, "--out", str(run_folder)]
    command += ["--robot.host", host, "--robot.realtime.required", "true"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == RealtimeError.exit_code, done.stderr
    assert is_sentence(done.stderr), done.stderr
    assert "priority" in done.stderr.lower() or "fifo" in done.stderr.lower()
    assert not (run_folder / "ticks.bin").exists()
