"""How far to trust the critic: what it expected of an episode before it learned from it, against how that episode ended."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from poco.learner.metrics import EpisodeFigures

Floats = npt.NDArray[np.float64]


def discrimination(figures: Sequence[EpisodeFigures]) -> float | None:
    """Return how often the critic expected more of an episode that succeeded than of one that failed, or None without both.

    Only beliefs at the same chunk of the two episodes are compared, so that the time gone by tells nothing; ties count half. 1 is
    perfect, 0.5 a guess. It is the area under the receiver operating curve, stratified by chunk.
    """
    successes, failures = _beliefs(figures, True), _beliefs(figures, False)
    wins, pairs = 0.0, 0
    for high, low in zip(successes.T, failures.T, strict=False):
        difference = high[~np.isnan(high)][:, None] - low[~np.isnan(low)]
        wins += float((difference > 0.0).sum()) + 0.5 * float((difference == 0.0).sum())
        pairs += difference.size
    return wins / pairs if pairs else None


def expectations(figures: Sequence[EpisodeFigures], success: bool) -> Floats:
    """Return the mean belief at chunk 0, 1, 2 ... of the episodes that ended in `success`, [chunks]; empty if there are none."""
    beliefs = _beliefs(figures, success)
    present = ~np.isnan(beliefs)
    return np.asarray(np.where(present, beliefs, 0.0).sum(0) / present.sum(0))


def _beliefs(figures: Sequence[EpisodeFigures], success: bool) -> Floats:
    """Beliefs of the episodes with this outcome, one row each, NaN behind their ends."""
    rows = [one.beliefs for one in figures if one.success == success]
    table = np.full((len(rows), max(map(len, rows), default=0)), np.nan)
    for row, beliefs in zip(table, rows, strict=True):
        row[: len(beliefs)] = beliefs
    return table
