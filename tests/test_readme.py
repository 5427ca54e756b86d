"""What README.md says about exit codes and targets is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from poco.errors import PocoError

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
ERRORS = [kind for kind in PocoError.__subclasses__() if kind.__module__ == PocoError.__module__]


def test_exit_codes() -> None:
    """The table holds every error once, with its exit code and its docstring."""
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \| (.+) \|$", README, re.MULTILINE)
    assert rows[0][:2] == (str(PocoError.exit_code), "PocoError")
    assert rows[1:] == [(str(kind.exit_code), kind.__name__, (kind.__doc__ or "").strip()) for kind in ERRORS]


def test_exit_codes_are_told_apart() -> None:
    """No two errors share an exit code, and none takes one that shells use."""
    codes = [PocoError.exit_code, *(kind.exit_code for kind in ERRORS)]
    assert len(codes) == len(set(codes))
    assert all(0 < code < 126 for code in codes)


def test_every_program_says_what_130_is() -> None:
    """Help that tells of exit code 130 names both of what gives it, as the README does."""
    packages = [folder.resolve() for folder in (ROOT / "src" / "poco").iterdir()]
    files = [README, *(file.read_text() for package in packages for file in package.rglob("*.py"))]
    told = [words for text in files for words in re.findall(r"\b130\b[^.\n]*Ctrl-C[^.\n]*", text)]
    assert len(told) >= 6
    assert [words for words in told if "Ctrl-C or SIGTERM" not in words] == []


def test_links_lead_somewhere() -> None:
    """Every link inside the repository names a file, or a heading of the README, that is there."""
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lower()).replace(" ", "-")
        for line in re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    }
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert len(links) > 5
    for link in links:
        assert (link[1:] in headings) if link.startswith("#") else (ROOT / link).is_file(), link


def test_make_targets_exist() -> None:
    """Every target that the README shows as a command is one of the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"^make ([a-z-]+)", README, re.MULTILINE))
    named |= set(re.findall(r"`make (?:[A-Z_]+=\S+ )?([a-z-]+)`", README))
    assert {"demo", "demo-policy", "help"} <= named <= targets
