"""The specification that is committed for policies that take images whole says what the environment with cameras does."""

from __future__ import annotations

import ctypes.util
from pathlib import Path

import pytest

from poco.learner.rollouts import make_environment, specification_of
from poco.specification import read_specification

SPECIFICATION = Path(__file__).parents[2] / "configs" / "peg_in_hole_seen_specification.yaml"


@pytest.mark.skipif(
    ctypes.util.find_library("EGL") is None and ctypes.util.find_library("OSMesa") is None,
    reason="neither libegl1 nor libosmesa6 is installed",
)
def test_it_is_that_of_the_environment() -> None:
    """An adopted policy that sees, trained for the file, fits the task as it is seen."""
    environment = make_environment("poco.hw.emulator.tasks:poco/PegInHole-v0", variant="hard", image_side=64)
    try:
        assert specification_of(environment) == read_specification(SPECIFICATION)
    finally:
        environment.close()
