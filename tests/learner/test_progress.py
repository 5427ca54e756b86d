"""The bar of a long command stays one line."""

from __future__ import annotations

from functools import partial
from itertools import count

import pytest
from rich.console import Console

from poco.learner import progress
from poco.learner.progress import track


@pytest.mark.parametrize("columns", [80, 120])
def test_numbers_are_whole_in_a_narrow_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Large counts, rate and remark are neither cut nor broken into two lines; the bar gives way."""
    monkeypatch.setenv("COLUMNS", str(columns))
    seconds = count()
    monkeypatch.setattr(progress, "Console", partial(Console, get_time=lambda: float(next(seconds))))
    with track("behaviour cloning", 200_000, "steps") as advance:
        for _ in range(10):
            advance("loss 0.3200", 235)
    last = capsys.readouterr().err.splitlines()
    assert len(last) == 1
    assert "2350/200000" in last[0]
    assert "steps/s" in last[0]
    assert "loss 0.3200, left" in last[0]
    assert "…" not in last[0]
