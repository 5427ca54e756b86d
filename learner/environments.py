"""Environments as a command asks for them: in this process, in one of its own, or several at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from poco.learner.environment_process import EnvironmentProcess, Parameters
from poco.learner.rollouts import Environment, make_environment


@contextlib.contextmanager
def one_environment(task: str, parameters: Parameters, logs: Path, python: Path | None) -> Iterator[Environment]:
    """Make the environment in this process, or by `python` in one of its own, and close it in the end."""
    environment = (
        make_environment(task, **parameters)
        if python is None
        else EnvironmentProcess(task, parameters, logs / "0.log", python)
    )
    try:
        yield environment
    finally:
        environment.close()


@contextlib.contextmanager
def environment_processes(
    count: int, task: str, parameters: Parameters, logs: Path, python: Path | None
) -> Iterator[list[EnvironmentProcess]]:
    """Start `count` environments in processes of their own and end them in the end."""
    with contextlib.ExitStack() as stack:
        processes = []
        for number in range(1, count + 1):
            process = EnvironmentProcess(task, parameters, logs / f"{number}.log", python)
            processes.append(process)
            stack.callback(process.close)
        yield processes
