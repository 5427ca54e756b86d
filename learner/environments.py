"""Environments as a command asks for them: in this process, in one of its own, or several at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from poco.errors import UsageError
from poco.learner.encoder import Encoder
from poco.learner.environment_process import EnvironmentProcess, Parameters
from poco.learner.rollouts import Environment, make_environment, shown_by
from poco.learner.sight import FrozenEyes, Seeing


@contextlib.contextmanager
def one_environment(
    task: str, parameters: Parameters, logs: Path, python: Path | None, encoder: Encoder | None = None
) -> Iterator[Environment]:
    """Make the environment in this process, or by `python` in one of its own, and close it in the end.

    With `encoder` it is what a policy that sees needs. Raises UsageError where images have no encoder or an encoder no images.
    """
    environment: Environment
    if python is None:
        environment = make_environment(task, **parameters)
    else:
        environment = EnvironmentProcess(task, parameters, logs / "0.log", python)
    try:
        if encoder is not None:
            environment = _through(encoder, environment)
        elif shown_by(environment) is not None:
            raise UsageError(
                "the environment gives images, but no policy that sees is there: give a checkpoint that was cloned from images"
            )
        yield environment
    finally:
        environment.close()


def _through(encoder: Encoder, environment: Environment) -> Environment:
    """Return `environment` seen through `encoder`."""
    if not isinstance(environment, EnvironmentProcess):
        return Seeing(environment, encoder)
    environment.eyes = FrozenEyes(encoder, environment.specification, environment.shown)
    return environment


@contextlib.contextmanager
def environment_processes(
    count: int,
    task: str,
    parameters: Parameters,
    logs: Path,
    python: Path | None,
    encoder: Encoder | None = None,
) -> Iterator[list[EnvironmentProcess]]:
    """Start `count` environments in processes of their own and end them in the end; with `encoder`, seen through it."""
    with contextlib.ExitStack() as stack:
        processes = []
        for number in range(1, count + 1):
            process = EnvironmentProcess(task, parameters, logs / f"{number}.log", python)
            processes.append(process)
            stack.callback(process.close)
            if encoder is not None:
                _through(encoder, process)
        yield processes
