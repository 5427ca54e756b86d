"""What a critic expected is held against outcomes chunk by chunk."""

from __future__ import annotations

import numpy as np
import pytest

from poco.learner.critic_trust import discrimination, expectations
from poco.learner.metrics import EpisodeFigures


def episode(success: bool, *beliefs: float) -> EpisodeFigures:
    return EpisodeFigures(
        episode=1,
        steps=1,
        updates=0,
        phase="frozen",
        success=success,
        recent_success=0.0,
        verdict="go_on",
        diagnostics={},
        beliefs=list(beliefs),
    )


def test_a_critic_that_knows_a_guess_and_one_that_errs() -> None:
    """Expecting more of every success gives 1, the same of all 0.5, less 0; the two rates between follow from the pairs."""
    assert discrimination([episode(True, 0.6, 0.9), episode(False, 0.2, 0.1)]) == 1.0
    assert discrimination([episode(True, 0.5, 0.5), episode(False, 0.5, 0.5)]) == 0.5
    assert discrimination([episode(False, 0.6, 0.9), episode(True, 0.2, 0.1)]) == 0.0
    assert discrimination([episode(True, 0.6), episode(True, 0.1), episode(False, 0.3)]) == 0.5


def test_only_beliefs_at_the_same_chunk_are_compared() -> None:
    """A failure that goes on longer, with values that rise late, takes nothing from a critic right at every common chunk."""
    assert discrimination([episode(True, 0.3, 0.4), episode(False, 0.1, 0.2, 0.9, 0.9)]) == 1.0


def test_without_both_outcomes_nothing_can_be_said() -> None:
    """Only successes, only failures, no common chunk or no episode at all: no figure."""
    for figures in ([], [episode(True, 0.5)], [episode(False, 0.5)], [episode(True), episode(False, 0.5)]):
        assert discrimination(figures) is None


def test_expectations_average_the_episodes_that_lasted() -> None:
    """The mean at a chunk is over the episodes that reached it."""
    figures = [episode(True, 0.2, 0.4), episode(True, 0.4), episode(False, 0.1)]
    assert expectations(figures, True) == pytest.approx(np.array([0.3, 0.4]))
    assert expectations(figures, False) == pytest.approx(np.array([0.1]))
    assert len(expectations(figures[:2], False)) == 0
