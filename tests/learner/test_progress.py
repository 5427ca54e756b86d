"""The bar of a long command stays one line."""

from __future__ import annotations

import pytest

from poco.learner.progress import track


@pytest.mark.parametrize("columns", [80, 120])
def test_numbers_are_whole_in_a_narrow_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Large counts, rate and remark are neither cut nor broken into two lines; the bar gives way."""
    monkeypatch.setenv("COLUMNS", str(columns))
    with track("behaviour cloning", 200_000, "steps") as advance:
        advance("loss 0.3200", 2350)
    last = capsys.readouterr().err.splitlines()
    assert len(last) == 1
    assert "2350/200000" in last[0]
    assert "loss 0.3200, left" in last[0]
    assert "…" not in last[0]
