"""Numbers that the commands of `poco-learner` cannot work with are refused at once, and nothing is made or written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from poco.errors import UsageError
from poco.learner.cloning_commands import clone
from poco.learner.data_commands import make_data
from poco.learner.training_commands import compare, evaluate, train


@pytest.mark.parametrize(
    ("command", "wrong", "expected"),
    [
        (clone, {"steps": 0}, "--steps is 0, must be at least 1"),
        (clone, {"batch": 0}, "--batch is 0, must be at least 1"),
        (clone, {"hidden_sizes": (64, 0)}, "--hidden-sizes is 0, must be at least 1"),
        (clone, {"width": -1}, "--width is -1, must be at least 1"),
        (clone, {"learning_rate": -1.0}, "--learning-rate is -1, must be above 0 and at most 1"),
        (clone, {"learning_rate": float("nan")}, "--learning-rate is nan, must be above 0 and at most 1"),
        (clone, {"seed": -1}, "--seed is -1, must be at least 0"),
        (train, {"seed": -1}, "--seed is -1, must be at least 0"),
        (train, {"workers": -5}, "--workers is -5, must be at least 0"),
        (make_data, {"seed": -1}, "--seed is -1, must be at least 0"),
    ],
)
def test_a_wrong_number_is_one_sentence(
    command: Callable[..., None], wrong: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    """Flag, value and limit are named before data are read or a folder is made."""
    given = {"data": tmp_path / "data"} if command is clone else {}
    with pytest.raises(UsageError, match=expected):
        command(out=tmp_path / "out", **given, **wrong)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_seed_of_a_measurement(tmp_path: Path) -> None:
    """The same for seeds of evaluations and comparisons."""
    with pytest.raises(UsageError, match="--seed is -1, must be at least 0"):
        evaluate(tmp_path, seed=-1)
    with pytest.raises(UsageError, match="--seeds is -1, must be at least 0"):
        compare(tmp_path / "out", (tmp_path / "recipe.yaml",), seeds=(0, -1))
    assert list(tmp_path.iterdir()) == []
