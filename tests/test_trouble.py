"""One table of modes and troubles: native code, Python enums and documentation agree."""

from __future__ import annotations

from pathlib import Path

import pytest

from poco import _core, trouble
from poco.records import EVENT_CODES

ROOT = Path(__file__).resolve().parents[1]


def test_modes_mirror_the_native_table() -> None:
    """The enum of modes has the codes and names of the native one."""
    assert [(mode.value, mode.name.lower()) for mode in trouble.Mode] == [row[:2] for row in _core.mode_table()]


def test_codes_rise_with_the_grade_and_fit_the_counters() -> None:
    """Codes count up from 1, grades never fall, and every code has its counter."""
    grades = [row.grade for row in trouble.TROUBLES.values()]
    assert list(trouble.TROUBLES) == list(range(1, len(grades) + 1))
    assert grades == sorted(grades, key=list(trouble.Grade).index)
    assert len(grades) < EVENT_CODES


def test_the_documentation_contains_the_table() -> None:
    """docs/servo.md holds exactly what `python -m poco.trouble` prints."""
    assert trouble.markdown() in (ROOT / "docs" / "servo.md").read_text()


def test_describe_is_one_sentence_with_a_remedy() -> None:
    """Meaning and remedy appear; an unknown code is an error, not a guess."""
    row = trouble.BY_NAME["arm_error"]
    assert row.meaning in trouble.describe(row.code)
    assert row.remedy in trouble.describe(row.code)
    assert trouble.describe(0) == "no trouble"
    with pytest.raises(KeyError):
        trouble.describe(99)
