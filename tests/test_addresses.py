"""Test files run beside one another, so no two of them may listen at the same loopback address."""

from __future__ import annotations

import re
from collections import defaultdict

from programs import ROOT

PROGRAMS_DEFAULTS = "127.0.0."
"""Addresses in settings, help and messages."""


def test_no_two_files_share_an_address() -> None:
    """Every loopback address that a test names, apart from the programs' own defaults, is named in one file only."""
    files = defaultdict[str, set[str]](set)
    for path in (ROOT / "tests").rglob("*.py"):
        for address in re.findall(r"\b127(?:\.\d+){3}\b", path.read_text()):
            files[address].add(str(path.relative_to(ROOT)))
    assert len(files) > 100
    shared = {address: sorted(names) for address, names in files.items() if len(names) > 1}
    assert [item for item in shared.items() if not item[0].startswith(PROGRAMS_DEFAULTS)] == []
