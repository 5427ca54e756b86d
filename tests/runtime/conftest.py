"""The programs that the tests of whole runs start; each is ended after its test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gripper_stage import Stage
from programs import ARTIFACT, Program, StartProgram


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartProgram]:
    """Start a program of poco with arguments; it is ended after the test."""
    running: list[Program] = []

    def start(name: str, *arguments: str | Path) -> Program:
        running.append(Program(name, *arguments, folder=tmp_path / f"program{len(running)}"))
        return running[-1]

    yield start
    for program in running:
        program.end()


@pytest.fixture
def run(start: StartProgram, tmp_path: Path) -> StartProgram:
    """Start a run of the committed policy on the emulated arm at a host, its folder tmp_path/run."""

    def run(host: str, *arguments: str) -> Program:
        flags = ["--policy", ARTIFACT, "--out", tmp_path / "run", "--robot.host", host]
        return start("poco-runtime", *flags, *arguments)

    return run


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    """Make the stage at a host; its processes are ended after the test."""
    made: list[Stage] = []

    def make(host: str, **overrides: str) -> Stage:
        made.append(Stage(tmp_path / str(len(made)), host, **overrides))
        return made[-1]

    yield make
    for each in made:
        each.close()
