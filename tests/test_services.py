"""The services of systemd: their files are valid and call the programs rightly; signs of life follow only answered ticks."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from poco.runtime.servo import NEVER
from poco.service_manager import SHARE_OF_WATCHDOG, ServiceManager
from programs import ARTIFACT, ROOT, Program

UNITS = sorted((ROOT / "services").glob("*.service"))
WATCHDOG_S = 0.4
HOST = "127.0.23.1"


class Listener:
    """A service manager's socket at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)

    def heard(self) -> list[str]:
        """Everything that has come since the last call."""
        messages: list[str] = []
        while True:
            try:
                messages.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return messages

    def close(self) -> None:
        self._socket.close()


def command_of(unit: Path) -> list[str]:
    text = unit.read_text().replace("\\\n", " ")
    found = re.search(r"^ExecStart=(.+)$", text, re.MULTILINE)
    assert found is not None
    return found[1].split()


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_every_flag_of_a_unit_is_one_of_the_program(unit: Path) -> None:
    """The command of a unit names an existing program and flags that its help knows, and its README every variable."""
    program, *words = command_of(unit)
    line = [str(Path(sys.executable).parent / Path(program).name), *(w for w in words[:1] if not w.startswith("-"))]
    help_text = subprocess.run([*line, "--help"], capture_output=True, text=True, check=True).stdout
    settings = ("--robot.host",)
    for flag in (word for word in words if word.startswith("--")):
        assert flag in help_text or flag in settings, flag
    readme = (ROOT / "services" / "README.md").read_text()
    for name in re.findall(r"\$\{(\w+)\}", " ".join(words)):
        assert f"{name}=" in readme, name


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_takes_the_unit(unit: Path, tmp_path: Path) -> None:
    """systemd's own check has nothing against the file."""
    check = shutil.which("systemd-analyze")
    if check is None:
        pytest.skip("systemd-analyze is not installed")
    text = unit.read_text().replace("/opt/poco/.venv/bin", str(Path(sys.executable).parent))
    copy = tmp_path / unit.name
    copy.write_text(text)
    found = subprocess.run([check, "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False)
    ours = [line for line in found.stderr.splitlines() if unit.name in line]
    assert (found.returncode, ours) == (0, []), found.stderr


def settings_of(unit: str) -> dict[str, str]:
    """The settings of `unit` by name."""
    text = (ROOT / "services" / f"{unit}.service").read_text()
    return dict(line.split("=", 1) for line in text.splitlines() if re.match(r"[A-Z]\w+=", line))


def test_the_robots_unit_spares_the_servo_and_sets_no_limit_on_memory() -> None:
    """It grants what the servo asks for, goes on without a process that the kernel has ended, and nothing waits for memory."""
    settings = settings_of("poco-runtime")
    assert settings["OOMScoreAdjust"] == NEVER
    assert settings["OOMPolicy"] == "continue"
    assert not settings.keys() & {"MemoryMax", "MemoryHigh"}


def test_the_learners_unit_is_ended_first_and_comes_back() -> None:
    """It goes before what a person has open (a session's programs have 200 at most), whole, and resumes without a person."""
    settings = settings_of("poco-learner")
    assert 200 < int(settings["OOMScoreAdjust"]) < 1000
    assert (settings["OOMPolicy"], settings["Restart"]) == ("kill", "on-failure")
    assert "--resume" in command_of(ROOT / "services" / "poco-learner.service")


def test_what_a_manager_hears(tmp_path: Path) -> None:
    """Ready with its status, signs of life no more often than needed, stopping; nothing at all without a manager."""
    listener = Listener(tmp_path / "notify")
    try:
        manager = ServiceManager({"NOTIFY_SOCKET": str(listener.path), "WATCHDOG_USEC": "3600000000"})
        manager.ready("serving")
        for _ in range(5):
            manager.alive()
        manager.stopping()
        assert listener.heard() == ["READY=1\nSTATUS=serving", "WATCHDOG=1", "STOPPING=1"]
        nobody = ServiceManager({})
        nobody.ready("x")
        nobody.alive()
        no_watchdog = ServiceManager({"NOTIFY_SOCKET": str(listener.path)})
        no_watchdog.alive()
        assert listener.heard() == []
    finally:
        listener.close()
    manager.stopping()


def test_signs_of_life_follow_answered_ticks_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """A run says ready, gives signs of life while its servo answers, none while the servo stands still, and says goodbye."""
    listener = Listener(tmp_path / "notify")
    request.addfinalizer(listener.close)
    monkeypatch.setenv("NOTIFY_SOCKET", str(listener.path))
    monkeypatch.setenv("WATCHDOG_USEC", str(round(WATCHDOG_S * 1e6)))
    arguments: list[str | Path] = [
        "--robot",
        "sim",
        "--policy",
        ARTIFACT,
        "--episodes",
        "50",
        "--out",
        tmp_path / "run",
    ]
    run = Program("poco-runtime", *arguments, "--robot.host", HOST, folder=tmp_path)
    request.addfinalizer(run.end)
    messages: list[str] = []

    def hears(what: str) -> Callable[[], bool]:
        def look() -> bool:
            messages.extend(listener.heard())
            return any(message.startswith(what) for message in messages)

        return look

    run.until(hears("READY=1"))
    run.until(hears("WATCHDOG=1"))
    servo = run.children()["servo"]
    os.kill(servo, signal.SIGSTOP)
    time.sleep(2 * WATCHDOG_S)
    listener.heard()
    time.sleep(SHARE_OF_WATCHDOG * WATCHDOG_S)
    assert listener.heard() == []
    os.kill(servo, signal.SIGCONT)
    run.process.send_signal(signal.SIGTERM)
    run.wait()
    assert "STOPPING=1" in listener.heard()
