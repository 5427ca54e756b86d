"""A recipe says how many updates belong to the control steps so far."""

from __future__ import annotations

import pytest

from recipes import reach_recipe


@pytest.mark.parametrize(("warm_up_ratio", "expected"), [(None, (10, 15, 20)), (3.0, (60, 90, 95)), (0.0, (0, 0, 5))])
def test_updates_due_in_and_after_the_warm_up(warm_up_ratio: float | None, expected: tuple[int, ...]) -> None:
    """The warm-up of 30 steps has a ratio of its own if one is given; afterwards updates_per_step counts."""
    recipe = reach_recipe(warm_up_updates_per_step=warm_up_ratio)
    assert tuple(recipe.updates_due(steps) for steps in (20, 30, 40)) == expected
