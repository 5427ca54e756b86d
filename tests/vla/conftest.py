"""Checkpoints and artifacts of tiny policies, made once a session; without LeRobot there is nothing to collect here."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from poco.artifact import Artifact
from vla import stand_ins
from vla.tiny import Made, make
from vla.tiny_artifact import export, options_of

stand_ins.install()
KINDS = ("smolvla", "pi0", "pi05")

Checkpoints = Callable[[str], Made]
Artifacts = Callable[[str], Artifact]


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    """Make the checkpoint of a type, once."""

    @cache
    def made(kind: str) -> Made:
        return make(kind, tmp_path_factory.mktemp(kind))

    return made


@pytest.fixture(scope="session")
def artifacts(checkpoints: Checkpoints, tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    """Export the checkpoint of a type, once."""

    @cache
    def exported(kind: str) -> Artifact:
        made = checkpoints(kind)
        out: Path = tmp_path_factory.mktemp("artifacts") / kind
        return export(made, options_of(made, out))

    return exported
